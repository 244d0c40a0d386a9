/** The numbers of a DDPO-like recipe: how pictures, batches and updates fit together. Pure; nothing is loaded. */

/** An epoch's pictures are all in memory at once. */
const mostPictures = 1_000_000;

/** What the arithmetic needs of a recipe. */
export interface BatchFields {
  epochs: number;
  sample: { steps: number; promptsPerEpoch: number; picturesPerPrompt: number; batchSize: number };
  train: {
    updatesPerEpoch: number;
    innerEpochs: number;
    batchSize: number;
    timestepFraction: number;
    estimator: 'is' | 'sf';
  };
}

export interface BatchArithmetic {
  picturesPerEpoch: number;
  pictures: number;
  /** Calls of the sampler an epoch; the last may be smaller. */
  sampleBatches: number;
  lastSampleBatch: number;
  /** Pictures behind one optimiser step. */
  picturesPerUpdate: number;
  /** Gradient accumulations of one optimiser step; the last may be smaller. */
  microBatchesPerUpdate: number;
  lastMicroBatch: number;
  /** Denoising steps learned from, of those drawn. */
  trainedSteps: number;
  updatesPerEpoch: number;
  updates: number;
  /** U-Net forwards of one picture, conditional and unconditional, for drawing all pictures of the run. */
  samplingForwards: number;
  /** U-Net forwards with a backward. */
  trainingForwards: number;
}

export interface ArithmeticProblem {
  path: (string | number)[];
  message: string;
}

/** @throws nothing; check `batchProblems` first, as its numbers assume that everything divides */
export function batchArithmetic({ epochs, sample, train }: BatchFields): BatchArithmetic {
  const picturesPerEpoch = sample.promptsPerEpoch * sample.picturesPerPrompt;
  const picturesPerUpdate = picturesPerEpoch / train.updatesPerEpoch;
  const sampleBatches = Math.ceil(picturesPerEpoch / sample.batchSize);
  const microBatchesPerUpdate = Math.ceil(picturesPerUpdate / train.batchSize);
  const trainedSteps = trainedStepsOf(sample.steps, train.timestepFraction);
  const updatesPerEpoch = train.updatesPerEpoch * train.innerEpochs;
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
    samplingForwards: 2 * sample.steps * picturesPerEpoch * epochs,
    trainingForwards: 2 * trainedSteps * picturesPerEpoch * train.innerEpochs * epochs,
  };
}

/** Denoising steps learned from: the fraction rounded to the nearest, at least one. */
export function trainedStepsOf(steps: number, timestepFraction: number): number {
  return Math.max(1, Math.round(steps * timestepFraction));
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
  if (train.estimator === 'sf' && train.updatesPerEpoch * train.innerEpochs !== 1) {
    problems.push({
      path: ['train', 'estimator'],
      message:
        `sf with ${train.updatesPerEpoch} updates x ${train.innerEpochs} inner epochs — the score-function gradient holds for one update after each drawing only. ` +
        'Set train.updatesPerEpoch: 1 and train.innerEpochs: 1, or train.estimator: is',
    });
  }
  return problems;
}

/** The plan of a recipe in words, for --dry-run. */
export function describeArithmetic(recipe: BatchFields): string[] {
  const a = batchArithmetic(recipe);
  const { sample, train } = recipe;
  const batches = (count: number, size: number, last: number) =>
    `${count} ${count === 1 ? 'batch' : 'batches'} of ${count === 1 ? last : size}${count > 1 && last !== size ? ` (the last ${last})` : ''}`;
  return [
    `pictures   ${sample.promptsPerEpoch} prompts x ${sample.picturesPerPrompt} = ${a.picturesPerEpoch} an epoch, x ${recipe.epochs} epochs = ${a.pictures}`,
    `drawing    ${batches(a.sampleBatches, sample.batchSize, a.lastSampleBatch)} an epoch, ${sample.steps} steps each`,
    `updates    ${train.updatesPerEpoch} x ${train.innerEpochs} inner epochs = ${a.updatesPerEpoch} an epoch, x ${recipe.epochs} epochs = ${a.updates}`,
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
