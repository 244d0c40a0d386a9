import { UserError } from '@rldf/torch';
import type { Pipeline } from './pipeline.js';

/** Height and width of a picture in pixels. */
export type PictureSize = readonly [height: number, width: number];

/** [C, h, w] of one sample; width and height in pixels. */
export function latentShape(
  { vae, unet, size }: Pipeline,
  options: { width?: number; height?: number } = {},
): [number, number, number] {
  const own = [unet.config.sample_size ?? 64].flat().map((latents) => latents * vae.downFactor);
  const [rows, columns = rows] = (size ?? own) as [number, number?];
  const { height = rows, width = columns } = options;
  for (const [name, pixels] of Object.entries({ height, width })) {
    if (Number.isInteger(pixels) && pixels > 0 && pixels % vae.downFactor === 0) continue;
    throw new UserError(
      `${size === undefined || options[name as 'height' | 'width'] !== undefined ? 'generate' : 'size'}: ${name} is ${pixels} — must be a positive multiple of ${vae.downFactor}, the pixels per latent.`,
    );
  }
  return [unet.inChannels, height / vae.downFactor, width / vae.downFactor];
}

/** Numbers in a picture's latents. */
export const latentElements = (pipeline: Pipeline): number =>
  latentShape(pipeline).reduce((product, size) => product * size, 1);

/** Height and width of the pictures behind latents [C, h, w]. */
export function pixelsOf(
  { vae }: Pick<Pipeline, 'vae'>,
  [, rows, columns]: readonly [number, number, number],
): PictureSize {
  return [rows * vae.downFactor, columns * vae.downFactor];
}
