/** IP-RLDF's part of the recipe. */

import { z } from 'zod';
import { UserError } from '../base/errors.js';
import type { ArithmeticProblem } from '../config/batch-arithmetic.js';
import { commonFields, count, fraction, promptsSchema } from '../config/fields.js';
import { instrumentCard, isDetector } from '../instruments/instruments.js';
import { denoisingFields } from './denoising-schema.js';
import { sampleFields } from './online-fields.js';

const { innerEpochs: _, ...denoising } = denoisingFields;

export const ipRldfSchema = z.strictObject({
  method: z
    .literal('ip-rldf')
    .describe('IP-RLDF (Ge et al. 2023, arXiv 2312.16204): iterative prompt relabelling'),
  ...commonFields,
  rounds: z
    .int()
    .min(0)
    .max(1000)
    .default(2)
    .describe(
      'each draws the self-training pictures anew and trains; 0 trains nothing (the paper’s Direct). Paper: 1 or 2',
    ),
  epochs: count.default(3).describe('passes over all pictures in each round. Paper: 3'),
  detector: z
    .string()
    .refine((name) => detectorProblem(name) === undefined, {
      error: ({ input }) => detectorProblem(String(input)) as string,
    })
    .optional()
    .describe(
      'the instrument that looks at the pictures; needed to relabel and to rescale. Pictures in which it finds nothing are dropped',
    ),
  grammar: z
    .string()
    .min(1)
    .default('spatial')
    .describe('in which words boxes are told: a file, or one of recipes/relabel'),
  relabel: z
    .boolean()
    .default(true)
    .describe(
      'whether pictures that do not show what their prompt asks for get a caption that is true of them (the paper’s P)',
    ),
  rescale: fraction
    .default(0.5)
    .describe(
      'weight of pictures that do not show what their original prompt asks for, also when relabelled; 1: as all others. Paper: 0.5',
    ),
  base: z
    .strictObject({
      prompts: promptsSchema,
      ratio: count.default(20).describe('base prompts for each self-training prompt. Paper: 20'),
    })
    .optional()
    .describe(
      'the anchor: pictures of other prompts, made once by the model as it was and trained on in every round',
    ),
  pictures: z
    .enum(['own', 'world', 'oracle'])
    .default('own')
    .describe(
      'own: drawn by the model. Two controls learn from as many rendered scenes of the built-in world instead: world from its mix with the careless captions of the pre-training, oracle from pairs of objects with true captions, the most that feedback could teach',
    ),
  sample: z
    .strictObject({
      ...sampleFields,
      promptsPerEpoch: count
        .default(100)
        .describe('self-training prompts N, the first of `prompts`. Paper: 100'),
      picturesPerPrompt: count.default(4).describe('pictures of each prompt in a round. Paper’s code: 4'),
      picturesPerStep: count
        .default(256)
        .describe('pictures drawn in one step of the run: it can be saved between two'),
      eta: z.number().min(0).max(1).default(0).describe('noise of the sampler; 0: as in evaluations'),
    })
    .prefault({}),
  train: z
    .strictObject({
      ...denoising,
      updatesPerEpoch: count
        .default(84)
        .describe(
          'optimiser steps in one pass over all pictures of a round. Paper’s code: 8 pictures each, 1,050',
        ),
      updatesPerStep: count.default(10).describe('optimiser steps in one step of the run'),
      roundDecay: fraction
        .default(0.5)
        .describe(
          'learning rate of a round relative to the round before, above 0 up to 1. Paper: falls, no number given',
        ),
    })
    .prefault({}),
});

export type IpRldfRecipe = z.output<typeof ipRldfSchema>;

/** Why an instrument cannot give feedback; undefined if it can. */
function detectorProblem(name: string): string | undefined {
  try {
    const card = instrumentCard(name);
    if (!isDetector(card)) return `is no detector but a ${card.class}. Set detector: detector`;
    if (card.role === 'feedback') return undefined;
    return 'is a judge: what is evaluated by it must not have trained on its boxes, or the evaluation would measure how well they were copied. Set detector: detector';
  } catch (error) {
    if (error instanceof UserError) return error.message;
    throw error;
  }
}

export type Sizes = Pick<IpRldfRecipe, 'epochs' | 'rounds' | 'base' | 'sample' | 'train'>;

/** Pictures of the self-training prompts, drawn in every round, and of the base prompts, drawn in the first. */
export function pictureCounts({ base, sample }: Pick<Sizes, 'base' | 'sample'>): {
  self: number;
  base: number;
} {
  const self = sample.promptsPerEpoch * sample.picturesPerPrompt;
  return { self, base: base === undefined ? 0 : base.ratio * self };
}

export function ipRldfProblems(
  recipe: Sizes & Pick<IpRldfRecipe, 'detector' | 'relabel' | 'rescale' | 'pictures'>,
): ArithmeticProblem[] {
  const problems: ArithmeticProblem[] = [];
  const { detector, relabel, rescale, pictures, train } = recipe;
  const needs = [...(relabel ? ['relabel: true'] : []), ...(rescale < 1 ? [`rescale: ${rescale}`] : [])];
  if (needs.length > 0 && pictures !== 'own') {
    problems.push({
      path: ['pictures'],
      message: `${pictures}, with ${needs.join(' and ')} — scenes of the world keep their captions and all weigh the same. Set relabel: false and rescale: 1`,
    });
  } else if (needs.length > 0 && detector === undefined) {
    problems.push({
      path: ['detector'],
      message: `missing, with ${needs.join(' and ')} — somebody has to look at the pictures. Set detector: detector, or relabel: false and rescale: 1`,
    });
  }
  const { self, base } = pictureCounts(recipe);
  if (train.updatesPerEpoch > self + base) {
    problems.push({
      path: ['train', 'updatesPerEpoch'],
      message: `${train.updatesPerEpoch} updates of ${self} self-training and ${base} base pictures — each needs one. Lower it`,
    });
  }
  return problems;
}
