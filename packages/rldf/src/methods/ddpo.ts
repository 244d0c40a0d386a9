// docs: docs/methods/ddpo.md · paper: Black et al. 2023, "Training diffusion models with reinforcement learning", arXiv 2305.13301, equations 3-5 · code: kvablack/ddpo-pytorch
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Behaviour, DDIMScheduler, Pipeline } from '@rldf/models';
import {
  AdamW,
  cat,
  clipGradNorm,
  free,
  GradientAccumulator,
  grad,
  noGrad,
  noiseKey,
  Random,
  type StateTree,
  scope,
  type Tensor,
  tensor,
  zeros,
} from '@rldf/torch';
import { momentsOf, PromptStatistics } from '../advantages.js';
import { trainedStepsOf } from '../config/batch-arithmetic.js';
import { type DdpoRecipe, ddpoSchema } from '../config/ddpo-schema.js';
import { InternalError, UserError } from '../errors.js';
import { elementsOf, meanLogProb } from '../log-prob.js';
import { promptsOfEpoch } from '../prompts.js';
import {
  balancedStepWeights,
  guidedConditioning,
  policyMoments,
  policyScheduler,
  type Rollout,
  rolloutBatches,
} from '../rollout.js';
import type { ProgressEvent, Training, TrainingContext, TrainingEvent } from '../run/training.js';
import { TextFeatures } from '../text-features.js';
import {
  createTrainables,
  drawForEvaluation,
  exportAdapters,
  loadTrainables,
  trainableState,
} from '../trainables.js';

export { type DdpoRecipe, ddpoSchema };

// B pictures · T denoising steps · C, h, w latent · L tokens · D text width · P prompts

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
export function scoreFunctionLoss(logProb: Tensor, advantage: Tensor): Tensor {
  return advantage.mul(logProb).neg(); // [B]
}

/** One picture of the epoch with its place in the batch that drew it. */
interface Sample {
  rollout: Rollout;
  row: number;
  prompt: string;
  advantage: number;
  steps: Set<number>;
}

interface UpdateReport {
  loss: number;
  gradNorm: number;
  approxKl: number;
  clipFraction: number;
  maxRatioError: number;
}

