// One optimiser step of DDPO: the gradient of all trained (picture, step) pairs of its pictures, in micro-batches.
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Behaviour, DDIMScheduler, Pipeline } from '@rldf/models';
import {
  type AdamW,
  cat,
  clipGradNorm,
  free,
  type GradientAccumulator,
  keep,
  noGrad,
  scope,
  type Tensor,
  tensor,
} from '@rldf/torch';
import type { DdpoRecipe } from '../config/ddpo-schema.js';
import { UserError } from '../errors.js';
import { elementsOf, meanKl, meanLogProb } from '../log-prob.js';
import { type NetworkGradient, networkGradient } from '../network-gradient.js';
import { policyMoments, type Rollout } from '../rollout.js';
import { TextFeatures } from '../text-features.js';
import type { Trainables } from '../trainables.js';
import { emptyReport, observe, type UpdateReport } from './ddpo-metrics.js';

// B pictures · T denoising steps · C, h, w latent

/** One picture of the epoch with its place in the batch that drew it. */
export interface Sample {
  rollout: Rollout;
  row: number;
  prompt: string;
  advantage: number;
  /** The denoising steps that it is learned from. */
  steps: ReadonlySet<number>;
}

/** What stays the same over all updates of a training. */
export interface Learner {
  recipe: DdpoRecipe;
  pipeline: Pipeline;
  scheduler: DDIMScheduler;
  trainables: Trainables;
  optimiser: AdamW;
  accumulator: GradientAccumulator;
  /** One a denoising step. */
  stepWeights: readonly number[];
  /** Of one pair: [B] from log-probabilities now and then and advantages, [B] each. */
  loss(logProb: Tensor, oldLogProb: Tensor, advantage: Tensor, clipRange: number): Tensor;
}

/** Pictures whose gradient is computed at once, all at one denoising step. */
interface MicroBatch {
  samples: readonly Sample[];
  step: number;
  /** Mean of the policy that training began from, [B, C, h, w], if the policy is kept near it. */
  baseMean?: Tensor;
}

/** Yields the share done. */
export async function* updateOnce(
  learner: Learner,
  samples: readonly Sample[],
  learningRate: number,
): AsyncGenerator<number, UpdateReport> {
  const { recipe, pipeline, trainables, accumulator, optimiser } = learner;
  const { train } = recipe;
  const report = emptyReport(learningRate);
  const prompts = [recipe.negativePrompt, ...samples.map(({ prompt }) => prompt)];
  const batches = microBatches(recipe, samples);
  const pairs = batches.reduce((sum, batch) => sum + batch.samples.length, 0);
  const merged = train.reuse ? trainables.adapters.unet : undefined;
  const network = networkGradient(trainables.unet, merged);
  let text: TextFeatures | undefined;
  try {
    if (train.klWeight > 0) await addBaseMeans(learner, batches, prompts); // before merging: it takes no adapters
    merged?.merge();
    text = new TextFeatures(pipeline, prompts, {
      parameters: trainables.textEncoder,
      network: networkGradient(trainables.unet, merged),
      prepare: train.reuse,
    });
    for (const [i, batch] of batches.entries()) {
      accumulate(learner, network, batch, pairs, text, report);
      await nextTurn();
      yield (i + 1) / batches.length;
    }
    scope(() => {
      const behind = (text as TextFeatures).backward();
      accumulator.add(aligned(trainables, behind.network, behind.textEncoder));
    });
  } finally {
    network.free();
    text?.free();
    free(batches.map(({ baseMean }) => baseMean));
    merged?.unmerge();
  }
  report.gradNorm = accumulator.take((gradients) => {
    const norm = clipGradNorm(gradients, train.maxGradNorm);
    if (!Number.isFinite(norm)) {
      throw new UserError(
        `ddpo: the gradient's norm is ${norm} — the policy left the range of float32; the last checkpoint is intact. Start a new run with a lower train.learningRate (now ${train.learningRate}) or train.maxGradNorm (now ${train.maxGradNorm}).`,
      );
    }
    optimiser.step(gradients, learningRate);
    return norm;
  });
  return report;
}

function microBatches({ sample, train }: DdpoRecipe, samples: readonly Sample[]): MicroBatch[] {
  return Array.from({ length: sample.steps }, (_, step) => {
    const involved = samples.filter(({ steps }) => steps.has(step));
    const count = Math.ceil(involved.length / train.batchSize);
    return Array.from({ length: count }, (_, i) => ({
      samples: involved.slice(i * train.batchSize, (i + 1) * train.batchSize),
      step,
    }));
  }).flat();
}

