/** Where a search's pictures come from: a pipeline of ours, or any server that speaks the OpenAI images protocol. */

import { type Picture, picturesOf } from '@rldf/common/base/picture';
import { describePromptNotices, promptNotices } from '@rldf/common/base/prompt-notices';
import { batchOfAll, generateShared } from '@rldf/common/workers/draw';
import type { Pipeline } from '@rldf/models';
import { free } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import sharp from 'sharp';

export interface PictureRequest {
  sentence: string;
  /** Whole number from 0; a source that takes none draws as it likes. */
  seed: number;
}

export interface ImageSource {
  /** Model and settings: pictures of sources of one name are interchangeable. */
  readonly name: string;
  /** How many pictures are best drawn at once. */
  readonly batchSize: number;
  /**
   * Pictures that a search asks for at once, neighbours with the one that it needs: `batchSize` by default, 1 draws nothing ahead.
   * The same with any number of workers, so that a search costs the same pictures.
   */
  readonly ahead?: number;
  /**
   * Draws all and hands over each as soon as it is there, so that those before a failure are not lost.
   * @param deliver is awaited; `index` counts in `requests`
   * @throws UserError when the source fails
   */
  draw(
    requests: readonly PictureRequest[],
    deliver: (index: number, picture: Picture) => void | Promise<void>,
    signal?: AbortSignal,
  ): Promise<void>;
}

export interface PipelineSourceOptions {
  /** Part of the source's name. */
  model: string;
  steps?: number;
  guidanceScale?: number;
  negativePrompt?: string;
  /** Default 16. */
  batchSize?: number;
  /** Told once of each sentence that the model does not see whole. */
  onNotice?: (line: string) => void;
  /** Asked before the first picture whether a batch can be drawn. */
  check?: (pictures: number, settings: { steps: number; guided: boolean }) => Promise<void>;
}

export function pipelineSource(pipeline: Pipeline, options: PipelineSourceOptions): ImageSource {
  const steps = options.steps ?? pipeline.defaults.steps ?? 30;
  const guidanceScale = options.guidanceScale ?? pipeline.defaults.guidanceScale ?? 7.5;
  const { model, negativePrompt, batchSize = 16, onNotice, check } = options;
  const told = new Set<string>();
  let checked = false;
  const against = negativePrompt === undefined ? '' : `, not "${negativePrompt}"`;
  return {
    name: `${model}, ${steps} steps, guidance ${guidanceScale}${against}`,
    batchSize: batchOfAll(pipeline, batchSize),
    ahead: batchSize,
    async draw(requests, deliver, signal) {
      if (!checked) await check?.(batchSize, { steps, guided: guidanceScale !== 1 });
      checked = true;
      const fresh = new Set(requests.map(({ sentence }) => sentence).filter((one) => !told.has(one)));
      for (const sentence of fresh) told.add(sentence);
      const notices = promptNotices(pipeline.tokenizer, fresh);
      for (const line of describePromptNotices(notices, pipeline.tokenizer.maxLength)) onNotice?.(line);
      const atOnce = batchOfAll(pipeline, batchSize);
      for (let start = 0; start < requests.length; start += atOnce) {
        const some = requests.slice(start, start + atOnce);
        const { images, latents } = await generateShared(pipeline, {
          prompts: some.map(({ sentence }) => sentence),
          seeds: some.map(({ seed }) => seed),
          negativePrompts: negativePrompt ?? null,
          steps,
          guidanceScale,
          ...(signal === undefined ? {} : { signal }),
        });
        const pictures = picturesOf(images);
        free([images, latents]);
        for (const [i, picture] of pictures.entries()) await deliver(start + i, picture);
      }
    },
  };
}

/** What a picture may be, so that it can be looked at in a square: known before a pixel is decoded. */
const least = 8;
const most = 2 ** 26;
const stretch = 16;

function checkSize(where: string, width: number, height: number): void {
  const [short, long] = [Math.min(width, height), Math.max(width, height)];
  if (short >= least && long <= stretch * short && width * height <= most) return;
  throw new UserError(
    `${where}: is ${width} x ${height} pixels — each side must have at least ${least}, none more than ${stretch} times the other, and both together at most ${most / 2 ** 20} million. Crop or scale it`,
  );
}

/** A picture file of any kind that sharp reads, as RGB and upright; alpha is laid on white. @throws UserError */
export async function readPicture(file: string | Uint8Array, where: string): Promise<Picture> {
  try {
    const { width, height } = await sharp(file, { limitInputPixels: false }).metadata();
    checkSize(where, width, height);
    const { data, info } = await sharp(file)
      .autoOrient() // cameras and phones store how they were held
      .flatten({ background: '#ffffff' })
      .toColourspace('srgb')
      .removeAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true });
    if (info.channels !== 3) throw new Error(`${info.channels} channels`);
    return { width: info.width, height: info.height, channels: 3, data: new Uint8Array(data) };
  } catch (error) {
    if (error instanceof UserError) throw error;
    const reason = (error as Error).message.split('\n')[0]!;
    throw new UserError(
      `${where}: cannot be read as a picture — ${/missing|no such/i.test(reason) ? 'there is no such file' : reason}. PNG, JPEG and WebP work`,
      { cause: error },
    );
  }
}

/** The picture at another size, its shorter edge fitted and the middle kept. */
export async function resizePicture(picture: Picture, width: number, height: number): Promise<Picture> {
  if (picture.width === width && picture.height === height) return picture;
  const { data } = await sharp(picture.data, {
    raw: { width: picture.width, height: picture.height, channels: 3 },
  })
    .resize(width, height, { fit: 'cover', kernel: 'lanczos3' })
    .raw()
    .toBuffer({ resolveWithObject: true });
  return { width, height, channels: 3, data: new Uint8Array(data) };
}
