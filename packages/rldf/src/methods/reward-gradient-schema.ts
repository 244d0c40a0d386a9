/** The recipes of the methods that follow a reward's gradient: AlignProp, DRaFT-K, DRaFT-LV, ReFL. */

import { z } from 'zod';
import { type ArithmeticProblem, batchProblems } from '../config/batch-arithmetic.js';
import { commonFields, count, positive } from '../config/fields.js';
import {
  exploreFields,
  learnsWholly,
  networkFields,
  optimiserFields,
  sampleFields,
} from './online-fields.js';

const batchSize = count.default(64).describe('How many images are sampled at once in evaluations.');

const eta = z.number().min(0).max(1);

const epochs = count
  .default(15)
  .describe(
    'Number of epochs. Each epoch samples `promptsPerEpoch` x `picturesPerPrompt` images and ' +
      'learns from them.',
  );

/** Of `train`, for all four: pictures are drawn by the weights they improve, so nothing is learned from twice. */
const trainFields = {
  ...networkFields,
  ...optimiserFields,
  updatesPerEpoch: count
    .default(2)
    .describe(
      'Number of optimiser steps in an epoch, each with images of its own. The papers use 1, ' +
        'with a new batch for each.',
    ),
  batchSize: count
    .default(16)
    .describe(
      'How many images are sampled and differentiated at once. This changes memory and ' +
        'speed, not the result.',
    ),
};

const learningRate = (paper: string) =>
  optimiserFields.learningRate.describe(`Learning rate of AdamW. The paper uses ${paper}.`);

const alignPropWindow = z
  .strictObject({
    kind: z
      .enum(['uniform', 'gaussian', 'fixed', 'trl-per-step'])
      .default('uniform')
      .describe(
        'How the length is chosen. `uniform`: every length is equally likely (the paper). ' +
          '`gaussian`: around `steps` (the paper’s code: 8 of 50, with spread 5). `fixed`: ' +
          'always `steps`. `trl-per-step`: not AlignProp but TRL’s port of it, in which each ' +
          'step is included or not by itself, later ones more often.',
      ),
    steps: count
      .optional()
      .describe('Length of the window in denoising steps: the mean (gaussian) or exact (fixed).'),
    spread: positive
      .max(1000)
      .default(1)
      .describe('For `gaussian`: standard deviation of the length, in steps.'),
  })
  .prefault({})
  .describe('The last denoising steps that the gradient flows through, chosen anew for each image.');

export const alignPropSchema = z.strictObject({
  method: z.literal('alignprop').describe('AlignProp (Prabhudesai et al. 2023, arXiv 2310.03739).'),
  ...commonFields,
  ...exploreFields,
  epochs,
  sample: z
    .strictObject({
      ...sampleFields,
      batchSize,
      eta: eta.default(1).describe('Noise of DDIM during training, 0 to 1. The paper’s code uses 1.'),
    })
    .prefault({}),
  train: z
    .strictObject({ ...trainFields, learningRate: learningRate('1e-3 (LoRA)'), window: alignPropWindow })
    .prefault({}),
});

const draftSample = z
  .strictObject({
    ...sampleFields,
    guidanceScale: sampleFields.guidanceScale.describe(
      'Scale of classifier-free guidance; 1 turns it off. The paper uses 7.5.',
    ),
    batchSize,
    eta: eta.default(0).describe('Noise of DDIM during training, 0 to 1. The paper uses 0.'),
  })
  .prefault({});

const draftLearningRate = learningRate('4e-4 (aesthetic), 2e-4 (preferences)');

export const draftKSchema = z.strictObject({
  method: z.literal('draft-k').describe('DRaFT and DRaFT-K (Clark et al. 2024, arXiv 2309.17400).'),
  ...commonFields,
  ...exploreFields,
  epochs,
  sample: draftSample,
  train: z
    .strictObject({
      ...trainFields,
      learningRate: draftLearningRate,
      gradientSteps: count
        .default(1)
        .describe(
          'K, the number of last denoising steps that the gradient flows through. The ' +
            'paper’s DRaFT-K uses 1; DRaFT uses all steps.',
        ),
    })
    .prefault({}),
});

export const draftLvSchema = z.strictObject({
  method: z.literal('draft-lv').describe('DRaFT-LV (Clark et al. 2024, arXiv 2309.17400).'),
  ...commonFields,
  ...exploreFields,
  epochs,
  sample: draftSample,
  train: z
    .strictObject({
      ...trainFields,
      learningRate: draftLearningRate,
      noisings: count
        .max(100)
        .default(2)
        .describe('How often (n) each finished image is noised and learned from. The paper uses 2.'),
    })
    .prefault({}),
});