/** DDPO on a pipeline: one step of the training is one epoch of drawing, scoring and learning. */
export function createDdpo(recipe: DdpoRecipe, pipeline: Pipeline, context: TrainingContext): Training {
  const { sample, train, seed } = recipe;
  const trainables = createTrainables(pipeline, { ...train, seed });
  const parameters = [...trainables.unet, ...trainables.textEncoder];
  const optimiser = new AdamW(parameters, {
    learningRate: train.learningRate,
    weightDecay: train.weightDecay,
  });
  const statistics = new PromptStatistics(
    train.promptStatistics.bufferSize,
    train.promptStatistics.minimumCount,
  );
  const scheduler = policyScheduler(pipeline, sample.steps, sample.eta);
  const weights = train.stepWeights === 'balanced' ? balancedStepWeights(scheduler, sample.eta) : undefined;
  const accumulator = new GradientAccumulator(parameters);

  async function* run(from: number): AsyncGenerator<TrainingEvent> {
    for (let epoch = from; epoch < recipe.epochs; epoch++) yield* runEpoch(epoch);
  }

  async function* runEpoch(epoch: number): AsyncGenerator<TrainingEvent> {
    const chosen = promptsOfEpoch(context.prompts, { seed, epoch, ...sample });
    const prompts = chosen.map(({ prompt }) => prompt);
    const texts = prompts.map(({ text }) => text);
    const guidance = Array<number>(sample.steps).fill(sample.guidanceScale);
    const behaviours = chosen.map(({ path }): Behaviour => ({ seed, path: [epoch, ...path], guidance }));
    const drawing = rolloutBatches(pipeline, {
      ...sample,
      prompts: texts,
      behaviours,
      negativePrompt: recipe.negativePrompt,
    });
    let drawn = await drawing.next();
    for (; !drawn.done; drawn = await drawing.next()) yield progress('drawing', drawn.value, true);
    const rollouts = drawn.value;
    try {
      const images = noGrad(() => cat(rollouts.map((part) => part.images))); // [B, H, W, 3]
      yield progress('scoring', 0, true);
      const { total: rewards, parts } = await context.score(images, prompts).finally(() => images.free());
      const advantages = statistics.advantages(texts, rewards, train.advantageClip);
      const reports: UpdateReport[] = [];
      yield* learn(epoch, samplesOf(rollouts, texts, advantages), reports);
      yield {
        kind: 'step',
        step: epoch + 1,
        metrics: epochMetrics(rewards, parts, advantages, reports),
        pictures: chosen.length,
      };
    } finally {
      free(rollouts);
    }
  }

  function samplesOf(
    rollouts: readonly Rollout[],
    prompts: readonly string[],
    advantages: readonly number[],
  ): Sample[] {
    const trained = trainedStepsOf(sample.steps, train.timestepFraction);
    const all = Array.from({ length: sample.steps }, (_, step) => step);
    let position = 0;
    return rollouts.flatMap((part) =>
      part.trajectory.behaviours.map((behaviour, row) => {
        const steps = new Set(
          new Random(noiseKey(seed, 'trained steps', ...behaviour.path)).shuffle(all).slice(0, trained),
        );
        const i = position++;
        return {
          rollout: part,
          row,
          prompt: prompts[i] as string,
          advantage: advantages[i] as number,
          steps,
        };
      }),
    );
  }

  async function* learn(
    epoch: number,
    samples: readonly Sample[],
    reports: UpdateReport[],
  ): AsyncGenerator<ProgressEvent> {
    const updates = train.innerEpochs * train.updatesPerEpoch;
    const each = samples.length / train.updatesPerEpoch;
    for (let update = 0; update < updates; update++) {
      const pass = Math.floor(update / train.updatesPerEpoch);
      const shuffled = new Random(noiseKey(seed, 'shuffle', epoch, pass)).shuffle(samples);
      const first = (update % train.updatesPerEpoch) * each;
      const report = yield* updateOnce(shuffled.slice(first, first + each), update / updates, 1 / updates);
      if (update === 0 && report.maxRatioError > 1e-3) {
        throw new InternalError(
          `ddpo: before the first update of epoch ${epoch} the ratio differs from 1 by ${report.maxRatioError} — drawing and learning evaluate different policies.`,
        );
      }
      reports.push(report);
    }
  }

  /** One optimiser step on a set of pictures: gradients of all their trained steps, in micro-batches. */
  async function* updateOnce(
    samples: readonly Sample[],
    done: number,
    part: number,
  ): AsyncGenerator<ProgressEvent, UpdateReport> {
    const text = new TextFeatures(
      pipeline,
      [recipe.negativePrompt, ...samples.map(({ prompt }) => prompt)],
      trainables.textEncoder,
    );
    const pairs = samples.reduce((sum, { steps }) => sum + steps.size, 0);
    const report: UpdateReport = { loss: 0, gradNorm: 0, approxKl: 0, clipFraction: 0, maxRatioError: 0 };
    try {
      for (let step = 0; step < sample.steps; step++) {
        const involved = samples.filter(({ steps }) => steps.has(step));
        for (let start = 0; start < involved.length; start += train.batchSize) {
          accumulate(involved.slice(start, start + train.batchSize), step, pairs, text, report);
          await nextTurn();
        }
        yield progress('learning', done + (part * (step + 1)) / sample.steps, false);
      }
      report.gradNorm = accumulator.take((gradients) => {
        scope(() => {
          const ofText = gradients.slice(trainables.unet.length);
          text.backward().forEach((gradient, i) => void ofText[i]?.add_(gradient));
        });
        const norm = clipGradNorm(gradients, train.maxGradNorm);
        if (!Number.isFinite(norm)) {
          throw new UserError(
            `ddpo: the gradient's norm is ${norm} — the policy left the range of float32; the last checkpoint is intact. Start a new run with a lower train.learningRate (now ${train.learningRate}) or train.maxGradNorm (now ${train.maxGradNorm}).`,
          );
        }
        optimiser.step(gradients);
        return norm;
      });
      return report;
    } finally {
      text.free();
    }
  }

  function accumulate(
    samples: readonly Sample[],
    step: number,
    pairs: number,
    text: TextFeatures,
    report: UpdateReport,
  ): void {
    scope(() => {
      const { logProb, oldLogProb } = stepLogProbs(
        pipeline,
        scheduler,
        samples,
        step,
        text,
        recipe.negativePrompt,
        sample.eta,
      );
      const advantage = tensor(
        samples.map((s) => s.advantage),
        { dtype: 'float64', device: pipeline.unet.device },
      ); // [B]
      const range = clipRange(recipe, samples);
      const losses =
        train.estimator === 'sf'
          ? scoreFunctionLoss(logProb, advantage)
          : importanceSamplingLoss(logProb, oldLogProb, advantage, range);
      const loss = losses.sum().mul((weights?.[step] ?? 1) / pairs);
      const gradients = grad(loss, text.learns ? [...trainables.unet, text.values] : trainables.unet);
      const ofText = trainables.textEncoder.map((parameter) =>
        zeros(parameter.shape, { device: parameter.device }),
      ); // comes at the end, once
      accumulator.add([...gradients.slice(0, trainables.unet.length), ...ofText]);
      if (text.learns) text.gather(gradients.at(-1) as Tensor);
      observe(report, loss, logProb.detach().sub(oldLogProb), range, pairs);
    });
  }

  return {
    steps: recipe.epochs,
    run,
    state: (): StateTree => ({
      trainables: trainableState(trainables),
      optimiser: optimiser.state(),
      statistics: statistics.state(),
    }),
    load(state) {
      const saved = state as { trainables: StateTree; optimiser: StateTree; statistics: StateTree };
      noGrad(() => loadTrainables(trainables, saved.trainables));
      optimiser.load(saved.optimiser);
      statistics.load(saved.statistics);
    },
    draw: (requests) => drawForEvaluation(pipeline, requests, recipe.negativePrompt, sample),
    exportTo: (folder) => exportAdapters(pipeline, trainables, folder),
    free() {
      optimiser.free();
      accumulator.free();
      for (const adapter of Object.values(trainables.adapters)) adapter.remove();
    },
  };
}

