// docs: docs/methods/ddpo.md · paper: Black et al. 2023, "Training diffusion models with reinforcement learning", arXiv 2305.13301, equations 3-5 · code: kvablack/ddpo-pytorch
//
// Denoising is a decision process of T steps whose policy is p_θ(x_{t-1} | x_t, c), a Gaussian; only x_0 is rewarded:
//
//   ∇J = E[ Σ_t ∇ log p_θ(x_{t-1} | x_t, c) r(x_0, c) ]
//
// An epoch draws by the policy, scores, turns rewards into advantages, and takes some optimiser steps on what was drawn.

import { momentsOf } from '@rldf/common/base/stats';
import type { Pipeline } from '@rldf/models';
import { free, type StateTree, type Tensor } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { mapYields } from '../base/generators.js';
import { batchArithmetic } from '../config/batch-arithmetic.js';
import { progress, type Training, type TrainingContext, type TrainingEvent } from '../run/training.js';
import { type DdpoRecipe, ddpoProblems, ddpoSchema } from './ddpo-schema.js';
import { Learner } from './learner.js';
import type { Method } from './method.js';
import {
  drawEpoch,
  policyMetrics,
  policyOf,
  policyUpdate,
  requireSamePolicy,
  rolloutsOf,
  samplesOfUpdate,
  scoreEpoch,
  type UpdateReport,
} from './policy-gradient.js';

export { type DdpoRecipe, ddpoSchema };

// B pictures

/** DDPO on a pipeline: one step of the training is one epoch of drawing, scoring and learning. */
export function createDdpo(recipe: DdpoRecipe, pipeline: Pipeline, context: TrainingContext): Training {
  const { sample, train } = recipe;
  const learner = new Learner(pipeline, recipe, batchArithmetic(recipe).updates);
  const loss = train.estimator === 'sf' ? scoreFunctionLoss : importanceSamplingLoss;
  const policy = policyOf(learner, recipe, loss);
  const { bufferSize, minimumCount } = train.promptStatistics;
  const statistics = new PromptStatistics(bufferSize, minimumCount);

  async function* run(from: number): AsyncGenerator<TrainingEvent> {
    for (let epoch = from; epoch < recipe.epochs; epoch++) yield* runEpoch(epoch);
  }

  async function* runEpoch(epoch: number): AsyncGenerator<TrainingEvent> {
    const pictures = yield* drawEpoch(learner, recipe, context, epoch); // x_T, ..., x_0 ~ p_θ
    try {
      const scores = yield* scoreEpoch(context, pictures); // r(x_0, c)
      const texts = pictures.map(({ prompt }) => prompt.text);
      const advantages = statistics.advantages(texts, scores.total, train.advantageClip); // Â, for all steps of a picture
      const samples = pictures.map((picture, i) => ({
        ...picture,
        advantages: Array<number>(sample.steps).fill(advantages[i] as number),
      }));
      const updates = train.innerEpochs * train.updatesPerEpoch;
      const reports: UpdateReport[] = [];
      for (let update = 0; update < updates; update++) {
        const part = samplesOfUpdate(recipe, samples, epoch, update);
        const learningRate = train.learningRate * learner.schedule(epoch * updates + update);
        const updating = policyUpdate(learner, policy, part, learningRate); // one step along ∇J
        const report = yield* mapYields(updating, (share) =>
          progress('learning', (update + share) / updates, false),
        );
        if (update === 0) requireSamePolicy(learner, recipe, epoch, report);
        reports.push(report);
      }
      const metrics = policyMetrics(scores, samples, reports, recipe);
      yield { kind: 'step', step: epoch + 1, metrics, pictures: pictures.length };
    } finally {
      free(rolloutsOf(pictures));
    }
  }

  return {
    steps: recipe.epochs,
    run,
    state: () => ({ ...learner.state(), statistics: statistics.state() }),
    load(saved) {
      learner.load(saved);
      statistics.load((saved as { statistics: StateTree }).statistics);
    },
    draw: (requests) => learner.draw(requests),
    exportTo: (folder) => learner.exportTo(folder),
    free: () => learner.free(),
  };
}

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

/**
 * Advantages by per-prompt statistics (section 4.3): how much better a picture is than what the model usually draws for its
 * prompt. Each prompt's last rewards stand in a ring buffer; a prompt with too few of them is judged by the whole batch.
 * Rewards are recorded before they are normalised, as in the public code.
 */
export class PromptStatistics {
  readonly #buffers = new Map<string, number[]>();

  /**
   * @param bufferSize rewards remembered for each prompt
   * @param minimumCount rewards needed before a prompt is judged by its own buffer
   */
  constructor(
    readonly bufferSize: number,
    readonly minimumCount: number,
  ) {}

  /** Â = (r - mean) / std, one a picture, clipped to ±clip; 0 where all rewards are equal. */
  advantages(prompts: readonly string[], rewards: readonly number[], clip: number): number[] {
    if (prompts.length !== rewards.length) {
      throw new UserError(
        `advantages: ${rewards.length} rewards for ${prompts.length} prompts — one a picture.`,
      );
    }
    const batch = momentsOf(rewards);
    prompts.forEach((prompt, i) => {
      const buffer = this.#buffers.get(prompt) ?? [];
      buffer.push(rewards[i] as number);
      this.#buffers.set(prompt, buffer.slice(-this.bufferSize));
    });
    return prompts.map((prompt, i) => {
      const buffer = this.#buffers.get(prompt) as number[];
      const { mean, std } = buffer.length < this.minimumCount ? batch : momentsOf(buffer);
      return Math.min(clip, Math.max(-clip, ((rewards[i] as number) - mean) / (std + 1e-6)));
    });
  }

  state(): StateTree {
    return Object.fromEntries(this.#buffers);
  }

  load(state: StateTree): void {
    this.#buffers.clear();
    for (const [prompt, buffer] of Object.entries(state as Record<string, number[]>))
      this.#buffers.set(prompt, [...buffer]);
  }
}

export const ddpo = {
  schema: ddpoSchema,
  create: createDdpo,
  problems: ddpoProblems,
  plan: { arithmetic: batchArithmetic },
  drawsByPolicy: true,
} satisfies Method<DdpoRecipe>;
