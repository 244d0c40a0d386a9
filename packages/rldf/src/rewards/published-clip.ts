/** CLIP models of photographs, in the layouts they are published in: folders of transformers and of open_clip, and bare files. */

import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type FrozenClip, loadClipFolder } from '@rldf/common/instruments/frozen-clip';
import {
  CLIPModel,
  CLIPTokenizer,
  clipMean,
  clipPixels,
  clipStd,
  clipTokenizer,
  fromOpenClip,
  isOpenClip,
  type OpenClipConfig,
  openClipConfigOf,
  type PictureInput,
  readJson,
} from '@rldf/models';
import { type Device, Parameters, scope, type Tensor } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { clipFiles } from './published-names.js';
import { fileIn, readWeights } from './weights.js';

export interface PublishedClip extends FrozenClip {
  /** Pictures as its project shows them to it; `exact`: with bytes rounded where PIL rounds. [B, 3, H, W] in [0, 1] -> [B, 3, S, S] */
  pixels(images01: Tensor, exact: boolean): Tensor;
}

export interface ClipOptions {
  /** Folder of CLIP's tokenizer, if there is none beside the weights. */
  tokenizer?: string | undefined;
  /** Of the MLPs of a file without a config. */
  activation?: 'gelu' | 'quick_gelu' | undefined;
  /** As the project resizes pictures; otherwise as the layout's own code does. */
  input?: Pick<PictureInput, 'resize' | 'crop'>;
  /** Mean and deviation of a folder without preprocessor_config.json: CLIP's own by default, or 0.5 as of the built-in world's. */
  unsaid?: 'clip' | 'half';
}

/**
 * @param path a folder or a file
 * @param files names under which the weights may lie in a folder, besides those of open_clip
 * @throws UserError naming what is missing
 */
export function loadPublishedClip(
  path: string,
  where: string,
  device: Device,
  { tokenizer, activation, input = {}, unsaid = 'clip' }: ClipOptions = {},
  files: readonly string[] = [],
): PublishedClip {
  const folder = statSync(path).isDirectory() ? path : dirname(path);
  const configFile = join(folder, 'config.json');
  const isTransformers = folder === path && existsSync(configFile) && 'vision_config' in readJson(configFile);
  if (isTransformers) {
    const shown = unsaid === 'clip' ? { mean: clipMean, std: clipStd } : {};
    const frozen = loadClipFolder(path, device, { tokenizer, ...shown });
    return withPixels(frozen, { crop: 'floor', ...input });
  }
  const file = fileIn(path, [...files, ...clipFiles]);
  if (file === undefined) {
    throw new UserError(
      `${where}: ${path} holds neither transformers' config.json nor ${[...files, ...clipFiles].join(' nor ')} — one of these is needed. Give the folder or file of the weights`,
    );
  }
  const own = join(folder, 'open_clip_config.json');
  const { model_cfg: config, preprocess_cfg: shown } = (existsSync(own) ? readJson(own) : {}) as {
    model_cfg?: OpenClipConfig;
    preprocess_cfg?: { mean?: Triple; std?: Triple };
  };
  const { clip, parameters } = scope(() => {
    const state = readWeights(file);
    if (!isOpenClip(state)) {
      throw new UserError(
        `${file}: no tensor "visual.conv1.weight" — a file by itself is read under open_clip's names. For transformers' layout give the folder with config.json`,
      );
    }
    const settings = openClipConfigOf(state, file, config, activation);
    const parameters = Parameters.from(fromOpenClip(state, file), { dtype: 'float32', device, where: file });
    const clip = new CLIPModel(settings, parameters.at(), file);
    parameters.assertAllUsed();
    return { clip, parameters };
  });
  const frozen = {
    clip,
    parameters,
    tokenizer: clipTokenizerOf(where, tokenizer ?? folder, clip.config.text_config.vocab_size ?? 49408),
    imageSize: clip.config.vision_config.image_size ?? 224,
    imageMean: shown?.mean ?? clipMean,
    imageStd: shown?.std ?? clipStd,
  };
  return withPixels(frozen, { crop: 'even', ...input });
}

type Triple = readonly [number, number, number];

function withPixels(frozen: FrozenClip, input: Pick<PictureInput, 'resize' | 'crop'>): PublishedClip {
  const { imageSize: size, imageMean: mean, imageStd: std } = frozen;
  return {
    ...frozen,
    pixels: (images01, exact) => clipPixels(images01, { size, mean, std, exact, ...input }),
  };
}

/** The tokenizer of a folder, else CLIP's own, if the weights know as many words. */
function clipTokenizerOf(where: string, folder: string, words: number): CLIPTokenizer {
  if (existsSync(join(folder, 'tokenizer.json')) || existsSync(join(folder, 'vocab.json')))
    return CLIPTokenizer.load(folder);
  const own = clipTokenizer('<|endoftext|>');
  if (own.highestId === words - 1) return own;
  throw new UserError(
    `${where}: no tokenizer.json or vocab.json in ${folder}, and its weights know ${words} words, not CLIP’s ${own.highestId + 1} — they need a vocabulary of their own. Give its folder as tokenizer`,
  );
}