export const reflSchema = z.strictObject({
  method: z.literal('refl').describe('ReFL (Xu et al. 2023, arXiv 2304.05977).'),
  ...commonFields,
  ...exploreFields,
  epochs,
  sample: z
    .strictObject({
      ...sampleFields,
      steps: sampleFields.steps.describe(
        'Number of denoising steps for each image, 2 to 1000. The paper uses 40.',
      ),
      guidanceScale: sampleFields.guidanceScale.describe(
        'Scale of classifier-free guidance; 1 turns it off. The paper samples with 7.5 and ' +
          'trains without guidance (`train.guided: false`).',
      ),
      batchSize,
      eta: eta
        .default(1)
        .describe('Noise of DDIM during training, 0 to 1. The paper’s code samples as with 1.'),
    })
    .prefault({}),
  train: z
    .strictObject({
      ...trainFields,
      learningRate: learningRate('1e-5 (all weights)'),
      lateSteps: count
        .default(3)
        .describe(
          'The step whose predicted image is scored is one of this many last steps, each ' +
            'equally likely. The paper uses 10 of 40.',
        ),
      guided: z
        .boolean()
        .default(true)
        .describe(
          'Whether to train with guidance, as images are sampled. `false` trains without ' +
            'guidance, as the public code does, although images are sampled with it.',
        ),
      rewardMap: z
        .enum(['relu', 'linear'])
        .default('relu')
        .describe(
          'The loss of a reward r. `relu` is max(0, rewardTarget - r), as in the public ' +
            'code; `linear` is -r.',
        ),
      rewardTarget: z
        .number()
        .default(2)
        .describe(
          'For `relu`: images above this reward, in the reward’s own unit, are not improved ' +
            'further. The public code uses 2.',
        ),
      rewardScale: positive
        .default(1)
        .describe(
          'λ, the factor of the reward’s loss. Without `pretraining`, AdamW cancels it ' +
            'except for the effect of gradient clipping. The paper uses 1e-3.',
        ),
      pretraining: z
        .strictObject({
          weight: z
            .number()
            .min(0)
            .default(0)
            .describe('Weight of the denoising loss. 0 (the public code) is off; the paper uses 1.'),
          pictures: count
            .max(100_000)
            .default(64)
            .describe('Images for this loss, sampled for the training prompts before training.'),
        })
        .prefault({})
        .describe('The paper’s pre-training loss. It keeps the model near what it sampled before.'),
    })
    .prefault({}),
});

export type AlignPropRecipe = z.infer<typeof alignPropSchema>;
export type DraftKRecipe = z.infer<typeof draftKSchema>;
export type DraftLvRecipe = z.infer<typeof draftLvSchema>;
export type ReflRecipe = z.infer<typeof reflSchema>;

/** What the shared loop reads. */
export type RewardGradientRecipe = Pick<
  AlignPropRecipe,
  'seed' | 'epochs' | 'sample' | 'negativePrompt' | 'explore'
> & { method: string; train: Omit<AlignPropRecipe['train'], 'window'> };

type Fields<R extends RewardGradientRecipe> = Pick<R, 'epochs' | 'sample' | 'train'>;

/** One picture is enough: rewards are followed, not compared. */
function sizeProblems(recipe: Fields<RewardGradientRecipe>): ArithmeticProblem[] {
  const { promptsPerEpoch, picturesPerPrompt } = recipe.sample;
  const alone = promptsPerEpoch * picturesPerPrompt === 1 && recipe.train.updatesPerEpoch === 1;
  return alone ? [] : batchProblems(recipe);
}

function tooMany(field: string, value: number, { steps }: { steps: number }): ArithmeticProblem[] {
  if (value <= steps) return [];
  const message = `${value} of ${steps} denoising steps — there are not so many. Set it to 1 to ${steps}, or raise sample.steps`;
  return [{ path: ['train', ...field.split('.')], message }];
}

export function alignPropProblems(recipe: Fields<AlignPropRecipe>): ArithmeticProblem[] {
  const { sample, train } = recipe;
  const { kind, steps } = train.window;
  const problems = sizeProblems(recipe);
  const ofLength = kind === 'fixed' || kind === 'gaussian';
  if (steps !== undefined && !ofLength) {
    problems.push({
      path: ['train', 'window', 'steps'],
      message: `${steps}, but kind: ${kind} draws the length by itself — it would not be looked at. Set train.window.kind: fixed, or leave it out`,
    });
  } else if (steps !== undefined) problems.push(...tooMany('window.steps', steps, sample));
  else if (ofLength) {
    problems.push({
      path: ['train', 'window'],
      message: `kind: ${kind} without steps — its length must be given. Set train.window.steps to 1 to ${sample.steps}`,
    });
  }
  return problems;
}

export function draftKProblems(recipe: Fields<DraftKRecipe>): ArithmeticProblem[] {
  return [...sizeProblems(recipe), ...tooMany('gradientSteps', recipe.train.gradientSteps, recipe.sample)];
}

export function draftLvProblems(recipe: Fields<DraftLvRecipe>): ArithmeticProblem[] {
  return sizeProblems(recipe);
}

export function reflProblems(
  recipe: Fields<ReflRecipe> & Partial<Pick<ReflRecipe, 'explore'>>,
): ArithmeticProblem[] {
  const { sample, train, explore } = recipe;
  const problems = [...sizeProblems(recipe), ...tooMany('lateSteps', train.lateSteps, sample)];
  if (explore?.guidance != null && !train.guided) {
    problems.push({
      path: ['explore', 'guidance'],
      message:
        'train.guided is false — no training picture is drawn with guidance, so the schedule would change no step. Set train.guided: true, or explore by words alone',
    });
  }
  if (train.pretraining.weight > 0 && learnsWholly(train)) {
    problems.push({
      path: ['train', 'pretraining', 'weight'],
      message: `${train.pretraining.weight}, but all weights of a network learn — the pictures of before are drawn by what is left without the adapters. Set unet and textEncoder to lora or none, or weight: 0`,
    });
  }
  return problems;
}
