/** Whether a training fits into this machine's memory, asked before any of it is loaded. Small ones just begin. */

import { findModel } from '@rldf/common/instruments/models';
import { openModel, storedDtypes, type UNet2DConditionConfig } from '@rldf/models';
import { UserError } from '@rldf/torch/errors';
import { byteWords, machineMemory } from '../base/machine.js';
import { methodOf } from '../methods/index.js';
import type { Recipe } from '../recipe/recipe.js';
import { type Plan, plan, processBytes } from './plan.js';

export interface TrainingCheck {
  /** Bytes that there are. */
  memory?: number;
  /** The run began elsewhere or before: nothing of its recipe may change. */
  begun?: boolean;
}

/**
 * @throws UserError when the recipe needs more memory than there is, with what would fit; what runs on a GPU is not looked at
 */
export async function checkTraining(
  recipe: Recipe,
  { memory = machineMemory(), begun = false }: TrainingCheck = {},
): Promise<void> {
  if (recipe.device !== 'cpu' || roughly(recipe) < memory / 2) return;
  const planned = await plan(recipe, { memory: Math.max(memory, processBytes + 1), calibration: 0 });
  const { asked, chosen, fits, askedMemory } = planned;
  if (fits && asked.sample === chosen.sample && asked.train === chosen.train) return;
  const { drawing, learning, evaluation } = askedMemory.phases;
  const phases = `${byteWords(drawing)} drawing, ${byteWords(learning)} learning, ${byteWords(evaluation)} evaluating`;
  throw new UserError(
    `${recipe.method} on ${planned.model}: about ${byteWords(askedMemory.peak + processBytes)} of memory are needed (tensors: ${phases}), and this machine has ${byteWords(memory)} — what does not fit is killed. ${begun ? 'Continue it where there is more memory' : fixOf(planned)}`,
  );
}

function fixOf({ asked, chosen, fits, memory, wayOut }: Plan): string {
  const sizes = [
    ...(chosen.sample < asked.sample ? [`--set sample.batchSize=${chosen.sample}`] : []),
    ...(chosen.train < asked.train ? [`--set train.batchSize=${chosen.train}`] : []),
  ].join(' ');
  if (fits) return `Use ${sizes}; what is learned stays the same`;
  const smaller = wayOut.filter((way) => way.fits);
  if (smaller.length > 0)
    return `Use --set sample.batchSize=1 --set train.batchSize=1 ${smaller.map(({ settings }) => settings).join(' or ')}, which learns ${smaller[0]!.learns}`;
  return `Even one picture at a time takes ${byteWords(memory.peak + processBytes)}: draw fewer pictures an epoch, or take a smaller model or a larger machine`;
}

/**
 * More bytes than the process takes, from sizes alone: weights with gradients and moments, what autograd keeps of a place of
 * latents, and what an epoch holds. A network's activations a place are below a fiftieth of its weights, except in tiny ones.
 */
export function roughly(recipe: Recipe): number {
  const { sample, train } = recipe;
  const { path, bytes: stored } = findModel(recipe.model);
  const bytes = stored * (storedDtypes(path).unet === 'float32' ? 1 : 2); // in half precision on the disk, float32 in memory
  const { sample_size: size, in_channels: channels = 4 } = openModel(path).config('unet')
    .config as UNet2DConditionConfig;
  const places = typeof size === 'object' && size !== null ? size[0] * size[1] : (size ?? 64) ** 2;
  const pictures = sample.promptsPerEpoch * sample.picturesPerPrompt;
  const batch = Math.min(pictures, Math.max(sample.batchSize, train.batchSize));
  const { kept = 0, drawn = pictures } = methodOf(recipe).plan.keeps?.(recipe) ?? {};
  const latents = 4 * channels * places;
  const held = drawn * ((sample.steps + 2) * latents + 1000 * places) + kept * latents;
  const steps = methodOf(recipe).followsReward ? sample.steps : 1; // that one gradient passes through
  return processBytes + 8 * bytes + steps * batch * places * (bytes / 50 + 2e5) + held;
}