async function addBaseMeans(
  learner: Learner,
  batches: readonly MicroBatch[],
  prompts: readonly string[],
): Promise<void> {
  const { pipeline, trainables, recipe } = learner;
  const without = <T>(fn: () => T) => noGrad(() => withoutAdapters(trainables, fn));
  const text = without(() => new TextFeatures(pipeline, prompts, { prepare: recipe.train.reuse }));
  try {
    for (const batch of batches) {
      batch.baseMean = without(() => keep(scope(() => momentsOf(learner, batch, text).mean)));
      await nextTurn();
    }
  } finally {
    text.free();
  }
}

/** Adds the gradient of one micro-batch. */
function accumulate(
  learner: Learner,
  network: NetworkGradient,
  batch: MicroBatch,
  pairs: number,
  text: TextFeatures,
  report: UpdateReport,
): void {
  const { recipe, trainables, accumulator, stepWeights } = learner;
  const { samples, step, baseMean } = batch;
  scope(() => {
    const { mean, std } = network.record(() => momentsOf(learner, batch, text));
    const next = drawn(samples, ({ latents }) => latents.select(0, step + 1)); // [B, C, h, w]
    const oldLogProb = drawn(samples, ({ logProbs }) => logProbs.select(0, step)); // [B]
    const logProb = meanLogProb(next, mean, std); // [B]
    const advantage = tensor(
      samples.map((sample) => sample.advantage),
      { dtype: 'float64', device: mean.device },
    ); // [B]
    const range = clipRange(recipe, samples);
    const policyLoss = learner.loss(logProb, oldLogProb, advantage, range); // [B]
    const kl = baseMean && meanKl(mean, baseMean, std); // [B]
    const losses = kl === undefined ? policyLoss : policyLoss.add(kl, recipe.train.klWeight);
    const loss = losses.sum().mul((stepWeights[step] as number) / pairs);
    const gradients = network.grad(loss, text.leaves);
    network.clear();
    accumulator.add(aligned(trainables, gradients.parameters));
    text.gather(gradients.inputs);
    observe(report, loss, logProb.detach().sub(oldLogProb), range, pairs);
    if (kl !== undefined) report.baseKl += kl.detach().sum().item() / pairs;
  });
}

/** The policy at a step that was drawn. Differentiable. */
function momentsOf(
  { recipe, pipeline, scheduler }: Learner,
  { samples, step }: MicroBatch,
  text: TextFeatures,
): { mean: Tensor; std: number } {
  const current = drawn(samples, ({ latents }) => latents.select(0, step)); // [B, C, h, w]
  const conditioning = text.guided(
    recipe.negativePrompt,
    samples.map(({ prompt }) => prompt),
  );
  const behaviours = samples.map(({ rollout, row }) => rollout.trajectory.behaviours[row] as Behaviour);
  return policyMoments(pipeline, scheduler, current, step, conditioning, behaviours, recipe.sample.eta);
}

/** Rows of what was drawn, [B, ...]. */
function drawn(samples: readonly Sample[], read: (trajectory: Rollout['trajectory']) => Tensor): Tensor {
  return cat(samples.map(({ rollout, row }) => read(rollout.trajectory).narrow(0, row, 1)));
}

/** Runs `fn` with the policy that training began from. */
function withoutAdapters<T>({ adapters }: Trainables, fn: () => T): T {
  return Object.values(adapters).reduce((inner, adapter) => () => adapter.disabled(inner), fn)();
}

/** Gradients in the order of the accumulator; `undefined` where there is none. */
function aligned(
  { unet, textEncoder }: Trainables,
  ofUnet: readonly (Tensor | undefined)[],
  ofTextEncoder: readonly Tensor[] = [],
): (Tensor | undefined)[] {
  return [...unet.map((_, i) => ofUnet[i]), ...textEncoder.map((_, i) => ofTextEncoder[i])];
}

/** The clip of the mean log-probability's ratio: given so, or in nats of a whole picture. */
function clipRange({ train }: DdpoRecipe, samples: readonly Sample[]): number {
  if (train.clipMeanLogProb !== undefined) return train.clipMeanLogProb;
  const [first] = samples as [Sample];
  return (train.clipNats ?? Number.POSITIVE_INFINITY) / elementsOf(first.rollout.trajectory.latents);
}
