// docs: docs/methods/dpo.md · paper: Wallace et al. 2023, "Diffusion Model Alignment Using Direct Preference Optimization", arXiv 2311.12908, equation 14 · code: SalesforceAIResearch/DiffusionDPO
import { scope, stack, type Tensor } from '@rldf/torch';
import { type DpoRecipe, dpoArithmetic, dpoProblems, dpoSchema } from '../config/dpo-schema.js';
import { describeDenoising } from '../config/weighted-schema.js';
import type { Lesson, Objective } from './denoising.js';
import type { Method } from './method.js';
import { createWeightedTraining, groupsOf, type ScoredPicture } from './weighted-learning.js';

export { type DpoRecipe, dpoSchema };

// B pairs · w the better, l the worse picture

/**
 * Of each pair -log σ(margin) with margin = -β/2 [(e_w - e_w,ref) - (e_l - e_l,ref)], where e is the mean squared
 * error of denoising: T ω(λ_t) of the paper lies in β, as in its code.
 * @param errors of the better and of the worse picture, [B] each
 * @param baseErrors the same of the reference
 * @returns loss and margin, [B]
 */
export function preferenceLoss(
  [better, worse]: readonly [Tensor, Tensor],
  [betterBase, worseBase]: readonly [Tensor, Tensor],
  beta: number,
): { loss: Tensor; margin: Tensor } {
  return scope(() => {
    const margin = better
      .sub(betterBase)
      .sub(worse.sub(worseBase))
      .mul(-beta / 2); // [B]
    const loss = stack([margin.mul(0), margin.neg()]).logsumexp([0]); // [B], log(1 + exp(-margin))
    return { loss, margin };
  });
}

/** Two pictures of one prompt, the better first; none of pictures that are worth the same. */
export function rankedPairs(
  pictures: readonly ScoredPicture[],
  pairs: 'extremes' | 'all',
): [better: ScoredPicture, worse: ScoredPicture][] {
  return groupsOf(pictures).flatMap((group) => {
    const ranked = group.toSorted((a, b) => b.reward - a.reward);
    const all = ranked.flatMap((better, i) =>
      ranked.slice(i + 1).map((worse): [ScoredPicture, ScoredPicture] => [better, worse]),
    );
    const chosen = pairs === 'all' ? all : all.slice(ranked.length - 2, ranked.length - 1);
    return chosen.filter(([better, worse]) => better.reward > worse.reward);
  });
}

/** Both get the same timestep and the same noise, so that their errors compare. */
function lessonOfPair([better, worse]: [ScoredPicture, ScoredPicture]): Lesson {
  const path = [...better.path, worse.path.at(-1) as number];
  const denoised = ({ latents, row, prompt }: ScoredPicture) => ({ latents, row, caption: prompt, path });
  return { pictures: [denoised(better), denoised(worse)], weight: 1 };
}

const objective =
  ({ train }: DpoRecipe): Objective =>
  (errors, baseErrors) => {
    const [better, worse] = errors as [Tensor, Tensor];
    const { loss, margin } = preferenceLoss([better, worse], baseErrors as [Tensor, Tensor], train.beta);
    return {
      loss,
      observed: {
        'dpo/margin': margin,
        'dpo/accuracy': margin.gt(0).to('float32'),
        'loss/better': better,
        'loss/worse': worse,
      },
    };
  };

export const dpo = {
  schema: dpoSchema,
  create: (recipe, pipeline, context) =>
    createWeightedTraining(recipe, pipeline, context, {
      method: 'dpo',
      objective: objective(recipe),
      base: true,
      lessons: (pictures) => rankedPairs(pictures, recipe.train.pairs).map(lessonOfPair),
    }),
  problems: dpoProblems,
  arithmetic: dpoArithmetic,
  describe: describeDenoising,
  holds: 'pictures',
} satisfies Method<DpoRecipe>;
