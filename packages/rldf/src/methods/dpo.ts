// docs: docs/methods/dpo.md · paper: Wallace et al. 2023, "Diffusion Model Alignment Using Direct Preference Optimization", arXiv 2311.12908, equation 14 · code: SalesforceAIResearch/DiffusionDPO
//
// Own pictures of a prompt are ranked by reward; of a better one w and a worse one l, at the same timestep and noise,
//
//   L = -log σ( -β/2 [ (e_w - e_w,ref) - (e_l - e_l,ref) ] ),   e = ‖target - prediction‖², ref: the model before training
import type { Pipeline } from '@rldf/models';
import { scope, stack, type Tensor } from '@rldf/torch';
import { mapYields } from '../base/generators.js';
import { batchArithmetic } from '../config/batch-arithmetic.js';
import { progress, type Training, type TrainingContext, type TrainingEvent } from '../run/training.js';
import {
  type DenoisingReport,
  denoisingMetrics,
  denoisingUpdate,
  type Example,
  examplesOfUpdate,
  groupsOf,
  type Objective,
  type ScoredPicture,
  scoredEpoch,
} from './denoising.js';
import { denoisingArithmetic, describeDenoising } from './denoising-plan.js';
import { type DpoRecipe, dpoProblems, dpoSchema, pairsOf } from './dpo-schema.js';
import { Learner } from './learner.js';
import type { Method } from './method.js';

export { type DpoRecipe, dpoSchema };

// B pairs · w the better, l the worse picture

/** One step of the training is one epoch of drawing, ranking and learning. */
export function createDpo(recipe: DpoRecipe, pipeline: Pipeline, context: TrainingContext): Training {
  const { train } = recipe;
  const learner = new Learner(pipeline, recipe, batchArithmetic(recipe).updates);
  const objective: Objective = ([better, worse], [betterBase, worseBase]) => {
    const { loss, margin } = preferenceLoss([better!, worse!], [betterBase!, worseBase!], train.beta);
    const accuracy = margin.gt(0).to('float32');
    const errors = { 'loss/better': better!, 'loss/worse': worse! };
    return { loss, observed: { 'dpo/margin': margin, 'dpo/accuracy': accuracy, ...errors } };
  };

  async function* run(from: number): AsyncGenerator<TrainingEvent> {
    for (let epoch = from; epoch < recipe.epochs; epoch++) yield* runEpoch(epoch);
  }

  async function* runEpoch(epoch: number): AsyncGenerator<TrainingEvent> {
    const { latents, pictures, scores } = yield* scoredEpoch(learner, recipe, context, epoch); // x_0 ~ p_θ, r(x_0, c)
    try {
      const examples = rankedPairs(pictures, train.pairs).map(exampleOfPair); // (w, l)
      const updates = train.innerEpochs * train.updatesPerEpoch;
      const reports: DenoisingReport[] = [];
      for (let update = 0; update < updates; update++) {
        const part = examplesOfUpdate(recipe, examples, epoch, update);
        if (part.length === 0) continue;
        const learningRate = train.learningRate * learner.schedule(epoch * updates + update);
        const updating = denoisingUpdate(learner, recipe, part, objective, learningRate, { base: true });
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
function exampleOfPair([better, worse]: [ScoredPicture, ScoredPicture]): Example {
  const path = [...better.path, worse.path.at(-1) as number];
  const denoised = ({ latents, row, prompt }: ScoredPicture) => ({ latents, row, caption: prompt, path });
  return { pictures: [denoised(better), denoised(worse)], weight: 1 };
}

export const dpo = {
  schema: dpoSchema,
  create: createDpo,
  problems: dpoProblems,
  plan: {
    arithmetic(recipe) {
      const arithmetic = denoisingArithmetic(recipe, 2 * pairsOf(recipe));
      const { samplingForwards, trainingForwards } = arithmetic;
      return { ...arithmetic, samplingForwards: samplingForwards + trainingForwards }; // the reference's have no gradient
    },
    describe: describeDenoising,
    holds: 'pictures',
  },
  drawsByPolicy: true,
} satisfies Method<DpoRecipe>;
