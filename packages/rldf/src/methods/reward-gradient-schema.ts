/** The recipes of the methods that follow a reward's gradient: AlignProp, DRaFT-K, DRaFT-LV, ReFL. */

import { z } from 'zod';
import { type ArithmeticProblem, batchProblems } from '../config/batch-arithmetic.js';
import { commonFields, count, positive } from '../config/fields.js';
import { exploreFields, networkFields, optimiserFields, sampleFields } from './online-fields.js';

const batchSize = count.default(64).describe('pictures drawn at once in evaluations');

const eta = z.number().min(0).max(1);

const epochs = count
  .default(15)
  .describe('epochs; each draws `promptsPerEpoch` x `picturesPerPrompt` pictures and learns from them');

/** Of `train`, for all four: pictures are drawn by the weights they improve, so nothing is learned from twice. */
const trainFields = {
  ...networkFields,
  ...optimiserFields,
  updatesPerEpoch: count
    .default(2)
    .describe('optimiser steps an epoch, each with pictures of its own. Papers: 1, with a new batch each'),
  batchSize: count
    .default(16)
    .describe('pictures drawn and followed at once; changes memory and speed, not the result'),
};

const learningRate = (paper: string) =>
  optimiserFields.learningRate.describe(`AdamW step size. Paper: ${paper}`);

const alignPropWindow = z
  .strictObject({
    kind: z
      .enum(['uniform', 'gaussian', 'fixed', 'trl-per-step'])
      .default('uniform')
      .describe(
        'uniform: any length as likely (the paper); gaussian: around `steps` (its code: 8 of 50, spread 5); fixed: always `steps`; trl-per-step: not AlignProp but TRL’s port, where each step is followed or not by itself, later ones more often',
      ),
    steps: count
      .optional()
      .describe('length of the window in denoising steps: its mean (gaussian), or exactly (fixed)'),
    spread: positive.max(1000).default(1).describe('gaussian: standard deviation in steps'),
  })
  .prefault({})
  .describe('the last denoising steps that the gradient flows through, drawn anew for each picture');

export const alignPropSchema = z.strictObject({
  method: z.literal('alignprop').describe('AlignProp (Prabhudesai et al. 2023, arXiv 2310.03739)'),
  ...commonFields,
  ...exploreFields,
  epochs,
  sample: z
    .strictObject({
      ...sampleFields,
      batchSize,
      eta: eta.default(1).describe('noise of DDIM while training, 0 to 1. Paper’s code: 1'),
    })
    .prefault({}),
  train: z
    .strictObject({ ...trainFields, learningRate: learningRate('1e-3 (LoRA)'), window: alignPropWindow })
    .prefault({}),
});

const draftSample = z
  .strictObject({
    ...sampleFields,
    guidanceScale: sampleFields.guidanceScale.describe('classifier-free guidance, 1 = off. Paper: 7.5'),
    batchSize,
    eta: eta.default(0).describe('noise of DDIM while training, 0 to 1. Paper: 0'),
  })
  .prefault({});

const draftLearningRate = learningRate('4e-4 (aesthetic), 2e-4 (preferences)');

export const draftKSchema = z.strictObject({
  method: z.literal('draft-k').describe('DRaFT and DRaFT-K (Clark et al. 2024, arXiv 2309.17400)'),
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
        .describe('K, the last denoising steps that the gradient flows through. Paper: 1; all steps: DRaFT'),
    })
    .prefault({}),
});

export const draftLvSchema = z.strictObject({
  method: z.literal('draft-lv').describe('DRaFT-LV (Clark et al. 2024, arXiv 2309.17400)'),
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
        .describe('n, how often each finished picture is noised and its last step learned from. Paper: 2'),
    })
    .prefault({}),
});

export const reflSchema = z.strictObject({
  method: z.literal('refl').describe('ReFL (Xu et al. 2023, arXiv 2304.05977)'),
  ...commonFields,
  ...exploreFields,
  epochs,
  sample: z
    .strictObject({
      ...sampleFields,
      steps: sampleFields.steps.describe('denoising steps a picture, 2-1000. Paper: 40'),
      guidanceScale: sampleFields.guidanceScale.describe(
        'classifier-free guidance, 1 = off. Paper: 7.5 to draw, none to train (`train.guided: false`)',
      ),
      batchSize,
      eta: eta
        .default(1)
        .describe('noise of DDIM while training, 0 to 1. Paper’s code: ancestral sampling, which is 1'),
    })
    .prefault({}),
  train: z
    .strictObject({
      ...trainFields,
      learningRate: learningRate('1e-5 (all weights)'),
      lateSteps: count
        .default(3)
        .describe(
          'the step whose predicted picture is judged is one of this many last ones, each as likely. Paper: 10 of 40',
        ),
      guided: z
        .boolean()
        .default(true)
        .describe(
          'true: trains as pictures are drawn; false: without guidance, as the public code, though pictures are drawn with it',
        ),
      rewardMap: z
        .enum(['relu', 'linear'])
        .default('relu')
        .describe('loss of a reward r: relu: max(0, rewardTarget - r), the public code; linear: -r'),
      rewardTarget: z
        .number()
        .default(2)
        .describe(
          'relu: pictures above this reward teach nothing more. In the reward’s unit. Public code: 2',
        ),
      rewardScale: positive
        .default(1)
        .describe(
          'λ, factor of the reward’s loss; without `pretraining` AdamW hides it but for the clipping. Paper: 1e-3',
        ),
      pretraining: z
        .strictObject({
          weight: z
            .number()
            .min(0)
            .default(0)
            .describe('weight of the denoising loss. 0: off, the public code; 1: the paper'),
          pictures: count
            .max(100_000)
            .default(64)
            .describe('pictures that the model draws of the training prompts before training, to denoise'),
        })
        .prefault({})
        .describe('the paper’s pre-training loss, which holds the model near what it drew before'),
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
  if (train.pretraining.weight > 0 && (train.unet === 'full' || train.textEncoder === 'full')) {
    problems.push({
      path: ['train', 'pretraining', 'weight'],
      message: `${train.pretraining.weight}, but all weights of a network learn — the pictures of before are drawn by what is left without the adapters. Set unet and textEncoder to lora or none, or weight: 0`,
    });
  }
  return problems;
}
