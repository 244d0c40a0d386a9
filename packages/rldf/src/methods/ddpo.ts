// docs: docs/methods/ddpo.md · paper: Black et al. 2023, "Training diffusion models with reinforcement learning", arXiv 2305.13301, equations 3-5 · code: kvablack/ddpo-pytorch
import type { Pipeline } from '@rldf/models';
import type { StateTree, Tensor } from '@rldf/torch';
import { PromptStatistics } from '../advantages.js';
import { batchArithmetic } from '../config/batch-arithmetic.js';
import { type DdpoRecipe, ddpoProblems, ddpoSchema } from '../config/ddpo-schema.js';
import type { Training, TrainingContext } from '../run/training.js';
import type { Method } from './method.js';
import { createPolicyGradient } from './policy-gradient.js';

export { type DdpoRecipe, ddpoSchema };

// B pictures

/**
 * The clipped surrogate of one denoising step (equation 5, PPO's form), one value a picture; its mean is minimised.
 *
 * The ratio is that of mean log-probabilities, as in the public code; `clipRange` is in the same unit.
 * @param logProb of the policy now, [B]
 * @param oldLogProb of the policy that drew, [B]
 * @param advantage [B]
 */
export function importanceSamplingLoss(
  logProb: Tensor,
  oldLogProb: Tensor,
  advantage: Tensor,
  clipRange: number,
): Tensor {
  const ratio = logProb.sub(oldLogProb).exp(); // [B]
  const unclipped = advantage.mul(ratio).neg();
  const clipped = advantage.mul(ratio.clamp(1 - clipRange, 1 + clipRange)).neg();
  return unclipped.maximum(clipped); // [B]
}

/** The score-function estimator (equation 4, REINFORCE), one value a picture. Valid for one update after each drawing. */
export function scoreFunctionLoss(logProb: Tensor, _oldLogProb: Tensor, advantage: Tensor): Tensor {
  return advantage.mul(logProb).neg(); // [B]
}

/** DDPO on a pipeline: one step of the training is one epoch of drawing, scoring and learning. */
export function createDdpo(recipe: DdpoRecipe, pipeline: Pipeline, context: TrainingContext): Training {
  const { sample, train } = recipe;
  const { bufferSize, minimumCount } = train.promptStatistics;
  const statistics = new PromptStatistics(bufferSize, minimumCount);
  return createPolicyGradient(recipe, pipeline, context, {
    loss: train.estimator === 'sf' ? scoreFunctionLoss : importanceSamplingLoss,
    advantages: ({ prompts, rewards }) =>
      statistics
        .advantages(prompts, rewards, train.advantageClip)
        .map((advantage) => Array<number>(sample.steps).fill(advantage)),
    state: () => ({ statistics: statistics.state() }),
    load: (saved) => statistics.load(saved.statistics as StateTree),
  });
}

export const ddpo = {
  schema: ddpoSchema,
  create: createDdpo,
  problems: ddpoProblems,
  arithmetic: batchArithmetic,
} satisfies Method<DdpoRecipe>;
