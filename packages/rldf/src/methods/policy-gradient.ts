// The loop of policy-gradient methods: draw, score, learn from the same denoising steps. DDPO and DPOK differ in `PolicyMethod`.
import type { Behaviour, Pipeline } from '@rldf/models';
import { AdamW, cat, free, GradientAccumulator, noGrad, noiseKey, Random, type StateTree } from '@rldf/torch';
import { batchArithmetic, trainedStepsOf } from '../config/batch-arithmetic.js';
import { InternalError } from '../errors.js';
import { mapYields } from '../generators.js';
import { learningRateSchedule } from '../learning-rate.js';
import { promptsOfEpoch } from '../prompts.js';
import type { ProgressEvent, Training, TrainingContext, TrainingEvent } from '../run/training.js';
import { balancedStepWeights, policyScheduler, type Rollout, rolloutBatches } from '../sampling/rollout.js';
import { epochMetrics, type UpdateReport } from './ddpo-metrics.js';
import { type Learner, type PolicyRecipe, type Sample, updateOnce } from './ddpo-update.js';
import { behavioursOf } from './diffexp.js';
import { progress } from './events.js';
import {
  createTrainables,
  drawForEvaluation,
  exportAdapters,
  loadTrainables,
  trainableState,
} from './learner.js';

// B pictures · T denoising steps

/** Pictures of one epoch with their rewards. */
export interface Scored {
  epoch: number;
  rollouts: readonly Rollout[];
  /** One a picture, in the order of the rollouts. */
  prompts: readonly string[];
  rewards: readonly number[];
}

/** What one policy-gradient method does differently from another. */
export interface PolicyMethod extends Pick<Learner, 'loss'> {
  /** Factor on the KL of each denoising step; 1 by default. */
  klFactors?: readonly number[];
  /** How much better than expected: a list a picture with one number a denoising step. May learn from what it is shown. */
  advantages(scored: Scored): number[][] | Promise<number[][]>;
  /** What the method reports of the epoch besides. */
  metrics?(): Record<string, number>;
  /** What it has learned, beside weights and optimiser. */
  state(): { [name: string]: StateTree };
  load(state: { [name: string]: StateTree }): void;
  free?(): void;
}

