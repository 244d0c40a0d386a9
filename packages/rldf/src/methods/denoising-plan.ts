// What a recipe of a method with a denoising loss will do: pictures, batches and forwards.
import {
  type BatchArithmetic,
  type BatchFields,
  batchArithmetic,
  describeArithmetic,
} from '../config/batch-arithmetic.js';

/** Of one error: under guidance with caption and without. */
export const forwardsOf = ({ lossGuidanceScale = 1 }: BatchFields['train']) =>
  lossGuidanceScale === 1 ? 1 : 2;

/**
 * Each picture that is learned from is denoised once a pass, at one timestep; under guidance, both ways.
 * @param learned pictures that an epoch's lessons hold, at most
 */
export function denoisingArithmetic(recipe: BatchFields, learned: number): BatchArithmetic {
  const drawn = batchArithmetic(recipe);
  const { train, epochs } = recipe;
  const picturesPerUpdate = Math.ceil(learned / train.updatesPerEpoch);
  const microBatchesPerUpdate = Math.ceil(picturesPerUpdate / train.batchSize);
  return {
    ...drawn,
    picturesPerUpdate,
    microBatchesPerUpdate,
    lastMicroBatch: picturesPerUpdate - (microBatchesPerUpdate - 1) * train.batchSize,
    trainedSteps: 1,
    trainingForwards: learned * forwardsOf(train) * (train.innerEpochs ?? 1) * epochs,
  };
}

/** A picture is noised to one timestep of all that the model was trained on, not to the sampler's. */
export const describeDenoising = (recipe: BatchFields, arithmetic: BatchArithmetic): string[] =>
  describeArithmetic(recipe, arithmetic).map((line) =>
    line.replace(/1 of \d+ denoising steps$/, 'each noised to a random timestep'),
  );
