// docs: docs/methods/rwr.md · paper: Lee et al. 2023, "Aligning text-to-image models using human feedback", arXiv 2302.12192; as the baseline of Black et al. 2023, arXiv 2305.13301 · code: jannerm/ddpo (pipeline/run-rwr.sh, run-sparse.sh)
//
// Reward-weighted regression: denoise own pictures, the better ones more,
//
//   L = (1/N) Σ_i w_i ‖target_i - prediction_i‖²,   w_i = N exp(r_i / τ) / Σ_j exp(r_j / τ)

import { momentsOf } from '@rldf/common/base/stats';
import type { Pipeline } from '@rldf/models';
import { mapYields } from '../base/generators.js';
import { batchArithmetic } from '../config/batch-arithmetic.js';
import { progress, type Training, type TrainingContext, type TrainingEvent } from '../run/training.js';
import {
  type DenoisingReport,
  denoisingMetrics,
  denoisingUpdate,
  type Example,
  exampleOf,
  examplesOfUpdate,
  groupsOf,
  type ScoredPicture,
  scoredEpoch,
  squaredError,
} from './denoising.js';
import { denoisingArithmetic, describeDenoising } from './denoising-plan.js';
import { type RwrRecipe, rwrProblems, rwrSchema } from './denoising-schema.js';
import { Learner } from './learner.js';
import type { Method } from './method.js';

export { type RwrRecipe, rwrSchema };

/** One step of the training is one epoch of drawing, scoring and learning. */
export function createRwr(recipe: RwrRecipe, pipeline: Pipeline, context: TrainingContext): Training {
  const { train } = recipe;
  const learner = new Learner(pipeline, recipe, batchArithmetic(recipe).updates);

  async function* run(from: number): AsyncGenerator<TrainingEvent> {
    for (let epoch = from; epoch < recipe.epochs; epoch++) yield* runEpoch(epoch);
  }

  async function* runEpoch(epoch: number): AsyncGenerator<TrainingEvent> {
    const { latents, pictures, scores } = yield* scoredEpoch(learner, recipe, context, epoch); // x_0 ~ p_θ, r(x_0, c)
    try {
      const examples = weightedExamples(recipe, pictures); // w_i
      const updates = train.innerEpochs * train.updatesPerEpoch;
      const reports: DenoisingReport[] = [];
      for (let update = 0; update < updates; update++) {
        const part = examplesOfUpdate(recipe, examples, epoch, update);
        if (part.length === 0) continue;
        const learningRate = train.learningRate * learner.schedule(epoch * updates + update);
        const updating = denoisingUpdate(learner, recipe, part, squaredError, learningRate);
        const share = (done: number) => progress('learning', (update + done) / updates, false);
        reports.push(yield* mapYields(updating, share));
      }
      const metrics = denoisingMetrics(scores, examples, reports);
      yield { kind: 'step', step: epoch + 1, metrics, pictures: pictures.length };
    } finally {
      latents.free();
    }
  }

  return {
    steps: recipe.epochs,
    run,
    state: () => learner.state(),
    load: (state) => learner.load(state),
    draw: (requests) => learner.draw(requests),
    exportTo: (folder) => learner.exportTo(folder),
    free: () => learner.free(),
  };
}

/** Each picture with its weight among those it is compared with; without those of weight 0. */
function weightedExamples({ train }: RwrRecipe, pictures: readonly ScoredPicture[]): Example[] {
  const compared = train.over === 'epoch' ? [[...pictures]] : groupsOf(pictures);
  return compared
    .flatMap((group) => {
      const rewards = group.map(({ reward }) => reward);
      const weights =
        train.weights === 'sparse'
          ? sparseWeights(rewards, train)
          : exponentialWeights(rewards, train.temperature, train);
      return group.map((picture, i) => exampleOf(picture, weights[i] as number));
    })
    .filter(({ weight }) => weight > 0);
}

/**
 * w_i = N exp(r_i / τ) / Σ_j exp(r_j / τ): their mean is 1, and equal rewards weigh 1 each.
 * @param standardise compare rewards in deviations from their mean instead of in their own unit
 */
export function exponentialWeights(
  rewards: readonly number[],
  temperature: number,
  { standardise }: { standardise: boolean },
): number[] {
  const { mean, std } = momentsOf(rewards);
  const compared = standardise ? rewards.map((reward) => (reward - mean) / (std + 1e-6)) : rewards;
  const most = Math.max(...compared);
  const unnormalised = compared.map((value) => Math.exp((value - most) / temperature));
  const sum = unnormalised.reduce((total, value) => total + value, 0);
  return unnormalised.map((value) => (rewards.length * value) / sum);
}

/** 1 for the best `topFraction` of them (rounded up, those equal to the last one too) or from `threshold` up, else 0. */
export function sparseWeights(
  rewards: readonly number[],
  keep: { topFraction?: number | undefined; threshold?: number | undefined },
): number[] {
  const { topFraction, threshold } = keep;
  const ranked = rewards.toSorted((a, b) => b - a);
  const kept = topFraction === undefined ? 1 : keptOf(topFraction, rewards.length);
  const least = threshold ?? (ranked[kept - 1] as number);
  return rewards.map((reward) => (reward >= least ? 1 : 0));
}

/** ⌈fraction · count⌉, not one more where the product is off by rounding (0.07 · 100 > 7). */
const keptOf = (fraction: number, count: number) => Math.max(1, Math.ceil(fraction * count - 1e-9));

export const rwr = {
  schema: rwrSchema,
  create: createRwr,
  problems: rwrProblems,
  plan: {
    arithmetic(recipe) {
      const { promptsPerEpoch, picturesPerPrompt } = recipe.sample;
      const { weights, topFraction = 1, over } = recipe.train;
      const [groups, size] =
        over === 'prompt' ? [promptsPerEpoch, picturesPerPrompt] : [1, promptsPerEpoch * picturesPerPrompt];
      const each = weights === 'sparse' ? keptOf(topFraction, size) : size;
      return denoisingArithmetic(recipe, groups * each);
    },
    describe: describeDenoising,
    holds: 'pictures',
  },
  drawsByPolicy: true,
} satisfies Method<RwrRecipe>;
