import { expect, test } from 'vitest';
import {
  type BatchFields,
  batchArithmetic,
  batchProblems,
  describeArithmetic,
  stepsInRange,
  trainedStepsOf,
} from './batch-arithmetic.js';

const recipe: BatchFields = {
  epochs: 10,
  sample: { steps: 10, promptsPerEpoch: 15, picturesPerPrompt: 4, batchSize: 32 },
  train: { updatesPerEpoch: 3, innerEpochs: 2, batchSize: 8, timestepFraction: 0.5, estimator: 'is' },
};

test('numbers of a recipe by hand', () => {
  expect(batchProblems(recipe)).toEqual([]);
  expect(batchArithmetic(recipe)).toEqual({
    picturesPerEpoch: 60,
    pictures: 600,
    sampleBatches: 2,
    lastSampleBatch: 28,
    picturesPerUpdate: 20,
    microBatchesPerUpdate: 3,
    lastMicroBatch: 4,
    trainedSteps: 5,
    updatesPerEpoch: 6,
    updates: 60,
    halves: 2,
    samplingForwards: 12000,
    trainingForwards: 12000,
  });
  expect(describeArithmetic(recipe)).toMatchInlineSnapshot(`
    [
      "pictures   15 prompts x 4 = 60 an epoch, x 10 epochs = 600",
      "drawing    2 batches of 32 (the last 28) an epoch, 10 steps each",
      "updates    3 x 2 inner epochs = 6 an epoch, x 10 epochs = 60",
      "one update 20 pictures in 3 batches of 8 (the last 4), 5 of 10 denoising steps",
      "U-Net      12000 forwards to draw, 12000 forwards with backward to learn",
    ]
  `);
});

test('without guidance a denoising step is one pass, unless exploring changes the guidance', () => {
  const unguided = { ...recipe, sample: { ...recipe.sample, guidanceScale: 1 } };
  expect(batchArithmetic(unguided)).toMatchObject({ samplingForwards: 6000, trainingForwards: 6000 });
  const explored = { ...unguided, explore: { guidance: { low: 0.5 } } };
  expect(batchArithmetic(explored)).toMatchObject({ samplingForwards: 12000, trainingForwards: 12000 });
});

test('an uneven split is refused with the numbers and the nearest ones that work', () => {
  const bad = { ...recipe, train: { ...recipe.train, updatesPerEpoch: 7 } };
  expect(batchProblems(bad)[0]?.message).toBe(
    '15 prompts x 4 pictures = 60 pictures an epoch cannot be split evenly into 7 updates — set train.updatesPerEpoch to 6 or 10',
  );
  const tooMany = { ...recipe, train: { ...recipe.train, updatesPerEpoch: 100 } };
  expect(batchProblems(tooMany)[0]?.message).toContain('set train.updatesPerEpoch to 60');
});

test('one picture an epoch and several updates of the score-function estimator are refused', () => {
  const single = { ...recipe, sample: { ...recipe.sample, promptsPerEpoch: 1, picturesPerPrompt: 1 } };
  expect(batchProblems(single)[0]?.message).toContain('no spread');
  const scoreFunction = { ...recipe, train: { ...recipe.train, estimator: 'sf' as const } };
  expect(batchProblems(scoreFunction)[0]?.message).toContain('one update after each drawing only');
});

test('at least one denoising step is learned from', () => {
  expect(trainedStepsOf({ steps: 10 }, { timestepFraction: 0.01 })).toBe(1);
  expect(trainedStepsOf({ steps: 50 }, { timestepFraction: 0.5 })).toBe(25);
  expect(trainedStepsOf({ steps: 50 }, { stepRange: [0.8, 1], timestepFraction: 0.5 })).toBe(5);
});

test('a range of steps is counted from pure noise', () => {
  expect(stepsInRange({ steps: 4 }, {})).toEqual([0, 1, 2, 3]);
  expect(stepsInRange({ steps: 10 }, { stepRange: [0.7, 1] })).toEqual([0, 1, 2]);
  expect(stepsInRange({ steps: 10 }, { stepRange: [0, 0.2] })).toEqual([8, 9]); // the middles are at .15 and .05
  expect(stepsInRange({ steps: 4, scheduler: 'euler-ancestral' }, { stepRange: [0, 0.5] })).toEqual([2]);
});

test('a range between the middles of two steps is refused', () => {
  const train = { ...recipe.train, stepRange: [0.91, 0.94] as const };
  expect(batchProblems({ ...recipe, sample: { ...recipe.sample, steps: 10 }, train })).toEqual([
    {
      path: ['train', 'stepRange'],
      message:
        '[0.91, 0.94] holds the middle of none of the 10 denoising steps, which are 0.1 apart — nothing would be learned from. Set train.stepRange: [0.7, 1] for the noisiest ones',
    },
  ]);
});
