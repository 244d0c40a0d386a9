// docs: docs/methods/draft.md · paper: Clark et al. 2024, "Directly fine-tuning diffusion models on differentiable rewards", arXiv 2309.17400, section 4 · no public code
//
// The loss is the reward itself, L(θ) = -r(x_0, c), followed back through the last K denoising steps; through all of them it is
// DRaFT.
import type { Pipeline } from '@rldf/models';
import type { Tensor } from '@rldf/torch';
import { batchArithmetic } from '../config/batch-arithmetic.js';
import { progress, type Training, type TrainingContext, type TrainingEvent } from '../run/training.js';
import { lastSteps } from '../sampling/differentiable-sampling.js';
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
import { type DraftKRecipe, draftKProblems, draftKSchema } from './reward-gradient-schema.js';

/** One step of the training is one epoch of drawing and learning. */
export function createDraftK(recipe: DraftKRecipe, pipeline: Pipeline, context: TrainingContext): Training {
  const { sample, train } = recipe;
  const reward = differentiableReward(recipe, context);
  const learner = new Learner(pipeline, recipe, batchArithmetic(recipe).updates);
  const loss = (rewards: Tensor) => rewards.neg();
  const followed = lastSteps(sample.steps, train.gradientSteps); // the last K

  async function* run(from: number): AsyncGenerator<TrainingEvent> {
    for (let epoch = from; epoch < recipe.epochs; epoch++) yield* runEpoch(epoch);
  }

  async function* runEpoch(epoch: number): AsyncGenerator<TrainingEvent> {
    const updates = updatesOf(learner, recipe, context.prompts, epoch);
    const report = new EpochReport();
    try {
      for (const [update, pictures] of updates.entries()) {
        for await (const batch of batchesOf(learner, recipe, pictures, update)) {
          const steps = batch.pictures.map(() => followed);
          const drawn = yield* drawing(batch, batch.sampler.sample(steps)); // x_0
          report.add(batch, yield* followReward(learner, batch, drawn, reward, loss)); // dL/dθ
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

export const draftK = {
  schema: draftKSchema,
  create: createDraftK,
  problems: draftKProblems,
  plan: {
    arithmetic: (recipe) =>
      rewardGradientArithmetic(recipe, {
        drawn: recipe.sample.steps,
        followed: recipe.train.gradientSteps,
      }),
    miniature(recipe, steps) {
      const small = rewardGradientMiniature(recipe, steps);
      const gradientSteps = Math.min(small.train.gradientSteps, steps);
      return { ...small, train: { ...small.train, gradientSteps } };
    },
    holds: 'nothing',
  },
  followsReward: true,
} satisfies Method<DraftKRecipe>;
