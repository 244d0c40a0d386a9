/** IP-RLDF's part of the recipe, and how its rounds fall into steps that a run can be saved between. */

import { z } from 'zod';
import { UserError } from '../base/errors.js';
import type { ArithmeticProblem, BatchArithmetic } from '../config/batch-arithmetic.js';
import { commonFields, count, fraction, promptsSchema } from '../config/fields.js';
import { instrumentCard, isDetector } from '../instruments/instruments.js';
import { denoisingFields, forwardsOf } from './denoising-schema.js';
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
    .enum(['own', 'world'])
    .default('own')
    .describe(
      'own: drawn by the model; world: as many scenes of the built-in world with its captions, as in pre-training: a control',
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

type Sizes = Pick<IpRldfRecipe, 'epochs' | 'rounds' | 'base' | 'sample' | 'train'>;

/** Pictures of the self-training prompts, drawn in every round, and of the base prompts, drawn in the first. */
export function picturesOf({ base, sample }: Pick<Sizes, 'base' | 'sample'>): { self: number; base: number } {
  const self = sample.promptsPerEpoch * sample.picturesPerPrompt;
  return { self, base: base === undefined ? 0 : base.ratio * self };
}

/** One step of the run. Rows count pictures, the self-training ones first; updates count from 0 in each epoch. */
export type IpRldfStep =
  | { kind: 'draw'; round: number; from: number; to: number }
  | { kind: 'learn'; round: number; epoch: number; from: number; to: number };

/** All steps in their order: in each round, drawing, then its epochs. */
export function ipRldfSteps(recipe: Sizes): IpRldfStep[] {
  const { rounds, epochs, sample, train } = recipe;
  const { self, base } = picturesOf(recipe);
  return Array.from({ length: rounds }, (_, round) => [
    ...chunks(round === 0 ? self + base : self, sample.picturesPerStep).map(
      (part): IpRldfStep => ({ kind: 'draw', round, ...part }),
    ),
    ...Array.from({ length: epochs }, (_, epoch) =>
      chunks(train.updatesPerEpoch, train.updatesPerStep).map(
        (part): IpRldfStep => ({ kind: 'learn', round, epoch, ...part }),
      ),
    ).flat(),
  ]).flat();
}

const chunks = (length: number, size: number) =>
  Array.from({ length: Math.ceil(length / size) }, (_, i) => ({
    from: i * size,
    to: Math.min(length, (i + 1) * size),
  }));

export function ipRldfProblems(
  recipe: Sizes & Pick<IpRldfRecipe, 'detector' | 'relabel' | 'rescale' | 'pictures'>,
): ArithmeticProblem[] {
  const problems: ArithmeticProblem[] = [];
  const { detector, relabel, rescale, pictures, train } = recipe;
  const needs = [...(relabel ? ['relabel: true'] : []), ...(rescale < 1 ? [`rescale: ${rescale}`] : [])];
  if (needs.length > 0 && pictures === 'world') {
    problems.push({
      path: ['pictures'],
      message: `world, with ${needs.join(' and ')} — scenes of the world keep their captions and all weigh the same. Set relabel: false and rescale: 1`,
    });
  } else if (needs.length > 0 && detector === undefined) {
    problems.push({
      path: ['detector'],
      message: `missing, with ${needs.join(' and ')} — somebody has to look at the pictures. Set detector: detector, or relabel: false and rescale: 1`,
    });
  }
  const { self, base } = picturesOf(recipe);
  if (train.updatesPerEpoch > self + base) {
    problems.push({
      path: ['train', 'updatesPerEpoch'],
      message: `${train.updatesPerEpoch} updates of ${self} self-training and ${base} base pictures — each needs one. Lower it`,
    });
  }
  return problems;
}

/** Of all pictures; those that are dropped are not known before. */
export function ipRldfArithmetic(recipe: IpRldfRecipe): BatchArithmetic {
  const { rounds, epochs, sample, train, pictures: source } = recipe;
  const { self, base } = picturesOf(recipe);
  const all = self + base;
  const pictures = rounds === 0 ? 0 : base + rounds * self;
  const picturesPerUpdate = Math.ceil(all / train.updatesPerEpoch);
  const sampleBatches = Math.ceil(all / sample.batchSize);
  const microBatchesPerUpdate = Math.ceil(picturesPerUpdate / train.batchSize);
  return {
    steps: ipRldfSteps(recipe).length,
    picturesPerEpoch: all,
    pictures,
    sampleBatches,
    lastSampleBatch: all - (sampleBatches - 1) * sample.batchSize,
    picturesPerUpdate,
    microBatchesPerUpdate,
    lastMicroBatch: picturesPerUpdate - (microBatchesPerUpdate - 1) * train.batchSize,
    trainedSteps: 1,
    updatesPerEpoch: train.updatesPerEpoch,
    updates: train.updatesPerEpoch * epochs * rounds,
    samplingForwards: source === 'own' ? 2 * sample.steps * pictures : 0,
    trainingForwards: all * forwardsOf(train) * epochs * rounds,
  };
}

export function describeIpRldf(recipe: IpRldfRecipe, a: BatchArithmetic): string[] {
  const { rounds, epochs, sample, train } = recipe;
  const { self, base } = picturesOf(recipe);
  return [
    `pictures   ${sample.promptsPerEpoch} self-training prompts x ${sample.picturesPerPrompt} = ${self} a round, and ${base} of base prompts once: ${a.pictures} in ${rounds} rounds`,
    `updates    ${train.updatesPerEpoch} an epoch x ${epochs} epochs x ${rounds} rounds = ${a.updates}, about ${a.picturesPerUpdate} pictures each`,
    `steps      ${a.steps}, each of at most ${sample.picturesPerStep} pictures drawn or ${train.updatesPerStep} updates`,
    `U-Net      ${a.samplingForwards} forwards to draw, ${a.trainingForwards} forwards with backward to learn`,
  ];
}

/** What is in memory of the pictures, and in each checkpoint. */
export function ipRldfKeeps({ rounds, base, sample }: IpRldfRecipe): { drawn: number; kept: number } {
  const pictures = picturesOf({ base, sample });
  const all = rounds === 0 ? 0 : pictures.self + pictures.base;
  return { drawn: Math.min(sample.picturesPerStep, all), kept: all };
}

/** One round of one update; the detector, which cannot look at shapes, is left out. */
export function ipRldfMiniature(recipe: IpRldfRecipe, steps: number): IpRldfRecipe {
  const { sample, train } = recipe;
  const batch = Math.max(2, Math.min(train.batchSize, ipRldfArithmetic(recipe).picturesPerUpdate));
  const pictures = Math.max(batch, Math.min(sample.batchSize, picturesOf(recipe).self));
  const promptsPerEpoch = Math.min(sample.promptsPerEpoch, pictures);
  return {
    ...recipe,
    rounds: 1,
    epochs: 1,
    relabel: false,
    rescale: 1,
    detector: undefined,
    base: undefined,
    pictures: 'own',
    sample: { ...sample, steps, promptsPerEpoch, picturesPerPrompt: Math.ceil(pictures / promptsPerEpoch) },
    train: { ...train, batchSize: batch, updatesPerEpoch: 1 },
  };
}
