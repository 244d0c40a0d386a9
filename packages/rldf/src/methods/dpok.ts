// docs: docs/methods/dpok.md · paper: Fan et al. 2023, "DPOK: Reinforcement learning for fine-tuning text-to-image diffusion models", arXiv 2305.16381 · code: google-research/dpok
import type { Pipeline } from '@rldf/models';
import type { StateTree, Tensor } from '@rldf/torch';
import { type Moments, momentsOf } from '../advantages.js';
import { batchArithmetic } from '../config/batch-arithmetic.js';
import { type DpokRecipe, dpokProblems, dpokSchema } from '../config/dpok-schema.js';
import type { Training, TrainingContext } from '../run/training.js';
import { noiseKlFactors, policyScheduler } from '../sampling/rollout.js';
import { mean } from '../stats.js';
import { importanceSamplingLoss } from './ddpo.js';
import { ValueFunction } from './dpok-value.js';
import type { Method } from './method.js';
import { createPolicyGradient } from './policy-gradient.js';

export { type DpokRecipe, dpokSchema };

// B pictures

/**
 * The public code's policy loss of one denoising step, one value a picture: the ratio is cut off on both sides. Unlike PPO's
 * form it has no gradient beyond the band even where that would lead back into it.
 *
 * @param logProb of the policy now, [B]
 * @param oldLogProb of the policy that drew, [B]
 * @param advantage [B]
 */
export function cutRatioLoss(
  logProb: Tensor,
  oldLogProb: Tensor,
  advantage: Tensor,
  clipRange: number,
): Tensor {
  const ratio = logProb.sub(oldLogProb).exp(); // [B]
  return advantage.mul(ratio.clamp(1 - clipRange, 1 + clipRange)).neg(); // [B]
}

/**
 * DPOK: the mean over (picture, step) pairs of alpha · (r - V(x_t, z, t)) · clipped ratio is raised, that of
 * beta · KL(policy ‖ policy before training) lowered. Rewards are taken in units of the first epoch's spread, from its mean.
 */
export function createDpok(recipe: DpokRecipe, pipeline: Pipeline, context: TrainingContext): Training {
  const { sample, train } = recipe;
  const publicCode = train.variant === 'publicCode';
  const value = new ValueFunction(recipe, pipeline);
  let valueError = 0;
  /** Of the first epoch's rewards: the unit in which all are learned from. */
  let unit: Moments | null = null;
  return createPolicyGradient(recipe, pipeline, context, {
    loss: publicCode ? cutRatioLoss : importanceSamplingLoss,
    ...(publicCode
      ? { klFactors: noiseKlFactors(policyScheduler(pipeline, sample.steps, sample.eta), sample.eta) }
      : {}),
    async advantages(drawn) {
      unit ??= momentsOf(drawn.rewards);
      const { mean: zero, std } = unit;
      const rewards = drawn.rewards.map((reward) => (reward - zero) / (std > 1e-12 ? std : 1));
      const scored = { ...drawn, rewards };
      const expected = value.values(scored); // before it is shown these rewards: a baseline must not know them
      await value.fit(scored);
      const errors = expected.map((ofSteps, i) => ofSteps.map((v) => (rewards[i] as number) - v));
      valueError = mean(errors.flat().map((error) => error ** 2));
      return errors.map((ofSteps) => ofSteps.map((error) => train.rewardWeight * error));
    },
    metrics: () => ({ 'value/meanSquareError': valueError }),
    state: () => ({ value: value.state(), unit: unit && { mean: unit.mean, std: unit.std } }),
    load(saved) {
      value.load(saved.value as StateTree);
      unit = saved.unit as Moments | null;
    },
    free: () => value.free(),
  });
}

export const dpok = {
  schema: dpokSchema,
  create: createDpok,
  problems: dpokProblems,
  arithmetic: batchArithmetic,
} satisfies Method<DpokRecipe>;
