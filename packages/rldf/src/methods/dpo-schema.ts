/** Diffusion-DPO's part of the recipe. */

import { z } from 'zod';
import { type ArithmeticProblem, batchProblems } from '../config/batch-arithmetic.js';
import { commonFields, count, positive } from '../config/fields.js';
import { denoisingFields } from './denoising-schema.js';
import { exploreFields, learnsWholly, policyEta, sampleFields } from './online-fields.js';

export const dpoSchema = z.strictObject({
  method: z
    .literal('dpo')
    .describe('Diffusion-DPO (Wallace et al. 2023, arXiv 2311.12908), with pairs ranked by the ' + 'reward.'),
  ...commonFields,
  ...exploreFields,
  epochs: count
    .default(15)
    .describe(
      'Number of epochs. Each epoch samples images, ranks them and learns from them. The ' +
        'paper uses one fixed set of ranked pairs.',
    ),
  sample: z.strictObject({ ...sampleFields, eta: policyEta }).prefault({}),
  train: z
    .strictObject({
      ...denoisingFields,
      captionDropout: denoisingFields.captionDropout
        .default(0)
        .describe(
          'Fraction of captions, 0 to 1, that are replaced by the empty caption. The paper’s ' +
            'code uses 0.',
        ),
      beta: positive
        .default(2000)
        .describe(
          'β, how strongly the model is kept near the reference: a factor of differences of ' +
            'mean squared errors. The paper uses 2000 for Stable Diffusion 1.5 and 5000 for ' +
            'SDXL.',
        ),
      pairs: z
        .enum(['extremes', 'all'])
        .default('extremes')
        .describe(
          'Which pairs are made of each prompt’s images. `extremes` pairs the best with the ' +
            'worst, `all` makes every pair of different rewards.',
        ),
    })
    .prefault({}),
});

export type DpoRecipe = z.output<typeof dpoSchema>;

export function dpoProblems(recipe: Pick<DpoRecipe, 'epochs' | 'sample' | 'train'>): ArithmeticProblem[] {
  const problems = batchProblems(recipe);
  const { sample, train } = recipe;
  if (sample.picturesPerPrompt < 2) {
    problems.push({
      path: ['sample', 'picturesPerPrompt'],
      message: 'one picture a prompt — a pair needs two. Set sample.picturesPerPrompt: 4',
    });
  } else if (train.updatesPerEpoch > pairsOf(recipe)) {
    problems.push({
      path: ['train', 'updatesPerEpoch'],
      message: `${train.updatesPerEpoch} updates of at most ${pairsOf(recipe)} pairs an epoch — each needs one. Lower it, or set train.pairs: all`,
    });
  }
  if (learnsWholly(train)) {
    problems.push({
      path: ['train'],
      message:
        'all weights of a network learn — the reference of DPO is what is left without the adapters. Set unet and textEncoder to lora or none',
    });
  }
  return problems;
}

/** Pairs of an epoch, at most: fewer where rewards are equal. */
export function pairsOf({ sample, train }: Pick<DpoRecipe, 'sample' | 'train'>): number {
  const { promptsPerEpoch: prompts, picturesPerPrompt: pictures } = sample;
  return train.pairs === 'all' ? (prompts * pictures * (pictures - 1)) / 2 : prompts;
}
