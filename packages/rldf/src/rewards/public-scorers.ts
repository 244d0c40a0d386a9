/** Public scorers of photographs, from folders and files of the user's, as what a reward module exports. */

import { existsSync } from 'node:fs';
import { tensorOfPictures } from '@rldf/common/base/picture';
import { type FrozenClip, idsOf, loadClipFolder, pixelsOf } from '@rldf/common/instruments/frozen-clip';
import { AestheticPredictor, PreferenceModel } from '@rldf/models';
import { type Device, noGrad, Parameters, readSafetensors, type Tensor } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { rewardFromScores } from './from-scores.js';
import type { DifferentiableRewardFunction, RewardFunction } from './module.js';
import type { Reward } from './reward.js';

/** What a reward module exports. */
export interface RewardExports {
  reward: RewardFunction;
  differentiable: DifferentiableRewardFunction;
}

/**
 * PickScore (Kirstain et al. 2023, arXiv 2305.01569), HPSv2 (Wu et al. 2023, arXiv 2306.09341) or any other CLIP in
 * transformers' layout: the cosine of picture and prompt, times exp(logit_scale). Read when it is first asked.
 * @param scaled false: the cosine alone, as HPSv2 is given
 */
export function clipModelReward(folder: string, { scaled = true } = {}): RewardExports {
  return whenAsked((device) => {
    const frozen = clipFolder(folder, device);
    const preference = new PreferenceModel(frozen.clip);
    const scores = (images01: Tensor, prompts: readonly string[]) => {
      const texts = noGrad(() => frozen.clip.encodeText(idsOf(frozen, prompts).to(images01.device))); // [B, D]
      const logits = preference.score(texts, pixelsOf(frozen, images01)); // [B]
      return scaled ? logits : logits.div(frozen.clip.logitScale.exp());
    };
    return rewardFromScores(folder, '', scores, device);
  });
}

/**
 * LAION's aesthetic predictor (Schuhmann et al. 2022): an MLP without activations on the unit vectors of CLIP ViT-L/14.
 * @param clip that CLIP's folder
 * @param head the MLP's weights as safetensors, under their own names (`layers.0.weight`, ...)
 */
export function aestheticReward(clip: string, head: string): RewardExports {
  return whenAsked((device) => {
    const frozen = clipFolder(clip, device);
    if (!existsSync(head)) throw new UserError(`aesthetic: there is no file ${head} — ${where}`);
    const { tensors } = readSafetensors(head);
    const parameters = Parameters.from(tensors, { dtype: 'float32', device, where: head });
    const predictor = new AestheticPredictor(parameters.at(), frozen.clip.config.projection_dim ?? 512, {
      widths: [1024, 128, 64, 16],
      relu: false,
    });
    parameters.assertAllUsed();
    const scores = (images01: Tensor) =>
      predictor.forward(frozen.clip.encodeImage(pixelsOf(frozen, images01)));
    return rewardFromScores(head, 'of 10', scores, device);
  });
}

const where = 'recipes/stable-diffusion/README.md says where scorers come from';

function clipFolder(folder: string, device: Device): FrozenClip {
  if (existsSync(folder)) return loadClipFolder(folder, device);
  throw new UserError(`reward: there is no folder ${folder} — ${where}`);
}

/** A recipe is checked and planned without the scorer's weights. Where it computes, `RLDF_SCORER_DEVICE` says; else the CPU. */
function whenAsked(load: (device: Device) => Reward): RewardExports {
  let loaded: Reward | undefined;
  const scorer = () => {
    loaded ??= load((process.env.RLDF_SCORER_DEVICE ?? 'cpu') as Device);
    return loaded;
  };
  return {
    reward: async ({ images, prompts, meta }) => {
      const batch = tensorOfPictures(images);
      try {
        return await scorer().score({ images: batch, prompts, meta });
      } finally {
        batch.free();
      }
    },
    differentiable: (images01, prompts) => (scorer() as Required<Reward>).differentiable(images01, prompts),
  };
}
