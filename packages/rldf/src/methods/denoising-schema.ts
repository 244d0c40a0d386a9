/** The recipes of the methods that learn from weighted pictures of their own: RWR, sparse RWR and RAFT. */

import { z } from 'zod';
import { type ArithmeticProblem, type BatchFields, batchProblems } from '../config/batch-arithmetic.js';
import { commonFields, count, fraction, positive, range } from '../config/fields.js';
import { exploreFields, networkFields, optimiserFields, policyEta, sampleFields } from './online-fields.js';

const { updatesPerEpoch, ...optimiser } = optimiserFields;

/** Of `train`, for all methods with a denoising loss. */
export const denoisingFields = {
  ...networkFields,
  ...optimiser,
  updatesPerEpoch: updatesPerEpoch
    .default(4)
    .describe('Number of optimiser steps in one pass over the images that are learned from.'),
  innerEpochs: count
    .default(4)
    .describe(
      'Number of passes over the images of an epoch, each with its own timesteps and noise. ' +
        'DDPO’s paper uses 5 for RWR and 50 for sparse RWR.',
    ),
  captionDropout: z
    .number()
    .min(0)
    .max(1)
    .default(0.1)
    .describe(
      'Fraction of captions, 0 to 1, that are replaced by the empty caption, which keeps ' +
        'classifier-free guidance working. Pre-training used 0.1.',
    ),
  timestepRange: range
    .default([0, 1])
    .describe(
      'Part of the noise schedule from which timesteps are drawn uniformly, as two ' +
        'fractions: 0 is a clean image, 1 is pure noise. Layout is decided at high noise, so ' +
        '[0.5, 1] learns relations from fewer updates. Pre-training and the papers use [0, 1].',
    ),
  lossGuidanceScale: z
    .number()
    .min(1)
    .max(100)
    .default(1)
    .describe(
      'Guidance scale inside the loss; 1 turns it off. It decides whether the loss is the ' +
        'error of the network’s own prediction or that of the guided prediction. Images are ' +
        'sampled with guidance: a loss without guidance makes the guidance stronger in each ' +
        'round, and a loss with all of it makes images smoother (docs/methods/rwr.md). The ' +
        'code of DDPO’s paper uses 5, as it does for sampling.',
    ),
};

const ownPictures = {
  ...commonFields,
  ...exploreFields,
  epochs: count
    .default(15)
    .describe(
      'Number of epochs. Each epoch samples images, scores them and learns from them. DDPO’s ' +
        'paper uses 10.',
    ),
  sample: z.strictObject({ ...sampleFields, eta: policyEta }).prefault({}),
};

export const rwrSchema = z.strictObject({
  method: z
    .literal('rwr')
    .describe('Reward-weighted regression (Lee et al. 2023, arXiv 2302.12192), as in DDPO’s paper.'),
  ...ownPictures,
  train: z
    .strictObject({
      ...denoisingFields,
      weights: z
        .enum(['exponential', 'sparse'])
        .default('exponential')
        .describe(
          'How rewards become weights. `exponential` is exp(r / temperature), with mean 1. ' +
            '`sparse` is 1 for the best images and 0 for the others.',
        ),
      over: z
        .enum(['epoch', 'prompt'])
        .default('epoch')
        .describe(
          'What an image is compared with: all images of the epoch (as in the paper), or ' +
            'those of its own prompt.',
        ),
      temperature: positive
        .default(0.2)
        .describe(
          'Temperature of exponential weights, in the unit of what is compared. A lower ' +
            'value follows the reward more strongly. The paper’s value is 5 (its β = 0.2 ' +
            'multiplies the reward).',
        ),
      standardise: z
        .boolean()
        .default(true)
        .describe(
          'Whether rewards are brought to mean 0 and standard deviation 1 among those they ' +
            'are compared with, so that one temperature fits all rewards. The paper does not ' +
            'do this.',
        ),
      topFraction: fraction
        .optional()
        .describe(
          'For sparse weights: the fraction of images that is kept, above 0 and at most 1. ' +
            'Ties are kept too. The paper uses 0.1.',
        ),
      threshold: z
        .number()
        .optional()
        .describe('For sparse weights, instead of `topFraction`: the smallest reward that is kept.'),
    })
    .prefault({}),
});

export const raftSchema = z.strictObject({
  method: z
    .literal('raft')
    .describe('RAFT (Dong et al. 2023, arXiv 2304.06767): training on the best images.'),
  ...ownPictures,
  train: z
    .strictObject({
      ...denoisingFields,
      best: count
        .default(1)
        .describe(
          'How many images of each prompt are learned from, out of ' +
            '`sample.picturesPerPrompt`. The paper uses 1.',
        ),
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
