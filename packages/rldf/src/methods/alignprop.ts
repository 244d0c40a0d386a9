// docs: docs/methods/alignprop.md · paper: Prabhudesai et al. 2023, "Aligning text-to-image diffusion models with reward backpropagation", arXiv 2310.03739 · code: mihirp1998/AlignProp
import type { Behaviour, Pipeline } from '@rldf/models';
import { noiseKey, Random } from '@rldf/torch';
import {
  type AlignPropRecipe,
  alignPropProblems,
  alignPropSchema,
  rewardGradientArithmetic,
  rewardGradientMiniature,
} from '../config/reward-gradient-schema.js';
import type { Training, TrainingContext } from '../run/training.js';
import { lastSteps } from '../sampling/differentiable-sampling.js';
import type { Method } from './method.js';
import { createRewardGradient, drawing } from './reward-gradient.js';

/** Follows the reward through the last K denoising steps, K drawn anew for each picture (truncated back-propagation). */
export function createAlignProp(
  recipe: AlignPropRecipe,
  pipeline: Pipeline,
  context: TrainingContext,
): Training {
  const windowOf = (behaviour: Behaviour) => followedSteps(recipe, behaviour);
  return createRewardGradient(recipe, pipeline, context, {
    async *follow({ sampler, behaviours, climb }) {
      yield* climb(yield* drawing(sampler.sample(behaviours.map(windowOf))));
    },
    loss: (rewards) => rewards.neg(), // equation 3
    metrics: (behaviours) => ({
      'gradient/steps': behaviours.reduce((sum, b) => sum + windowOf(b).size, 0) / behaviours.length,
    }),
  });
}

/** The steps (0 to T - 1) of a picture that the gradient flows through. */
export function followedSteps(
  { seed, sample: { steps }, train: { window } }: Pick<AlignPropRecipe, 'seed' | 'sample' | 'train'>,
  { path }: Behaviour,
): Set<number> {
  const random = new Random(noiseKey(seed, 'gradient window', ...path));
  switch (window.kind) {
    case 'fixed':
      return lastSteps(steps, window.steps as number);
    case 'uniform':
      return lastSteps(steps, 1 + random.integer(steps));
    case 'gaussian':
      for (;;) {
        const length = Math.round((window.steps as number) + window.spread * standardNormal(random));
        if (length >= 1 && length <= steps) return lastSteps(steps, length);
      }
    case 'trl-per-step': // each step by itself, followed if a number from 0 to T is not above its own
      return new Set(
        Array.from({ length: steps }, (_, i) => i).filter((i) => random.integer(steps + 1) <= i),
      );
  }
}

/** Box & Muller 1958. */
function standardNormal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.uniform())) * Math.cos(2 * Math.PI * random.uniform());
}

function arithmetic(recipe: AlignPropRecipe) {
  const { steps } = recipe.sample;
  const { kind, steps: given = 1 } = recipe.train.window;
  const followed = {
    uniform: (steps + 1) / 2,
    gaussian: given,
    fixed: given,
    'trl-per-step': (steps * (steps + 1)) / 2 / (steps + 1),
  }[kind];
  return rewardGradientArithmetic(recipe, { drawn: steps, followed });
}

export const alignprop = {
  schema: alignPropSchema,
  create: createAlignProp,
  problems: alignPropProblems,
  arithmetic,
  miniature(recipe, steps) {
    const small = rewardGradientMiniature(recipe, steps);
    return { ...small, train: { ...small.train, window: { kind: 'fixed', steps, spread: 1 } } };
  },
  holds: 'nothing',
  followsReward: true,
} satisfies Method<AlignPropRecipe>;
