/** DPOK's part of the recipe. */

import { z } from 'zod';
import type { ArithmeticProblem } from '../config/batch-arithmetic.js';
import { commonFields, count, positive } from '../config/fields.js';
import { policyProblems } from './ddpo-schema.js';
import {
  exploreFields,
  networkFields,
  optimiserFields,
  policyEta,
  policyFields,
  sampleFields,
} from './online-fields.js';

export const dpokSchema = z.strictObject({
  method: z.literal('dpok').describe('DPOK (Fan et al. 2023, arXiv 2305.16381)'),
  ...commonFields,
  ...exploreFields,
  epochs: count.default(15).describe('epochs; in each, pictures are drawn, scored and learned from'),
  sample: z.strictObject({ ...sampleFields, eta: policyEta }).prefault({}),
  train: z
    .strictObject({
      ...networkFields,
      ...optimiserFields,
      ...policyFields,
      variant: z
        .enum(['paper', 'publicCode'])
        .default('paper')
        .describe(
          'paper: the exact KL, and a clip that is one-sided as PPO’s; publicCode: the squared difference of the predicted noise in its place, and a ratio that is only cut off',
        ),
      klWeight: z
        .number()
        .min(0)
        .default(0.01)
        .describe(
          'beta: weight of the KL from the policy that training began from, at each step. Public code: 0.01 (one prompt), 0.1 (several)',
        ),
      rewardWeight: positive
        .default(10)
        .describe(
          'alpha: factor on r - V in the policy’s loss; rewards in units of the first epoch’s spread, as ImageReward’s is about 1. Public code: 10 (one prompt), 1000 (several)',
        ),
      value: z
        .strictObject({
          learningRate: positive.max(1).default(1e-4).describe('AdamW step size. Public code: 1e-4'),
          updates: count
            .default(10)
            .describe('optimiser steps of V after each drawing. Public code: 1 of 5 batches'),
          batchSize: count.default(256).describe('transitions behind one of them. Public code: 256'),
          width: count.max(8192).default(256).describe('hidden units of its three layers. Public code: 256'),
        })
        .prefault({})
        .describe(
          'V(x_t, prompt, t), a network of its own that expects the reward and is subtracted from it',
        ),
    })
    .prefault({}),
});

export type DpokRecipe = z.infer<typeof dpokSchema>;

/** Mistakes between fields. */
export function dpokProblems(recipe: Pick<DpokRecipe, 'epochs' | 'sample' | 'train'>): ArithmeticProblem[] {
  return policyProblems(recipe);
}
