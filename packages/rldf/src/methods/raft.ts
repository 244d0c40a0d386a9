// docs: docs/methods/raft.md · paper: Dong et al. 2023, "RAFT: Reward rAnked FineTuning for Generative Foundation Model Alignment", arXiv 2304.06767, algorithm 1
//
// Draw K pictures of each prompt, keep the best, denoise these:
//
//   L = (1/M) Σ_m ‖target_m - prediction_m‖², over the best pictures m of each prompt
import type { Pipeline } from '@rldf/models';
import { mapYields } from '../base/generators.js';
import { batchArithmetic } from '../config/batch-arithmetic.js';
import { progress, type Training, type TrainingContext, type TrainingEvent } from '../run/training.js';
import {
  type DenoisingReport,
  denoisingMetrics,
  denoisingUpdate,
  exampleOf,
  examplesOfUpdate,
  groupsOf,
  type ScoredPicture,
  scoredEpoch,
  squaredError,
} from './denoising.js';
import { denoisingArithmetic, describeDenoising } from './denoising-plan.js';
import { type RaftRecipe, raftProblems, raftSchema } from './denoising-schema.js';
import { Learner } from './learner.js';
import type { Method } from './method.js';

export { type RaftRecipe, raftSchema };

/** One step of the training is one epoch of drawing, scoring and learning. */
export function createRaft(recipe: RaftRecipe, pipeline: Pipeline, context: TrainingContext): Training {
  const { train } = recipe;
  const learner = new Learner(pipeline, recipe, batchArithmetic(recipe).updates);

  async function* run(from: number): AsyncGenerator<TrainingEvent> {
    for (let epoch = from; epoch < recipe.epochs; epoch++) yield* runEpoch(epoch);
  }

  async function* runEpoch(epoch: number): AsyncGenerator<TrainingEvent> {
    const { latents, pictures, scores } = yield* scoredEpoch(learner, recipe, context, epoch); // x_0 ~ p_θ, r(x_0, c)
    try {
      const examples = bestOfEach(pictures, train.best).map((picture) => exampleOf(picture, 1));
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

/** The `best` pictures of each prompt; of equal ones those drawn first. */
export function bestOfEach(pictures: readonly ScoredPicture[], best: number): ScoredPicture[] {
  return groupsOf(pictures).flatMap((group) => group.toSorted((a, b) => b.reward - a.reward).slice(0, best));
}

export const raft = {
  schema: raftSchema,
  create: createRaft,
  problems: raftProblems,
  plan: {
    arithmetic: (recipe) => denoisingArithmetic(recipe, recipe.sample.promptsPerEpoch * recipe.train.best),
    describe: describeDenoising,
    holds: 'pictures',
  },
  drawsByPolicy: true,
} satisfies Method<RaftRecipe>;
