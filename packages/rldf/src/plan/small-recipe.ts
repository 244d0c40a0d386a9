/** The training in miniature that `rldf plan` runs: the same batches on fewer steps and pictures. */

import { stepsInRange, trainedStepsOf } from '../config/batch-arithmetic.js';
import { methodOf } from '../methods/index.js';
import type { Recipe } from '../recipe/recipe.js';

/** Fields of one method only. */
interface OptionalFields {
  innerEpochs?: number;
  timestepFraction?: number;
  stepRange?: [low: number, high: number];
}

/** One epoch and one update with the recipe's batches, of `steps` denoising steps: by the method's own hook if it has one. */
export function smallRecipe(recipe: Recipe, steps: number): Recipe {
  const method = methodOf(recipe);
  if (method.plan.miniature !== undefined) return method.plan.miniature(recipe, steps);
  const { sample, train } = recipe;
  const pictures = sample.promptsPerEpoch * sample.picturesPerPrompt;
  const perUpdate = pictures / train.updatesPerEpoch;
  const promptsPerEpoch = Math.min(sample.promptsPerEpoch, perUpdate);
  const learned = Math.min(train.batchSize, mostInvolved(recipe, perUpdate));
  const needed = Math.max(2, learned, Math.min(sample.batchSize, pictures));
  const once = { innerEpochs: 1, timestepFraction: 1, stepRange: [0, 1] } satisfies OptionalFields;
  const kept = Object.fromEntries(Object.entries(once).filter(([name]) => name in train));
  return {
    ...recipe,
    epochs: 1,
    sample: { ...sample, steps, promptsPerEpoch, picturesPerPrompt: Math.ceil(needed / promptsPerEpoch) },
    train: { ...train, batchSize: learned, updatesPerEpoch: 1, ...kept },
  } as Recipe;
}

/**
 * Pictures of an update that learn from the same step, at most. Each learns from a share f of the steps, chosen for itself:
 * of n pictures n f on average, with standard deviation √(n f (1 - f)); the largest of m such numbers is about √(2 ln m)
 * deviations above.
 */
export function mostInvolved({ epochs, sample, train }: Recipe, perUpdate: number): number {
  const { innerEpochs = 1 } = train as OptionalFields;
  const steps = stepsInRange(sample, train as OptionalFields).length;
  const share = trainedStepsOf(sample, train as OptionalFields) / steps;
  const tries = steps * epochs * train.updatesPerEpoch * innerEpochs;
  const deviation = Math.sqrt(perUpdate * share * (1 - share));
  return Math.min(perUpdate, Math.ceil(perUpdate * share + Math.sqrt(2 * Math.log(tries)) * deviation));
}
