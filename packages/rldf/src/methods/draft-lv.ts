// docs: docs/methods/draft.md · paper: Clark et al. 2024, "Directly fine-tuning diffusion models on differentiable rewards", arXiv 2309.17400, section 4 · no public code
//
// The variance of DRaFT-1's gradient is lowered: x_0 is drawn once, noised n times to the last step, and the reward is followed
// back through each of the n predictions of x_0: n gradients for one drawing,
//
//   L(θ) = -(1/n) Σ_k r(x̂_0(x_1^k), c),   x_1^k = √ᾱ_1 x_0 + √(1 - ᾱ_1) ε_k
import type { Pipeline } from '@rldf/models';
import type { Tensor } from '@rldf/torch';
import { batchArithmetic } from '../config/batch-arithmetic.js';
import { progress, type Training, type TrainingContext, type TrainingEvent } from '../run/training.js';
import { Learner } from './learner.js';
import type { Method } from './method.js';
import {
  batchesOf,
  differentiableReward,
  drawing,
  EpochReport,
  followReward,
  remedy,
  updatesOf,
} from './reward-gradient.js';
import { rewardGradientArithmetic, rewardGradientMiniature } from './reward-gradient-plan.js';
import { type DraftLvRecipe, draftLvProblems, draftLvSchema } from './reward-gradient-schema.js';

/** One step of the training is one epoch of drawing and learning. */
export function createDraftLv(recipe: DraftLvRecipe, pipeline: Pipeline, context: TrainingContext): Training {
  const { sample, train } = recipe;
  const reward = differentiableReward(recipe, context);
  const learner = new Learner(pipeline, recipe, batchArithmetic(recipe).updates);
  const loss = (rewards: Tensor) => rewards.neg();
  const last = sample.steps - 1;

  async function* run(from: number): AsyncGenerator<TrainingEvent> {
    for (let epoch = from; epoch < recipe.epochs; epoch++) yield* runEpoch(epoch);
  }

  async function* runEpoch(epoch: number): AsyncGenerator<TrainingEvent> {
    const updates = updatesOf(learner, recipe, context.prompts, epoch);
    const report = new EpochReport();
    try {
      for (const [update, pictures] of updates.entries()) {
        for await (const batch of batchesOf(learner, recipe, pictures, update)) {
          const original = yield* drawing(batch, batch.sampler.draw()); // x_0
          try {
            for (let k = 0; k < train.noisings; k++) {
              const noised = batch.sampler.noised(original, last, k); // x_1^k
              const predicted = batch.sampler.prediction(noised, last); // x̂_0
              const share = 1 / train.noisings;
              const judged = yield* followReward(learner, batch, predicted, reward, loss, share); // dL/dθ
              if (k === 0) report.add(batch, judged);
              else judged.images.free();
            }
          } finally {
            original.free();
          }
        }
        yield* report.score(context, progress('learning', (update + 1) / updates.length, update === 0));
        const learningRate = train.learningRate * learner.schedule(epoch * updates.length + update);
        report.stepped(learner.step(learningRate, remedy), learningRate);
      }
    } finally {
      report.free();
    }
    yield { kind: 'step', step: epoch + 1, metrics: report.metrics(), pictures: updates.flat().length };
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

export const draftLv = {
  schema: draftLvSchema,
  create: createDraftLv,
  problems: draftLvProblems,
  plan: {
    arithmetic: (recipe) => {
      const { noisings } = recipe.train;
      return rewardGradientArithmetic(recipe, { drawn: recipe.sample.steps + noisings, followed: noisings });
    },
    miniature: rewardGradientMiniature,
    holds: 'nothing',
  },
  followsReward: true,
} satisfies Method<DraftLvRecipe>;
