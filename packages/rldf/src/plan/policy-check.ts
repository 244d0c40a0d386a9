/** Whether a recipe's sampling can be a policy, from configurations alone. */

import { findModel } from '@rldf/common/instruments/models';
import {
  openModel,
  POLICIES,
  type PolicyName,
  passedOver,
  type SchedulerConfig,
  type SchedulerName,
} from '@rldf/models';
import { UserError } from '@rldf/torch/errors';
import { methodOf } from '../methods/index.js';
import type { Recipe } from '../recipe/recipe.js';
import { policyScheduler } from '../sampling/rollout.js';
import { findConfigs } from './model-configs.js';

/**
 * Refuses what training would refuse at its first picture; a model that is not here, and of which no configuration is known,
 * passes.
 * @throws UserError when a denoising step of the policy has no noise
 */
export function checkPolicy(recipe: Recipe): void {
  if (!methodOf(recipe).drawsByPolicy) return;
  const schedulerConfig = schedulerOf(recipe.model);
  if (schedulerConfig === undefined) return;
  const { steps, eta } = recipe.sample;
  policyScheduler({ schedulerConfig }, steps, eta, policyNameOf(recipe));
}

/** The policy of a recipe that draws by one. */
export function policyNameOf({ sample }: Recipe): PolicyName {
  return (sample as { scheduler?: PolicyName }).scheduler ?? 'ddim';
}

/** What a recipe draws with in training, whatever scheduler the model has; undefined if it is the model's own. */
export function trainingScheduler(recipe: Recipe): SchedulerName | undefined {
  // IP-RLDF needs neither probabilities nor gradients of what it draws
  return recipe.method === 'ip-rldf' ? undefined : POLICIES[policyNameOf(recipe)];
}

/** What of the model's scheduler_config.json is not followed, and why. */
export function samplerNotices(recipe: Recipe, config: SchedulerConfig): string[] {
  const own = config._class_name ?? 'DDIMScheduler';
  const inTraining = trainingScheduler(recipe) ?? own;
  const why =
    methodOf(recipe).drawsByPolicy === true
      ? 'a policy needs the probability of each step'
      : 'the gradient is followed through its steps';
  return [
    ...(inTraining === own
      ? []
      : [`sampler: training draws with ${inTraining}, evaluation with the model’s ${own} — ${why}`]),
    ...passedOverNotices(config),
  ];
}

/** Options of other samplers that the model's own one does not have. */
export function passedOverNotices(config: SchedulerConfig): string[] {
  return passedOver(config).map(
    (key) =>
      `sampler: the model’s ${key}: ${JSON.stringify(config[key])} is passed over, as in diffusers — ${config._class_name ?? 'DDIMScheduler'} has no such option`,
  );
}

function schedulerOf(model: string): SchedulerConfig | undefined {
  let path: string;
  try {
    path = findModel(model).path;
  } catch (error) {
    if (error instanceof UserError) return findConfigs(model)?.scheduler;
    throw error;
  }
  return openModel(path).config('scheduler').config;
}
