/** Whether a recipe's sampling can be a policy, from configurations alone. */

import { join } from 'node:path';
import { findModel } from '@rldf/common/instruments/models';
import { readJson, type SchedulerConfig } from '@rldf/models';
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
  if (schedulerConfig !== undefined)
    policyScheduler({ schedulerConfig }, recipe.sample.steps, recipe.sample.eta);
}

function schedulerOf(model: string): SchedulerConfig | undefined {
  let folder: string;
  try {
    folder = findModel(model).path;
  } catch (error) {
    if (error instanceof UserError) return findConfigs(model)?.scheduler;
    throw error;
  }
  return readJson(join(folder, 'scheduler', 'scheduler_config.json'));
}
