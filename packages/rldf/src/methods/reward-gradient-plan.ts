// What a recipe of a method that follows a reward's gradient will do: pictures, batches and forwards.
import { type BatchArithmetic, batchArithmetic } from '../config/batch-arithmetic.js';
import type { RewardGradientRecipe } from './reward-gradient-schema.js';

/**
 * Pictures, batches and forwards.
 * @param drawn passes without gradient a picture, on average
 * @param followed passes with gradient a picture, on average
 */
export function rewardGradientArithmetic(
  recipe: Omit<RewardGradientRecipe, 'method'>,
  { drawn, followed }: { drawn: number; followed: number },
): BatchArithmetic {
  const { train } = recipe;
  const sizes = batchArithmetic(recipe);
  const { pictures, halves, microBatchesPerUpdate, lastMicroBatch } = sizes;
  return {
    ...sizes,
    sampleBatches: microBatchesPerUpdate * train.updatesPerEpoch,
    lastSampleBatch: lastMicroBatch,
    sampleBatch: train.batchSize,
    trainedSteps: followed,
    samplingForwards: Math.round(halves * drawn * pictures),
    trainingForwards: Math.round(halves * followed * pictures),
  };
}

/** The training that stands for a recipe's in `rldf plan`: one update of one micro-batch. */
export function rewardGradientMiniature<R extends RewardGradientRecipe>(recipe: R, steps: number): R {
  const { sample, train } = recipe;
  const pictures = sample.promptsPerEpoch * sample.picturesPerPrompt;
  const size = Math.min(train.batchSize, pictures / train.updatesPerEpoch);
  const promptsPerEpoch = Math.min(sample.promptsPerEpoch, size);
  return {
    ...recipe,
    epochs: 1,
    sample: { ...sample, steps, promptsPerEpoch, picturesPerPrompt: Math.ceil(size / promptsPerEpoch) },
    train: { ...train, batchSize: size, updatesPerEpoch: 1 },
  };
}
