/** The recipes of the methods that learn from weighted pictures of their own: RWR, sparse RWR and RAFT. */

import { z } from 'zod';
import { type ArithmeticProblem, type BatchFields, batchProblems } from '../config/batch-arithmetic.js';
import { commonFields, count, fraction, positive } from '../config/fields.js';
import { exploreFields, networkFields, optimiserFields, policyEta, sampleFields } from './online-fields.js';

const { updatesPerEpoch, ...optimiser } = optimiserFields;

/** Of `train`, for all methods with a denoising loss. */
export const denoisingFields = {
  ...networkFields,
  ...optimiser,
  updatesPerEpoch: updatesPerEpoch
    .default(4)
    .describe('optimiser steps in one pass over what is learned from'),
  innerEpochs: count
    .default(4)
    .describe(
      'passes over an epoch’s pictures, each with timesteps and noise of its own. Paper of DDPO: 5 for RWR, 50 for sparse RWR',
    ),
  captionDropout: z
    .number()
    .min(0)
    .max(1)
    .default(0.1)
    .describe(
      'share of captions replaced by the empty one, which keeps guidance alive, 0-1. Pre-training: 0.1',
    ),
  lossGuidanceScale: z
    .number()
    .min(1)
    .max(100)
    .default(1)
    .describe(
      'guidance inside the loss, 1 = off: whether it is the error of the network’s own answer, or of the guided one. Own pictures are drawn with guidance; a loss without it adds guidance to guidance in each round, one with all of it smooths (docs/methods/rwr.md). Code of DDPO’s paper: 5, as it draws',
    ),
};

const ownPictures = {
  ...commonFields,
  ...exploreFields,
  epochs: count
    .default(15)
    .describe('epochs; in each, pictures are drawn, scored and learned from. Paper of DDPO: 10'),
  sample: z.strictObject({ ...sampleFields, eta: policyEta }).prefault({}),
};

export const rwrSchema = z.strictObject({
  method: z
    .literal('rwr')
    .describe('reward-weighted regression (Lee et al. 2023, arXiv 2302.12192; as in DDPO’s paper)'),
  ...ownPictures,
  train: z
    .strictObject({
      ...denoisingFields,
      weights: z
        .enum(['exponential', 'sparse'])
        .default('exponential')
        .describe(
          'exponential: exp(r / temperature), of mean 1; sparse: 1 for the best pictures, 0 for the others',
        ),
      over: z
        .enum(['epoch', 'prompt'])
        .default('epoch')
        .describe('what a picture is compared with: all of the epoch (paper), or those of its own prompt'),
      temperature: positive
        .default(0.2)
        .describe(
          'of exponential weights, in the unit of what is compared: lower trusts the reward more. Paper: 5 (its β = 0.2 multiplies)',
        ),
      standardise: z
        .boolean()
        .default(true)
        .describe(
          'before weighing, rewards are brought to mean 0 and spread 1 among what they are compared with, so that one temperature fits all rewards. Paper: false',
        ),
      topFraction: fraction
        .optional()
        .describe(
          'of sparse weights: the share that is kept, above 0 up to 1; ties are kept too. Paper: 0.1',
        ),
      threshold: z.number().optional().describe('of sparse weights, instead: the least reward that is kept'),
    })
    .prefault({}),
});

export const raftSchema = z.strictObject({
  method: z
    .literal('raft')
    .describe('RAFT (Dong et al. 2023, arXiv 2304.06767): the best of each prompt’s pictures'),
  ...ownPictures,
  train: z
    .strictObject({
      ...denoisingFields,
      best: count
        .default(1)
        .describe('pictures of each prompt that are learned from, of sample.picturesPerPrompt. Paper: 1'),
    })
    .prefault({}),
});

export type RwrRecipe = z.output<typeof rwrSchema>;
export type RaftRecipe = z.output<typeof raftSchema>;

type Fields<R extends BatchFields> = Pick<R, 'epochs' | 'sample' | 'train'>;

export function rwrProblems(recipe: Fields<RwrRecipe>): ArithmeticProblem[] {
  const problems = batchProblems(recipe);
  const { weights, topFraction, threshold } = recipe.train;
  const given = [topFraction, threshold].filter((value) => value !== undefined).length;
  if (weights === 'sparse' && given !== 1) {
    problems.push({
      path: ['train'],
      message: `${given === 0 ? 'neither' : 'both'} of topFraction and threshold given — sparse weights need exactly one. Set train.topFraction: 0.1 (paper)`,
    });
  }
  if (weights === 'exponential' && given > 0) {
    problems.push({
      path: ['train', topFraction === undefined ? 'threshold' : 'topFraction'],
      message:
        'belongs to sparse weights, but weights are exponential — it would not be looked at. Set train.weights: sparse, or leave it out',
    });
  }
  return problems;
}

export function raftProblems(recipe: Fields<RaftRecipe>): ArithmeticProblem[] {
  const problems = batchProblems(recipe);
  const { sample, train } = recipe;
  if (train.best >= sample.picturesPerPrompt) {
    problems.push({
      path: ['train', 'best'],
      message: `${train.best} of ${sample.picturesPerPrompt} pictures a prompt — nothing would be left out, so nothing chosen. Set sample.picturesPerPrompt above train.best`,
    });
  } else if (sample.promptsPerEpoch * train.best < train.updatesPerEpoch) {
    problems.push({
      path: ['train', 'updatesPerEpoch'],
      message: `${train.updatesPerEpoch} updates of ${sample.promptsPerEpoch} prompts x ${train.best} best = ${sample.promptsPerEpoch * train.best} pictures — each needs one. Lower it`,
    });
  }
  return problems;
}
