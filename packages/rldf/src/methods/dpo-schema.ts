/** Diffusion-DPO's part of the recipe. */

import { z } from 'zod';
import { type ArithmeticProblem, batchProblems } from '../config/batch-arithmetic.js';
import { commonFields, count, positive } from '../config/fields.js';
import { denoisingFields } from './denoising-schema.js';
import { exploreFields, policyEta, sampleFields } from './online-fields.js';

export const dpoSchema = z.strictObject({
  method: z
    .literal('dpo')
    .describe('Diffusion-DPO (Wallace et al. 2023, arXiv 2311.12908) on the reward’s ranking'),
  ...commonFields,
  ...exploreFields,
  epochs: count
    .default(15)
    .describe(
      'epochs; in each, pictures are drawn, ranked and learned from. Paper: one fixed set of ranked pairs',
    ),
  sample: z.strictObject({ ...sampleFields, eta: policyEta }).prefault({}),
  train: z
    .strictObject({
      ...denoisingFields,
      captionDropout: denoisingFields.captionDropout
        .default(0)
        .describe('share of captions replaced by the empty one, 0-1. Paper’s code: 0'),
      beta: positive
        .default(2000)
        .describe(
          'how dear it is to leave the base model: factor on differences of mean squared errors. Paper: 2000 (SD 1.5), 5000 (SDXL)',
        ),
      pairs: z
        .enum(['extremes', 'all'])
        .default('extremes')
        .describe(
          'of each prompt’s pictures: extremes: the best and the worst; all: every two of different reward',
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
  if (train.unet === 'full' || train.textEncoder === 'full') {
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
