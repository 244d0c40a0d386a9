/** DDPO's part of the recipe. */

import { z } from 'zod';
import { type ArithmeticProblem, type BatchFields, batchProblems } from '../config/batch-arithmetic.js';
import { commonFields, count, positive } from '../config/fields.js';
import {
  exploreFields,
  learnsWholly,
  networkFields,
  optimiserFields,
  policyEta,
  policyFields,
  policySchedulerField,
  sampleFields,
} from './online-fields.js';

export const ddpoSchema = z.strictObject({
  method: z.literal('ddpo').describe('DDPO (Black et al. 2023, arXiv 2305.13301).'),
  ...commonFields,
  ...exploreFields,
  epochs: count
    .default(15)
    .describe(
      'Number of epochs. Each epoch samples images, scores them and learns from them. The ' +
        'paper uses 50 to 200.',
    ),
  sample: z
    .strictObject({
      ...sampleFields,
      eta: policyEta,
      scheduler: policySchedulerField,
    })
    .prefault({}),
  train: z
    .strictObject({
      ...networkFields,
      ...optimiserFields,
      ...policyFields,
      klWeight: z
        .number()
        .min(0)
        .default(0)
        .describe(
          'Weight of the KL divergence from the policy before training, which is added to ' +
            'the loss at each step, in nats per latent element. 0, as in the paper, turns it ' +
            'off. Otherwise it costs one more pass without gradient.',
        ),
      estimator: z
        .enum(['is', 'sf'])
        .default('is')
        .describe(
          'The gradient estimator. `is` is importance sampling with a clip, `sf` is the ' +
            'score function (REINFORCE).',
        ),
      promptStatistics: z
        .strictObject({
          bufferSize: count
            .default(32)
            .describe('Number of rewards to remember for each prompt. The paper uses 16 to 32.'),
          minimumCount: count
            .default(16)
            .describe(
              'A prompt with fewer rewards than this is compared with the whole batch. The ' +
                'paper uses 16.',
            ),
        })
        .prefault({})
        .describe('What an image is compared with: the last rewards of its own prompt.'),
      advantageClip: positive
        .default(5)
        .describe('Advantages are cut off at this many standard deviations. The paper uses 5.'),
    })
    .prefault({}),
});

export type DdpoRecipe = z.infer<typeof ddpoSchema>;

/** Mistakes between fields. */
export function ddpoProblems(recipe: Pick<DdpoRecipe, 'epochs' | 'sample' | 'train'>): ArithmeticProblem[] {
  const problems = policyProblems(recipe);
  const { bufferSize, minimumCount } = recipe.train.promptStatistics;
  if (minimumCount > bufferSize) {
    problems.push({
      path: ['train', 'promptStatistics', 'minimumCount'],
      message: `${minimumCount} rewards are needed, but only bufferSize: ${bufferSize} are remembered — no prompt would ever be judged by its own. Set it to at most ${bufferSize}`,
    });
  }
  return problems;
}

/** Fields of `train` that every policy gradient has. */
interface PolicyFields {
  unet: string;
  textEncoder: string;
  textEncoder2?: string | undefined;
  estimator?: 'is' | 'sf';
  klWeight: number;
  clipNats?: number | undefined;
  clipMeanLogProb?: number | undefined;
}

/** Mistakes that any policy gradient can have. */
export function policyProblems(
  recipe: BatchFields & {
    sample: BatchFields['sample'] & { eta: number };
    train: BatchFields['train'] & PolicyFields;
  },
): ArithmeticProblem[] {
  const problems = batchProblems(recipe);
  const { sample, train } = recipe;
  if (sample.scheduler === 'euler-ancestral' && sample.eta !== 1) {
    problems.push({
      path: ['sample', 'eta'],
      message: `${sample.eta}, but only DDIM has an eta — ancestral Euler adds as much noise as DDIM with eta 1. Set sample.eta: 1, or sample.scheduler: ddim`,
    });
  }
  const given = [train.clipNats, train.clipMeanLogProb].filter((clip) => clip !== undefined).length;
  if (train.estimator !== 'sf' && given !== 1) {
    problems.push({
      path: ['train'],
      message: `${given === 0 ? 'neither' : 'both'} of clipNats and clipMeanLogProb given — the importance-sampling clip needs exactly one. Set train.clipNats: 1.5, or train.clipMeanLogProb: 1e-4 to copy the paper's code`,
    });
  }
  if (train.klWeight > 0 && learnsWholly(train)) {
    problems.push({
      path: ['train', 'klWeight'],
      message: `${train.klWeight}, but all weights of a network learn — the policy before is what is left without the adapters. Set unet and textEncoder to lora or none, or klWeight: 0`,
    });
  }
  return problems;
}
