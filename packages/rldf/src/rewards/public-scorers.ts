/** Public scorers of photographs, from folders and files of the user's, as what a reward module exports. */

import { existsSync } from 'node:fs';
import { tensorOfPictures } from '@rldf/common/base/picture';
import { type Device, noGrad } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import type { DifferentiableRewardFunction, RewardFunction } from './module.js';
import { aestheticOf, alignment } from './published.js';
import { loadPublishedClip, type PublishedClip } from './published-clip.js';
import { wantedOfClip } from './published-names.js';
import type { Reward } from './reward.js';
import { findWeights } from './weights.js';

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
    const clip = clipAt(folder, device);
    const factor = scaled ? noGrad(() => clip.clip.logitScale.exp().item()) : 1;
    return alignment(folder, clip, factor);
  });
}

/**
 * LAION's aesthetic predictor (Schuhmann et al. 2022): an MLP without activations on the unit vectors of CLIP ViT-L/14.
 * @param clip that CLIP, as `weights` in a recipe are given
 * @param head the MLP's weights: their own `.pth`, or safetensors under their own names (`layers.0.weight`, ...)
 */
export function aestheticReward(clip: string, head: string): RewardExports {
  return whenAsked((device) => {
    const loaded = clipAt(clip, device);
    if (!existsSync(head)) throw new UserError(`aesthetic: there is no file ${head} — ${where}`);
    return aestheticOf(head, loaded, head, device);
  });
}

const where = 'recipes/stable-diffusion/README.md says where scorers come from';

function clipAt(path: string, device: Device): PublishedClip {
  const found = findWeights(path, wantedOfClip());
  if (found === undefined) {
    throw new UserError(
      `reward: there is no folder ${path}, nor such a repository in Hugging Face’s cache — ${where}`,
    );
  }
  return loadPublishedClip(found, `reward ${path}:`, device, { unsaid: 'half' });
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