const progress = (phase: string, share: number, interruptible: boolean): ProgressEvent => ({
  kind: 'progress',
  phase,
  share,
  interruptible,
});

/** Log-probabilities of a step that was drawn, under the policy now and under the one that drew it, both [B]. */
function stepLogProbs(
  pipeline: Pipeline,
  scheduler: DDIMScheduler,
  samples: readonly Sample[],
  step: number,
  text: TextFeatures,
  negativePrompt: string,
  eta: number,
): { logProb: Tensor; oldLogProb: Tensor } {
  const pick = (read: (rollout: Rollout) => Tensor) =>
    cat(samples.map(({ rollout, row }) => read(rollout).narrow(0, row, 1)));
  const current = pick(({ trajectory }) => trajectory.latents.select(0, step)); // [B, C, h, w]
  const next = pick(({ trajectory }) => trajectory.latents.select(0, step + 1)); // [B, C, h, w]
  const oldLogProb = pick(({ trajectory }) => trajectory.logProbs.select(0, step)); // [B]
  const conditioning = guidedConditioning(
    { hiddenStates: text.of([negativePrompt]) },
    { hiddenStates: text.of(samples.map(({ prompt }) => prompt)) },
  );
  const behaviours = samples.map(({ rollout, row }) => rollout.trajectory.behaviours[row] as Behaviour);
  const { mean, std } = policyMoments(pipeline, scheduler, current, step, conditioning, behaviours, eta);
  return { logProb: meanLogProb(next, mean, std), oldLogProb };
}

/** The clip of the mean log-probability's ratio: given so, or in nats of a whole picture. */
function clipRange({ train }: DdpoRecipe, samples: readonly Sample[]): number {
  if (train.clipMeanLogProb !== undefined) return train.clipMeanLogProb;
  const [first] = samples as [Sample];
  return (train.clipNats ?? Number.POSITIVE_INFINITY) / elementsOf(first.rollout.trajectory.latents);
}

function observe(report: UpdateReport, loss: Tensor, logRatio: Tensor, range: number, pairs: number): void {
  report.loss += loss.item();
  for (const difference of logRatio.toNumbers()) {
    const error = Math.abs(Math.exp(difference) - 1);
    report.approxKl += (0.5 * difference ** 2) / pairs;
    report.clipFraction += (error > range ? 1 : 0) / pairs;
    report.maxRatioError = Math.max(report.maxRatioError, error);
  }
}

function epochMetrics(
  rewards: readonly number[],
  parts: Record<string, number[]>,
  advantages: readonly number[],
  reports: readonly UpdateReport[],
): Record<string, number> {
  const { mean, std } = momentsOf(rewards);
  const average = (read: (report: UpdateReport) => number) =>
    reports.reduce((sum, report) => sum + read(report), 0) / reports.length;
  const named = Object.entries(parts).map(([name, values]) => [`reward/${name}`, momentsOf(values).mean]);
  return {
    'reward/mean': mean,
    'reward/std': std,
    ...Object.fromEntries(named),
    'advantage/meanAbsolute': advantages.reduce((sum, value) => sum + Math.abs(value), 0) / advantages.length,
    'loss/policy': average((report) => report.loss),
    'policy/approxKl': average((report) => report.approxKl),
    'policy/clipFraction': average((report) => report.clipFraction),
    'policy/firstRatioError': reports[0]?.maxRatioError ?? 0,
    'gradient/norm': average((report) => report.gradNorm),
  };
}
