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
  policySchedulerField,
  sampleFields,
} from './online-fields.js';

export const dpokSchema = z.strictObject({
  method: z.literal('dpok').describe('DPOK (Fan et al. 2023, arXiv 2305.16381).'),
  ...commonFields,
  ...exploreFields,
  epochs: count
    .default(15)
    .describe('Number of epochs. Each epoch samples images, scores them and learns from them.'),
  sample: z.strictObject({ ...sampleFields, eta: policyEta, scheduler: policySchedulerField }).prefault({}),
  train: z
    .strictObject({
      ...networkFields,
      ...optimiserFields,
      ...policyFields,
      variant: z
        .enum(['paper', 'publicCode'])
        .default('paper')
        .describe(
          'Which loss is used. `paper` has the exact KL divergence and the one-sided clip of ' +
            'PPO. `publicCode` has the squared difference of the predicted noise in place of ' +
            'the KL divergence, and a ratio that is clamped on both sides.',
        ),
      klWeight: z
        .number()
        .min(0)
        .default(0.01)
        .describe(
          'β, the weight of the KL divergence from the policy before training, at each step. ' +
            'The public code uses 0.01 for one prompt and 0.1 for several.',
        ),
      rewardWeight: positive
        .default(10)
        .describe(
          'α, the factor of r - V in the loss of the policy. Rewards are measured in units ' +
            'of the first epoch’s standard deviation; that of ImageReward is about 1. The ' +
            'public code uses 10 for one prompt and 1000 for several.',
        ),
      value: z
        .strictObject({
          learningRate: positive
            .max(1)
            .default(1e-4)
            .describe('Learning rate of AdamW for the value function. The public code uses 1e-4.'),
          updates: count
            .default(10)
            .describe(
              'Number of optimiser steps of the value function after each sampling. The ' +
                'public code makes 1, of 5 batches.',
            ),
          batchSize: count
            .default(256)
            .describe('Number of transitions in one of these steps. The public code uses 256.'),
          width: count
            .max(8192)
            .default(256)
            .describe('Number of hidden units in each of its three layers. The public code uses 256.'),
        })
        .prefault({})
        .describe(
          'The value function V(x_t, prompt, t): a network of its own that predicts the ' +
            'reward. Its prediction is subtracted from the reward.',
        ),
    })
    .prefault({}),
});

export type DpokRecipe = z.infer<typeof dpokSchema>;

/** Mistakes between fields. */
export function dpokProblems(recipe: Pick<DpokRecipe, 'epochs' | 'sample' | 'train'>): ArithmeticProblem[] {
  return policyProblems(recipe);
}
