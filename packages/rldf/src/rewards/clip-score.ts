/** CLIP score: 100 x the cosine between picture and prompt (Hessel et al. 2021, arXiv 2104.08718, without its rescaling). */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type CLIPConfig, CLIPModel, CLIPTokenizer, readJson } from '@rldf/models';
import { F, noGrad, Parameters, readSafetensors, scope, type Tensor, tensor } from '@rldf/torch';
import { UserError } from '../errors.js';
import { listModels } from '../models.js';
import type { Reward } from './reward.js';

type Triple = readonly [number, number, number];

export interface ClipScoreParts {
  /** A frozen copy: never the encoder that is being trained. */
  clip: CLIPModel;
  tokenizer: CLIPTokenizer;
  /** Edge of the pictures that CLIP sees, in pixels. */
  imageSize: number;
  /** Mean and standard deviation of each channel in [0, 1], as the model's preprocessor has them. */
  imageMean: Triple;
  imageStd: Triple;
}

export function clipScore({ clip, tokenizer, imageSize, imageMean, imageStd }: ClipScoreParts): Reward {
  const cosines = (images01: Tensor, prompts: readonly string[]) =>
    scope(() => {
      const pixels = preprocess(images01, imageSize, imageMean, imageStd); // [B, 3, S, S]
      const ids = tensor(tokenizer.encode([...prompts]).ids, { dtype: 'int64', device: images01.device }); // [B, L]
      const texts = noGrad(() => clip.encodeText(ids)); // [B, D]
      return clip.encodeImage(pixels).mul(texts).sum(1).mul(100); // [B]
    });
  return {
    name: 'clip-score',
    unit: '',
    score: ({ images, prompts }) =>
      noGrad(() => {
        const scores = scope(
          () => cosines(images.permute([0, 3, 1, 2]).to('float32').div(255), prompts), // [B, 3, H, W]
        );
        const values = Array.from(scores.toArray() as Float32Array);
        scores.free();
        return values;
      }),
    differentiable: cosines,
  };
}

/** Shorter edge to `size` (bicubic, antialiased), centre crop, normalise, as CLIPImageProcessor. [B,3,H,W] -> [B,3,S,S] */
function preprocess(images01: Tensor, size: number, mean: readonly number[], std: readonly number[]): Tensor {
  const [, , height, width] = images01.shape as [number, number, number, number];
  const scale = size / Math.min(height, width);
  const target: [number, number] = [Math.round(height * scale), Math.round(width * scale)];
  const resized =
    target[0] === height && target[1] === width
      ? images01
      : F.interpolateBicubic(images01, target, { antialias: true }).clamp(0, 1);
  const cropped = resized
    .narrow(2, Math.floor((target[0] - size) / 2), size)
    .narrow(3, Math.floor((target[1] - size) / 2), size);
  const asColumn = (values: readonly number[]) =>
    tensor([...values], { shape: [3, 1, 1], dtype: images01.dtype, device: images01.device });
  return cropped.sub(asColumn(mean)).div(asColumn(std));
}

/**
 * A CLIP folder, by default that of the built-in world, loaded again for this reward alone. Without a
 * `preprocessor_config.json` pictures are shown to it in [-1, 1].
 * @throws UserError when it is not there
 */
export function loadClipScore(folder?: string): Reward {
  const path = folder ?? listModels().find(({ kind }) => kind === 'clip')?.path;
  if (path === undefined) {
    throw new UserError(
      'reward clip-score: no CLIP model ships with this copy of rldf — choose another reward, or pre-train one with `rldf pretrain clip`',
    );
  }
  const config = readJson(join(path, 'config.json')) as unknown as CLIPConfig;
  const preprocessorFile = join(path, 'preprocessor_config.json');
  const preprocessor = (existsSync(preprocessorFile) ? readJson(preprocessorFile) : {}) as {
    image_mean?: Triple;
    image_std?: Triple;
  };
  const file = join(path, 'model.safetensors');
  const parameters = Parameters.from(readSafetensors(file).tensors, { dtype: 'float32', where: file });
  const clip = new CLIPModel(config, parameters.at(), file);
  parameters.assertAllUsed();
  const tokenizerFolder =
    existsSync(join(path, 'vocab.json')) || existsSync(join(path, 'tokenizer.json'))
      ? path
      : join(path, '..', 'tokenizer');
  return clipScore({
    clip,
    tokenizer: CLIPTokenizer.load(tokenizerFolder),
    imageSize: config.vision_config.image_size ?? 224,
    imageMean: preprocessor.image_mean ?? [0.5, 0.5, 0.5],
    imageStd: preprocessor.image_std ?? [0.5, 0.5, 0.5],
  });
}