/** One step of the training is one epoch of drawing, scoring and learning. */
export function createPolicyGradient(
  recipe: PolicyRecipe,
  pipeline: Pipeline,
  context: TrainingContext,
  method: PolicyMethod,
): Training {
  const { sample, train, seed } = recipe;
  const trainables = createTrainables(pipeline, { ...train, seed });
  const parameters = [...trainables.unet, ...trainables.textEncoder];
  const optimiser = new AdamW(parameters, {
    learningRate: train.learningRate,
    weightDecay: train.weightDecay,
  });
  const scheduler = policyScheduler(pipeline, sample.steps, sample.eta);
  const ones = Array<number>(sample.steps).fill(1);
  const learner: Learner = {
    recipe,
    pipeline,
    scheduler,
    trainables,
    optimiser,
    accumulator: new GradientAccumulator(parameters),
    stepWeights: train.stepWeights === 'balanced' ? balancedStepWeights(scheduler, sample.eta) : ones,
    klFactors: method.klFactors ?? ones,
    loss: method.loss,
  };
  const schedule = learningRateSchedule(train, batchArithmetic(recipe).updates);

  async function* run(from: number): AsyncGenerator<TrainingEvent> {
    for (let epoch = from; epoch < recipe.epochs; epoch++) yield* runEpoch(epoch);
  }

  async function* runEpoch(epoch: number): AsyncGenerator<TrainingEvent> {
    const chosen = promptsOfEpoch(context.prompts, { seed, epoch, ...sample });
    const prompts = chosen.map(({ prompt }) => prompt);
    const texts = prompts.map(({ text }) => text);
    const behaviours = behavioursOf(recipe, pipeline.tokenizer, epoch, chosen);
    const rollouts = yield* draw(texts, behaviours);
    try {
      yield progress('scoring', 0, true);
      const images = noGrad(() => cat(rollouts.map((part) => part.images))); // [B, H, W, 3]
      const { total: rewards, parts } = await context.score(images, prompts).finally(() => images.free());
      const advantages = await method.advantages({ epoch, rollouts, prompts: texts, rewards });
      const reports: UpdateReport[] = [];
      yield* learn(epoch, samplesOf(rollouts, texts, advantages), reports);
      yield {
        kind: 'step',
        step: epoch + 1,
        metrics: {
          ...epochMetrics(rewards, parts, advantages.flat(), reports, { baseKl: train.klWeight > 0 }),
          ...method.metrics?.(),
        },
        pictures: chosen.length,
      };
    } finally {
      free(rollouts);
    }
  }

  async function* draw(
    prompts: readonly string[],
    behaviours: readonly Behaviour[],
  ): AsyncGenerator<ProgressEvent, Rollout[]> {
    const merged = train.reuse ? trainables.adapters.unet : undefined;
    merged?.merge();
    try {
      const { negativePrompt } = recipe;
      const drawing = rolloutBatches(pipeline, {
        ...sample,
        prompts,
        behaviours,
        negativePrompt,
        prepare: train.reuse,
      });
      return yield* mapYields(drawing, (share) => progress('drawing', share, true));
    } finally {
      merged?.unmerge();
    }
  }

  function samplesOf(
    rollouts: readonly Rollout[],
    prompts: readonly string[],
    advantages: readonly (readonly number[])[],
  ): Omit<Sample, 'steps'>[] {
    let position = 0;
    return rollouts.flatMap((part) =>
      part.trajectory.behaviours.map((_, row) => {
        const i = position++;
        return { rollout: part, row, prompt: prompts[i] as string, advantages: advantages[i] as number[] };
      }),
    );
  }

  async function* learn(
    epoch: number,
    samples: readonly Omit<Sample, 'steps'>[],
    reports: UpdateReport[],
  ): AsyncGenerator<ProgressEvent> {
    const updates = train.innerEpochs * train.updatesPerEpoch;
    const each = samples.length / train.updatesPerEpoch;
    for (let update = 0; update < updates; update++) {
      const pass = Math.floor(update / train.updatesPerEpoch);
      const shuffled = new Random(noiseKey(seed, 'shuffle', epoch, pass)).shuffle(samples);
      const first = (update % train.updatesPerEpoch) * each;
      const part = shuffled.slice(first, first + each).map((one) => {
        const { path } = one.rollout.trajectory.behaviours[one.row] as Behaviour;
        return { ...one, steps: trainedSteps(recipe, path, pass) };
      });
      const learningRate = train.learningRate * schedule(epoch * updates + update);
      const report = yield* mapYields(updateOnce(learner, part, learningRate), (share) =>
        progress('learning', (update + share) / updates, false),
      );
      if (update === 0 && report.maxRatioError > 1e-3) {
        throw new InternalError(
          `${recipe.method}: before the first update of epoch ${epoch} the ratio differs from 1 by ${report.maxRatioError} — drawing and learning evaluate different policies.`,
        );
      }
      reports.push(report);
    }
  }

  return {
    steps: recipe.epochs,
    run,
    state: (): StateTree => ({
      trainables: trainableState(trainables),
      optimiser: optimiser.state(),
      ...method.state(),
    }),
    load(state) {
      const saved = state as { trainables: StateTree; optimiser: StateTree };
      noGrad(() => loadTrainables(trainables, saved.trainables));
      optimiser.load(saved.optimiser);
      method.load(saved);
    },
    draw: (requests) => drawForEvaluation(pipeline, requests, recipe.negativePrompt, sample),
    exportTo: (folder) => exportAdapters(pipeline, trainables, folder),
    free() {
      optimiser.free();
      learner.accumulator.free();
      method.free?.();
      for (const adapter of Object.values(trainables.adapters)) adapter.remove();
    },
  };
}

/** The denoising steps that a pass over the epoch's pictures learns from, of the picture with this identity; others in each pass. */
export function trainedSteps(
  { seed, sample, train }: Pick<PolicyRecipe, 'seed' | 'sample' | 'train'>,
  path: readonly number[],
  pass: number,
): Set<number> {
  const all = Array.from({ length: sample.steps }, (_, step) => step);
  const random = new Random(noiseKey(seed, 'trained steps', ...path, ...(pass === 0 ? [] : [pass])));
  return new Set(random.shuffle(all).slice(0, trainedStepsOf(sample.steps, train.timestepFraction)));
}
