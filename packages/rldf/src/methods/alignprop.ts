// docs: docs/methods/alignprop.md · paper: Prabhudesai et al. 2023, "Aligning text-to-image diffusion models with reward backpropagation", arXiv 2310.03739 · code: mihirp1998/AlignProp
//
// The loss is the reward itself, followed back through the last K denoising steps, K drawn anew for each picture (truncated
// back-propagation):
//
//   (3)  L(θ) = -r(x_0, c),   dL/dθ = -∂r/∂x_0 · ∂x_0/∂θ, where x_t of the steps before is a constant
import type { Pipeline } from '@rldf/models';
import { noiseKey, Random, type Tensor } from '@rldf/torch';
import { batchArithmetic } from '../config/batch-arithmetic.js';
import { progress, type Training, type TrainingContext, type TrainingEvent } from '../run/training.js';
import { lastSteps } from '../sampling/differentiable-sampling.js';
import type { EpochPicture } from './diffexp.js';
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
import { type AlignPropRecipe, alignPropProblems, alignPropSchema } from './reward-gradient-schema.js';

/** One step of the training is one epoch of drawing and learning. */
export function createAlignProp(
  recipe: AlignPropRecipe,
  pipeline: Pipeline,
  context: TrainingContext,
): Training {
  const { train } = recipe;
  const reward = differentiableReward(recipe, context);
  const learner = new Learner(pipeline, recipe, batchArithmetic(recipe).updates);
  const loss = (rewards: Tensor) => rewards.neg(); // equation 3
  const windowOf = ({ behaviour }: EpochPicture) => followedSteps(recipe, behaviour); // the last K steps

  async function* run(from: number): AsyncGenerator<TrainingEvent> {
    for (let epoch = from; epoch < recipe.epochs; epoch++) yield* runEpoch(epoch);
  }

  async function* runEpoch(epoch: number): AsyncGenerator<TrainingEvent> {
    const updates = updatesOf(learner, recipe, context.prompts, epoch);
    const report = new EpochReport();
    try {
      for (const [update, pictures] of updates.entries()) {
        for await (const batch of batchesOf(learner, recipe, pictures, update)) {
          const windows = batch.pictures.map(windowOf);
          const drawn = yield* drawing(batch, batch.sampler.sample(windows)); // x_0
          report.add(batch, yield* followReward(learner, batch, drawn, reward, loss)); // dL/dθ
        }
        yield* report.score(context, progress('learning', (update + 1) / updates.length, update === 0));
        const learningRate = train.learningRate * learner.schedule(epoch * updates.length + update);
        report.stepped(learner.step(learningRate, remedy), learningRate);
      }
    } finally {
      report.free();
    }
    const all = updates.flat();
    const steps = all.reduce((sum, picture) => sum + windowOf(picture).size, 0) / all.length;
    const metrics = { ...report.metrics(), 'gradient/steps': steps };
    yield { kind: 'step', step: epoch + 1, metrics, pictures: all.length };
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

/** The steps (0 to T - 1) of a picture that the gradient flows through. */
export function followedSteps(
  { seed, sample: { steps }, train: { window } }: Pick<AlignPropRecipe, 'seed' | 'sample' | 'train'>,
  { path }: { path: readonly number[] },
): Set<number> {
  const random = new Random(noiseKey(seed, 'gradient window', ...path));
  switch (window.kind) {
    case 'fixed':
      return lastSteps(steps, window.steps as number);
    case 'uniform':
      return lastSteps(steps, 1 + random.integer(steps));
    case 'gaussian':
      for (;;) {
        const length = Math.round((window.steps as number) + window.spread * standardNormal(random));
        if (length >= 1 && length <= steps) return lastSteps(steps, length);
      }
    case 'trl-per-step': // each step by itself, followed if a number from 0 to T is not above its own
      return new Set(
        Array.from({ length: steps }, (_, i) => i).filter((i) => random.integer(steps + 1) <= i),
      );
  }
}

/** Box & Muller 1958. */
function standardNormal(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random.uniform())) * Math.cos(2 * Math.PI * random.uniform());
}

function arithmetic(recipe: AlignPropRecipe) {
  const { steps } = recipe.sample;
  const { kind, steps: given = 1 } = recipe.train.window;
  const followed = {
    uniform: (steps + 1) / 2,
    gaussian: given,
    fixed: given,
    'trl-per-step': (steps * (steps + 1)) / 2 / (steps + 1),
  }[kind];
  return rewardGradientArithmetic(recipe, { drawn: steps, followed });
}

export const alignprop = {
  schema: alignPropSchema,
  create: createAlignProp,
  problems: alignPropProblems,
  plan: {
    arithmetic,
    miniature(recipe, steps) {
      const small = rewardGradientMiniature(recipe, steps);
      return { ...small, train: { ...small.train, window: { kind: 'fixed', steps, spread: 1 } } };
    },
    holds: 'nothing',
  },
  followsReward: true,
} satisfies Method<AlignPropRecipe>;
