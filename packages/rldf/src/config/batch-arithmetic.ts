/** The numbers of a recipe: how pictures, batches and updates fit together. Pure; nothing is loaded. */

import { mostPictures } from '../base/counts.js';

/** What the arithmetic needs of a recipe. */
export interface BatchFields {
  epochs: number;
  sample: {
    steps: number;
    promptsPerEpoch: number;
    picturesPerPrompt: number;
    batchSize: number;
    /** Of a policy; DDIM by default. */
    scheduler?: string | undefined;
    /** Above 1 by default. */
    guidanceScale?: number | undefined;
  };
  explore?: { guidance?: unknown } | null | undefined;
  train: {
    updatesPerEpoch: number;
    /** Passes over an epoch's pictures; one by default. */
    innerEpochs?: number | undefined;
    batchSize: number;
    /** Part of the denoising steps learned from, 1 being the noisiest, and the share of it; all by default. */
    stepRange?: readonly [low: number, high: number] | undefined;
    timestepFraction?: number | undefined;
    /** Guidance inside a denoising loss; none by default. */
    lossGuidanceScale?: number | undefined;
    estimator?: 'is' | 'sf' | undefined;
  };
}

export interface BatchArithmetic {
  /** Steps of the run, between which it saves and evaluates; its epochs if left out. */
  steps?: number;
  picturesPerEpoch: number;
  pictures: number;
  /** Calls of the sampler an epoch; the last may be smaller. */
  sampleBatches: number;
  lastSampleBatch: number;
  /** Pictures of the others; `sample.batchSize` if it is not said. */
  sampleBatch?: number;
  /** Pictures behind one optimiser step. */
  picturesPerUpdate: number;
  /** Gradient accumulations of one optimiser step; the last may be smaller. */
  microBatchesPerUpdate: number;
  lastMicroBatch: number;
  /** Denoising steps learned from, of those drawn. */
  trainedSteps: number;
  updatesPerEpoch: number;
  updates: number;
  /** U-Net forwards of a picture in one denoising step: conditional and unconditional, or conditional alone without guidance. */
  halves: 1 | 2;
  /** U-Net forwards of one picture, for drawing all pictures of the run. */
  samplingForwards: number;
  /** U-Net forwards with a backward. */
  trainingForwards: number;
}

export interface ArithmeticProblem {
  path: (string | number)[];
  message: string;
}

/** @throws nothing; check `batchProblems` first, as its numbers assume that everything divides */
export function batchArithmetic(recipe: BatchFields): BatchArithmetic {
  const { epochs, sample, train } = recipe;
  const halves = halvesOf(recipe);
  const picturesPerEpoch = sample.promptsPerEpoch * sample.picturesPerPrompt;
  const picturesPerUpdate = picturesPerEpoch / train.updatesPerEpoch;
  const sampleBatches = Math.ceil(picturesPerEpoch / sample.batchSize);
  const microBatchesPerUpdate = Math.ceil(picturesPerUpdate / train.batchSize);
  const { innerEpochs = 1 } = train;
  const trainedSteps = trainedStepsOf(sample, train);
  const updatesPerEpoch = train.updatesPerEpoch * innerEpochs;
  return {
    picturesPerEpoch,
    pictures: picturesPerEpoch * epochs,
    sampleBatches,
    lastSampleBatch: picturesPerEpoch - (sampleBatches - 1) * sample.batchSize,
    picturesPerUpdate,
    microBatchesPerUpdate,
    lastMicroBatch: picturesPerUpdate - (microBatchesPerUpdate - 1) * train.batchSize,
    trainedSteps,
    updatesPerEpoch,
    updates: updatesPerEpoch * epochs,
    halves,
    samplingForwards: halves * sample.steps * picturesPerEpoch * epochs,
    trainingForwards: halves * trainedSteps * picturesPerEpoch * innerEpochs * epochs,
  };
}

/** See `BatchArithmetic.halves`. */
export const halvesOf = ({ sample, explore }: Pick<BatchFields, 'sample' | 'explore'>): 1 | 2 =>
  sample.guidanceScale === 1 && explore?.guidance == null ? 1 : 2;

/** Denoising steps that a policy can learn from: the last one of ancestral Euler has no noise, and so no probability. */
export function learnableSteps({
  steps,
  scheduler,
}: {
  steps: number;
  scheduler?: string | undefined;
}): number {
  return scheduler === 'euler-ancestral' ? steps - 1 : steps;
}

/** The learnable steps in `stepRange`, noisiest first: those whose middle lies in it, where the last step ends at 0 and the first begins at 1. */
export function stepsInRange(
  sample: Pick<BatchFields['sample'], 'steps' | 'scheduler'>,
  { stepRange: [low, high] = [0, 1] }: Pick<BatchFields['train'], 'stepRange'>,
): number[] {
  const middle = (step: number) => 1 - (step + 0.5) / sample.steps;
  const all = Array.from({ length: learnableSteps(sample) }, (_, step) => step);
  return all.filter((step) => middle(step) >= low && middle(step) <= high);
}

