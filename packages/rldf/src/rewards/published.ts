/** Rewards that are published with weights of their own: ImageReward, HPSv2, PickScore, CLIP score, LAION's aesthetic score. */

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { WantedFiles } from '@rldf/common/hub/index';
import { idsOf } from '@rldf/common/instruments/frozen-clip';
import {
  AestheticPredictor,
  BertTokenizer,
  BlipImageReward,
  clipMean,
  clipPixels,
  clipStd,
  imageRewardConfigOf,
  readJson,
  widthsOf,
  withoutUnusedOfImageReward,
} from '@rldf/models';
import { type Device, noGrad, Parameters, scope, type Tensor, tensor } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import type { PublishedReward } from '../config/fields.js';
import { rewardFromScores } from './from-scores.js';
import { loadPublishedClip, type PublishedClip } from './published-clip.js';
import {
  bertOfBlip,
  clipOfAesthetic,
  ownFiles,
  publishedFiles,
  publishedWeights,
  sourcesOf,
  tinyWeights,
  wantedOfClip,
} from './published-names.js';
import type { Reward } from './reward.js';
import { fileIn, findPublished, readWeights } from './weights.js';

/**
 * Loads one from its weights.
 * @throws UserError that says what to download, or what is wrong with a file
 */
export function loadPublished(asked: PublishedReward, device: Device = 'cpu'): Reward {
  const spec = asked.weights === 'tiny' ? tinyWeights(asked.name) : asked;
  const where = `reward ${spec.name}:`;
  const [[given, wanted]] = sourcesOf(spec) as [[string, WantedFiles]];
  const source = publishedFiles[spec.name] ?? publishedWeights[spec.name];
  const path = findPublished(given, `${where} weights`, source, wanted);
  switch (spec.name) {
    case 'imagereward':
      return imageReward(path, spec, device);
    case 'laion-aesthetic':
      return laionAesthetic(path, spec, device);
    case 'hpsv2':
    case 'hpsv2.1': {
      const options = { ...spec, input: { resize: 'tensor', crop: 'even' } as const };
      return alignment(spec.name, loadPublishedClip(path, where, device, options, ownFiles[spec.name]), 1);
    }
    case 'pickscore': {
      const clip = loadPublishedClip(path, where, device, spec);
      return alignment(
        spec.name,
        clip,
        noGrad(() => clip.clip.logitScale.exp().item()),
      );
    }
    case 'clip-score':
      return alignment(spec.name, loadPublishedClip(path, where, device, spec), 100);
  }
}

/** A factor times the cosine of picture and prompt. */
export function alignment(name: string, loaded: PublishedClip, factor: number): Reward {
  const { clip, tokenizer } = loaded;
  const scores = (images01: Tensor, prompts: readonly string[], exact: boolean) => {
    const texts = noGrad(() => clip.encodeText(idsOf(loaded, prompts).to(images01.device))); // [B, D]
    return clip.encodeImage(loaded.pixels(images01, exact)).mul(texts).sum(1).mul(factor); // [B]
  };
  return rewardFromScores(name, '', scores, clip.logitScale.device, tokenizer);
}

function laionAesthetic(path: string, spec: PublishedReward, device: Device): Reward {
  const where = `reward ${spec.name}:`;
  const clipPath = findPublished(
    spec.clip ?? clipOfAesthetic,
    `${where} clip`,
    clipOfAesthetic,
    wantedOfClip(),
  );
  const loaded = loadPublishedClip(clipPath, where, device, spec);
  const names = ownFiles[spec.name];
  const file = fileIn(path, names);
  if (file === undefined)
    throw new UserError(`${where} ${path} holds no ${names.join(' and no ')} — give the file of the head as weights`); // biome-ignore format: one thought
  return aestheticOf(spec.name, loaded, file, device);
}

/** LAION's head on a CLIP's unit vectors. */
export function aestheticOf(name: string, loaded: PublishedClip, file: string, device: Device): Reward {
  const head = scope(() => {
    const state = readWeights(file);
    const parameters = Parameters.from(state, { dtype: 'float32', device, where: file });
    const options = { widths: widthsOf(state, 'layers.', file), relu: false };
    const predictor = new AestheticPredictor(
      parameters.at(),
      loaded.clip.config.projection_dim ?? 512,
      options,
    );
    parameters.assertAllUsed();
    return predictor;
  });
  const scores = (images01: Tensor, _: readonly string[], exact: boolean) =>
    head.forward(loaded.clip.encodeImage(loaded.pixels(images01, exact)));
  return rewardFromScores(name, 'of 10', scores, device);
}

/** Tokens that ImageReward reads of a prompt. */
const READS = 35;

function imageReward(path: string, spec: PublishedReward, device: Device): Reward {
  const where = `reward ${spec.name}:`;
  const names = ownFiles[spec.name];
  const file = fileIn(path, names);
  if (file === undefined)
    throw new UserError(`${where} ${path} holds no ${names.join(' and no ')} — give the file as weights`);
  const beside = dirname(file);
  const [, [given, wanted]] = sourcesOf({ ...spec, weights: file }) as [unknown, [string, WantedFiles]];
  const words = findPublished(given, `${where} tokenizer`, bertOfBlip, wanted);
  const tokenizer = BertTokenizer.load(words, READS);
  const settings = join(beside, 'med_config.json');
  const heads = existsSync(settings) ? Number(readJson(settings).num_attention_heads) : undefined;
  const { model, config } = scope(() => {
    const state = withoutUnusedOfImageReward(readWeights(file));
    const config = imageRewardConfigOf(state, file, heads === undefined ? {} : { text: heads });
    const parameters = Parameters.from(state, { dtype: 'float32', device, where: file });
    const model = new BlipImageReward(config, parameters.at());
    parameters.assertAllUsed();
    return { model, config };
  });
  const { vocab_size: vocabulary } = config.text_config;
  if (tokenizer.highestId >= vocabulary) {
    throw new UserError(
      `${where} the vocabulary of ${words} gives ids up to ${tokenizer.highestId}, the weights know ${vocabulary} words — they do not belong together. Use vocab.txt of bert-base-uncased`,
    );
  }
  const input = {
    size: config.vision_config.image_size,
    mean: clipMean,
    std: clipStd,
    crop: 'even',
  } as const;
  const scores = (images01: Tensor, prompts: readonly string[], exact: boolean) => {
    const ids = tensor(tokenizer.encode(prompts), { dtype: 'int64' }).to(images01.device); // [B, 35]
    return model.forward(ids, ids.ne(tokenizer.padId), clipPixels(images01, { ...input, exact }));
  };
  return rewardFromScores(spec.name, '', scores, device, tokenizer);
}
