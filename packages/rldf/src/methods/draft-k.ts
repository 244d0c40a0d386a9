// docs: docs/methods/draft.md · paper: Clark et al. 2024, "Directly fine-tuning diffusion models on differentiable rewards", arXiv 2309.17400, section 4 · no public code
import type { Pipeline } from '@rldf/models';
import {
  type DraftKRecipe,
  draftKProblems,
  draftKSchema,
  rewardGradientArithmetic,
  rewardGradientMiniature,
} from '../config/reward-gradient-schema.js';
import type { Training, TrainingContext } from '../run/training.js';
import { lastSteps } from '../sampling/differentiable-sampling.js';
import type { Method } from './method.js';
import { createRewardGradient, drawing } from './reward-gradient.js';

/** Follows the reward through the last K denoising steps; through all of them it is DRaFT. */
export function createDraftK(recipe: DraftKRecipe, pipeline: Pipeline, context: TrainingContext): Training {
  const followed = lastSteps(recipe.sample.steps, recipe.train.gradientSteps);
  return createRewardGradient(recipe, pipeline, context, {
    async *follow({ sampler, behaviours, climb }) {
      yield* climb(yield* drawing(sampler.sample(behaviours.map(() => followed))));
    },
    loss: (rewards) => rewards.neg(),
  });
}

export const draftK = {
  schema: draftKSchema,
  create: createDraftK,
  problems: draftKProblems,
  arithmetic: (recipe) =>
    rewardGradientArithmetic(recipe, {
      drawn: recipe.sample.steps,
      followed: recipe.train.gradientSteps,
    }),
  miniature(recipe, steps) {
    const small = rewardGradientMiniature(recipe, steps);
    const gradientSteps = Math.min(small.train.gradientSteps, steps);
    return { ...small, train: { ...small.train, gradientSteps } };
  },
  holds: 'nothing',
  followsReward: true,
} satisfies Method<DraftKRecipe>;
