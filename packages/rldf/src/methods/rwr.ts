// docs: docs/methods/rwr.md · paper: Lee et al. 2023, "Aligning text-to-image models using human feedback", arXiv 2302.12192; as the baseline of Black et al. 2023, arXiv 2305.13301 · code: jannerm/ddpo (pipeline/run-rwr.sh, run-sparse.sh)
import { momentsOf } from '../advantages.js';
import {
  describeDenoising,
  keptOf,
  type RwrRecipe,
  rwrArithmetic,
  rwrProblems,
  rwrSchema,
} from '../config/weighted-schema.js';
import type { Objective } from './denoising.js';
import type { Method } from './method.js';
import { createWeightedTraining, groupsOf, lessonOf, type ScoredPicture } from './weighted-learning.js';

export { type RwrRecipe, rwrSchema };

// L = (1/N) Σ_i w_i ‖target_i - answer_i‖², over own pictures i

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

/** ‖target - answer‖², the mean over latent elements; the lesson's weight does the rest. */
export const regression: Objective = ([error]) => ({ loss: error!, observed: { 'loss/denoising': error! } });

function lessons({ train }: RwrRecipe, pictures: readonly ScoredPicture[]) {
  const compared = train.over === 'epoch' ? [[...pictures]] : groupsOf(pictures);
  return compared
    .flatMap((group) => {
      const rewards = group.map(({ reward }) => reward);
      const weights =
        train.weights === 'sparse'
          ? sparseWeights(rewards, train)
          : exponentialWeights(rewards, train.temperature, train);
      return group.map((picture, i) => lessonOf(picture, weights[i] as number));
    })
    .filter(({ weight }) => weight > 0);
}

export const rwr = {
  schema: rwrSchema,
  create: (recipe, pipeline, context) =>
    createWeightedTraining(recipe, pipeline, context, {
      method: 'rwr',
      objective: regression,
      base: false,
      lessons: (pictures) => lessons(recipe, pictures),
    }),
  problems: rwrProblems,
  arithmetic: rwrArithmetic,
  describe: describeDenoising,
  holds: 'pictures',
} satisfies Method<RwrRecipe>;
