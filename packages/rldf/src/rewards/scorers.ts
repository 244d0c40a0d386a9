/** The networks that judge pictures, as rewards: preference models in PickScore's and ImageReward's forms, LAION's aesthetic head. */

import { idsOf, loadWorldClip, pixelsOf } from '@rldf/common/instruments/frozen-clip';
import { instrumentFile, instrumentsFolder, loadInstrument } from '@rldf/common/instruments/instruments';
import {
  AestheticPredictor,
  type ImageRewardConfig,
  ImageRewardModel,
  TunedPreferenceModel,
} from '@rldf/models';
import { type Device, noGrad, readSafetensors, type Tensor } from '@rldf/torch';
import { rewardFromScores } from './from-scores.js';
import type { Reward } from './reward.js';

/** What each preference model starts from. */
export const preferenceBases = { preference: 'clip', 'judge-preference': 'clip-2' } as const;

/** `preference` may be a reward; `judge-preference` only evaluates: it shares nothing with the first. */
export function loadPreference(
  name: keyof typeof preferenceBases,
  folder = instrumentsFolder,
  device: Device = 'cpu',
): Reward {
  const frozen = loadWorldClip(preferenceBases[name], folder, device);
  const file = instrumentFile(name, folder);
  const { tensors } = readSafetensors(file);
  const model = noGrad(() => TunedPreferenceModel.load(frozen.clip, frozen.parameters, tensors, file));
  model.adapter.merge();
  const scores = (images01: Tensor, prompts: readonly string[]) => {
    const texts = noGrad(() => frozen.clip.encodeText(idsOf(frozen, prompts).to(images01.device)));
    return model.score(texts, pixelsOf(frozen, images01));
  };
  return rewardFromScores(name, '', scores, device, frozen.tokenizer);
}

/** The shipped scorer in ImageReward's form. */
export const imageRewardConfig: ImageRewardConfig = {
  hidden_size: 96,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  intermediate_size: 192,
};

export function loadImageReward(folder = instrumentsFolder, device: Device = 'cpu'): Reward {
  const frozen = loadWorldClip('clip', folder, device);
  const model = new ImageRewardModel(
    imageRewardConfig,
    frozen.clip,
    loadInstrument('image-reward', folder, device).at(),
  );
  const scores = (images01: Tensor, prompts: readonly string[]) =>
    model.forward(idsOf(frozen, prompts).to(images01.device), pixelsOf(frozen, images01));
  return rewardFromScores('image-reward', '', scores, device, frozen.tokenizer);
}

export function loadAesthetic(folder = instrumentsFolder, device: Device = 'cpu'): Reward {
  const frozen = loadWorldClip('clip', folder, device);
  const { clip } = frozen;
  const head = new AestheticPredictor(
    loadInstrument('aesthetic', folder, device).at(),
    clip.config.projection_dim ?? 512,
  );
  const scores = (images01: Tensor) => head.forward(clip.encodeImage(pixelsOf(frozen, images01)));
  return rewardFromScores('aesthetic', 'of 10', scores, device);
}
