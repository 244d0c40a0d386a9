/** CLIP models that only look: loaded to reward or to recognise, never the encoder that is being trained. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type CLIPConfig, CLIPModel, CLIPTokenizer, clipPixels, findWeights, readJson } from '@rldf/models';
import { type Device, Parameters, readSafetensors, type Tensor, tensor } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { secondClipConfig } from './configs.js';
import { instrumentsFolder, loadInstrument } from './instruments.js';
import { listModels, tokenizerFolder } from './models.js';

type Triple = readonly [number, number, number];

export interface FrozenClip {
  clip: CLIPModel;
  tokenizer: CLIPTokenizer;
  /** Edge of the pictures that CLIP sees, in pixels. */
  imageSize: number;
  /** Mean and standard deviation of each channel in [0, 1], as the model's preprocessor has them. */
  imageMean: Triple;
  imageStd: Triple;
}

/**
 * A CLIP folder. Without a `preprocessor_config.json` pictures are shown to it in [-1, 1], or as `options` say.
 * @throws UserError naming a file that is missing or broken
 */
export function loadClipFolder(
  path: string,
  device: Device = 'cpu',
  options: { tokenizer?: string | undefined; mean?: Triple; std?: Triple } = {},
): FrozenClip & { parameters: Parameters } {
  const config = readJson(join(path, 'config.json')) as unknown as CLIPConfig;
  const preprocessorFile = join(path, 'preprocessor_config.json');
  const preprocessor = (existsSync(preprocessorFile) ? readJson(preprocessorFile) : {}) as {
    image_mean?: Triple;
    image_std?: Triple;
  };
  const file = findWeights(path, 'model.safetensors');
  const tensors = [...readSafetensors(file).tensors].filter(
    ([name]) => !name.endsWith('embeddings.position_ids'), // a constant that old files carry along
  );
  const parameters = Parameters.from(new Map(tensors), { dtype: 'float32', device, where: file });
  const clip = new CLIPModel(config, parameters.at(), file);
  parameters.assertAllUsed();
  const tokenizerFolder =
    options.tokenizer !== undefined
      ? options.tokenizer
      : existsSync(join(path, 'vocab.json')) || existsSync(join(path, 'tokenizer.json'))
        ? path
        : join(path, '..', 'tokenizer');
  return {
    clip,
    parameters,
    tokenizer: CLIPTokenizer.load(tokenizerFolder),
    imageSize: config.vision_config.image_size ?? 224,
    imageMean: preprocessor.image_mean ?? options.mean ?? [0.5, 0.5, 0.5],
    imageStd: preprocessor.image_std ?? options.std ?? [0.5, 0.5, 0.5],
  };
}

/** The folder of the built-in world's CLIP. @throws UserError when this copy of rldf has none */
export function worldClip(): string {
  const path = listModels().find(({ kind }) => kind === 'clip')?.path;
  if (path === undefined) {
    throw new UserError(
      'instrument clip: no CLIP model ships with this copy of rldf — give a folder of one, or pre-train it with `rldf pretrain clip`',
    );
  }
  return path;
}

/** The first CLIP, from which the training rewards start, or the second, from which only the unseen judge does. */
export function loadWorldClip(
  name: 'clip' | 'clip-2',
  folder = instrumentsFolder,
  device: Device = 'cpu',
): FrozenClip & { parameters: Parameters } {
  if (name === 'clip') return loadClipFolder(worldClip(), device);
  const tokenizer = CLIPTokenizer.load(tokenizerFolder);
  const parameters = loadInstrument(name, folder, device);
  const clip = new CLIPModel(secondClipConfig(tokenizer), parameters.at());
  parameters.assertAllUsed();
  const half = [0.5, 0.5, 0.5] as const;
  return { clip, parameters, tokenizer, imageSize: 64, imageMean: half, imageStd: half };
}

/** Token ids, [B, L]. */
export function idsOf({ tokenizer }: FrozenClip, prompts: readonly string[]): Tensor {
  return tensor(tokenizer.encode([...prompts]).ids, { dtype: 'int64' });
}

/** As CLIPImageProcessor shows pictures. [B,3,H,W] in [0, 1] -> [B,3,S,S] */
export function pixelsOf({ imageSize, imageMean, imageStd }: FrozenClip, images01: Tensor): Tensor {
  return clipPixels(images01, { size: imageSize, mean: imageMean, std: imageStd });
}