/** Number of denoising steps learned from: the fraction of those in range, rounded to the nearest, at least one. */
export function trainedStepsOf(
  sample: Pick<BatchFields['sample'], 'steps' | 'scheduler'>,
  train: Pick<BatchFields['train'], 'stepRange' | 'timestepFraction'>,
): number {
  const { timestepFraction = 1 } = train;
  return Math.max(1, Math.round(stepsInRange(sample, train).length * timestepFraction));
}

/** Why the numbers of a recipe cannot work together, each with the numbers and a way out. Empty when they can. */
export function batchProblems(recipe: BatchFields): ArithmeticProblem[] {
  const { sample, train } = recipe;
  const problems: ArithmeticProblem[] = [];
  const pictures = sample.promptsPerEpoch * sample.picturesPerPrompt;
  const product = `${sample.promptsPerEpoch} prompts x ${sample.picturesPerPrompt} pictures = ${pictures} pictures an epoch`;
  if (pictures < 2) {
    problems.push({
      path: ['sample', 'picturesPerPrompt'],
      message: `${product} — one reward has no spread to learn from; at least 2 are needed. Set sample.picturesPerPrompt: 4`,
    });
  } else if (pictures > mostPictures) {
    problems.push({
      path: ['sample', 'picturesPerPrompt'],
      message: `${product} — at most ${mostPictures} fit into an epoch. Set more epochs of fewer pictures`,
    });
  } else if (train.updatesPerEpoch > pictures || pictures % train.updatesPerEpoch !== 0) {
    problems.push({
      path: ['train', 'updatesPerEpoch'],
      message: `${product} cannot be split evenly into ${train.updatesPerEpoch} updates — set train.updatesPerEpoch to ${nearestDivisors(pictures, train.updatesPerEpoch)}`,
    });
  }
  if (stepsInRange(sample, train).length === 0) {
    const low = sample.steps < 4 ? 0.5 : 0.7;
    problems.push({
      path: ['train', 'stepRange'],
      message: `[${train.stepRange?.join(', ')}] holds the middle of none of the ${sample.steps} denoising steps, which are ${Number((1 / sample.steps).toFixed(3))} apart — nothing would be learned from. Set train.stepRange: [${low}, 1] for the noisiest ones`,
    });
  }
  const { innerEpochs = 1 } = train;
  if (train.estimator === 'sf' && train.updatesPerEpoch * innerEpochs !== 1) {
    problems.push({
      path: ['train', 'estimator'],
      message:
        `sf with ${train.updatesPerEpoch} updates x ${innerEpochs} inner epochs — the score-function gradient holds for one update after each drawing only. ` +
        'Set train.updatesPerEpoch: 1 and train.innerEpochs: 1, or train.estimator: is',
    });
  }
  return problems;
}

/** A method's arithmetic of a recipe in words, for --dry-run and `rldf plan`. */
export function describeArithmetic(
  recipe: BatchFields,
  a: BatchArithmetic = batchArithmetic(recipe),
): string[] {
  const { sample, train } = recipe;
  const passes = train.innerEpochs === undefined ? '' : ` x ${train.innerEpochs} inner epochs`;
  const updates = `${a.updatesPerEpoch / (train.innerEpochs ?? 1)}${passes}${passes && ` = ${a.updatesPerEpoch}`}`;
  const batches = (count: number, size: number, last: number) =>
    `${count} ${count === 1 ? 'batch' : 'batches'} of ${count === 1 ? last : size}${count > 1 && last !== size ? ` (the last ${last})` : ''}`;
  return [
    `pictures   ${sample.promptsPerEpoch} prompts x ${sample.picturesPerPrompt} = ${a.picturesPerEpoch} an epoch, x ${recipe.epochs} epochs = ${a.pictures}`,
    `drawing    ${batches(a.sampleBatches, a.sampleBatch ?? sample.batchSize, a.lastSampleBatch)} an epoch, ${sample.steps} steps each`,
    `updates    ${updates} an epoch, x ${recipe.epochs} epochs = ${a.updates}`,
    `one update ${a.picturesPerUpdate} pictures in ${batches(a.microBatchesPerUpdate, train.batchSize, a.lastMicroBatch)}, ${a.trainedSteps} of ${sample.steps} denoising steps`,
    `U-Net      ${a.samplingForwards} forwards to draw, ${a.trainingForwards} forwards with backward to learn`,
  ];
}

function nearestDivisors(pictures: number, wanted: number): string {
  const divisors = Array.from({ length: pictures }, (_, index) => index + 1).filter(
    (n) => pictures % n === 0,
  );
  const below = divisors.filter((n) => n < wanted).at(-1);
  const above = divisors.find((n) => n > wanted);
  return [below, above].filter((n) => n !== undefined).join(' or ');
}
