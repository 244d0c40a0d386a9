// The smallest recipe of each method, and what it is given, for tests over all of them: a new method adds what its schema demands.
import { noGrad, scope, type Tensor } from '@rldf/torch';
import { checkRecipe } from '../recipe/load.js';
import type { Recipe } from '../recipe/recipe.js';
import type { TrainingContext } from '../run/training.js';

export const prompts = ['a cat', 'a dog', 'a cow'];
const policy = { train: { clipNats: 5 }, explore: { words: {}, guidance: { steps: 1 } } };

/** What each method's recipe needs beside the defaults below. */
const needs: Partial<Record<string, { sample?: object; train?: object; [key: string]: unknown }>> = {
  ddpo: policy,
  dpok: policy,
  alignprop: { train: { textEncoder: 'lora' }, explore: policy.explore },
  refl: { train: { lateSteps: 2, pretraining: { weight: 1, pictures: 3 } } },
  rwr: { explore: policy.explore },
  raft: { explore: policy.explore },
  dpo: { explore: policy.explore },
  'ip-rldf': { epochs: 1, relabel: false, rescale: 1 }, // nobody looks at the pictures
};

/** Three epochs of four pictures. */
export function minimalRecipe(method: string, more: object = {}): Recipe {
  const { sample, train, ...rest } = needs[method] ?? {};
  return checkRecipe({
    method,
    prompts,
    reward: 'aesthetic', // not loaded: the context scores
    epochs: 3,
    sample: { steps: 3, promptsPerEpoch: 2, picturesPerPrompt: 2, batchSize: 4, ...sample },
    train: { rank: 2, batchSize: 2, updatesPerEpoch: 2, learningRate: 0.01, ...train },
    ...rest,
    ...more,
  });
}

/** Of each picture, from 0 to 1. @param images uint8 [B, H, W, 3] */
export const brightnessOf = (images: Tensor): number[] =>
  scope(() =>
    noGrad(() =>
      images
        .to('float32')
        .reshape([images.shape[0] as number, -1])
        .mean(1)
        .div(255)
        .toNumbers(),
    ),
  );

/** Brightness, also as a function whose gradient can be followed. */
export const brightness: TrainingContext = {
  prompts: prompts.map((text) => ({ text, meta: null })),
  score: async (images) => {
    const total = brightnessOf(images);
    return { total, parts: { brightness: total } };
  },
  differentiable: (images01) => images01.mean([1, 2, 3]),
};
