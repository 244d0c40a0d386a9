// One optimiser step of a policy gradient (DDPO, DPOK): the gradient of all trained (picture, step) pairs of its pictures, in micro-batches.
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Behaviour, DDIMScheduler, Pipeline } from '@rldf/models';
import {
  type AdamW,
  cat,
  free,
  type GradientAccumulator,
  keep,
  noGrad,
  scope,
  type Tensor,
  tensor,
} from '@rldf/torch';
import type { DdpoRecipe } from '../config/ddpo-schema.js';
import type { WeightedPrompt } from '../explore/word-weights.js';
import { elementsOf, meanKl, meanLogProb } from '../sampling/log-prob.js';
import { type NetworkGradient, networkGradient } from '../sampling/network-gradient.js';
import { policyMoments, type Rollout } from '../sampling/rollout.js';
import { emptyReport, observe, type UpdateReport } from './ddpo-metrics.js';
import { aligned, type Trainables, withoutAdapters } from './learner.js';
import { optimiserStep } from './optimiser-step.js';
import { TextFeatures } from './texforce.js';

// B pictures · T denoising steps · C, h, w latent

/** What a policy-gradient recipe says of drawing and learning. */
export type PolicyRecipe = Pick<DdpoRecipe, 'epochs' | 'seed' | 'negativePrompt' | 'explore' | 'sample'> & {
  method: string;
  train: Omit<DdpoRecipe['train'], 'estimator' | 'promptStatistics' | 'advantageClip'>;
};

/** One picture of the epoch with its place in the batch that drew it. */
export interface Sample {
  rollout: Rollout;
  row: number;
  prompt: string;
  /** One a denoising step. */
  advantages: readonly number[];
  /** The denoising steps that it is learned from. */
  steps: ReadonlySet<number>;
}

/** What stays the same over all updates of a training. */
export interface Learner {
  recipe: PolicyRecipe;
  pipeline: Pipeline;
  scheduler: DDIMScheduler;
  trainables: Trainables;
  optimiser: AdamW;
  accumulator: GradientAccumulator;
  /** One a denoising step. */
  stepWeights: readonly number[];
  /** On the KL from the policy that training began from, one a denoising step. */
  klFactors: readonly number[];
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
  const prompts = [recipe.negativePrompt, ...samples.map(textOf)];
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
  report.gradNorm = optimiserStep(accumulator, optimiser, learningRate, {
    method: recipe.method,
    learner: 'policy',
    train,
  });
  return report;
}

function microBatches({ sample, train }: PolicyRecipe, samples: readonly Sample[]): MicroBatch[] {
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
  prompts: readonly (string | WeightedPrompt)[],
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
  const { recipe, trainables, accumulator, stepWeights, klFactors } = learner;
  const { samples, step, baseMean } = batch;
  scope(() => {
    const { mean, std } = network.record(() => momentsOf(learner, batch, text));
    const next = drawn(samples, ({ latents }) => latents.select(0, step + 1)); // [B, C, h, w]
    const oldLogProb = drawn(samples, ({ logProbs }) => logProbs.select(0, step)); // [B]
    const logProb = meanLogProb(next, mean, std); // [B]
    const advantage = tensor(
      samples.map(({ advantages }) => advantages[step] as number),
      { dtype: 'float64', device: mean.device },
    ); // [B]
    const range = clipRange(recipe, samples);
    const policyLoss = learner.loss(logProb, oldLogProb, advantage, range); // [B]
    const kl = baseMean && meanKl(mean, baseMean, std); // [B]
    const klWeight = recipe.train.klWeight * (klFactors[step] as number);
    const losses = kl === undefined ? policyLoss : policyLoss.add(kl, klWeight);
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
  const conditioning = text.guided(recipe.negativePrompt, samples.map(textOf));
  const behaviours = samples.map(behaviourOf);
  return policyMoments(pipeline, scheduler, current, step, conditioning, behaviours, recipe.sample.eta);
}

const behaviourOf = ({ rollout, row }: Sample) => rollout.trajectory.behaviours[row] as Behaviour;

/** The prompt with the word weights that it was drawn with. */
const textOf = (sample: Sample): WeightedPrompt => ({
  prompt: sample.prompt,
  wordWeights: behaviourOf(sample).wordWeights,
});

/** Rows of what was drawn, [B, ...]. */
function drawn(samples: readonly Sample[], read: (trajectory: Rollout['trajectory']) => Tensor): Tensor {
  return cat(samples.map(({ rollout, row }) => read(rollout.trajectory).narrow(0, row, 1)));
}

/** The clip of the mean log-probability's ratio: given so, or in nats of a whole picture. */
function clipRange({ train }: PolicyRecipe, samples: readonly Sample[]): number {
  if (train.clipMeanLogProb !== undefined) return train.clipMeanLogProb;
  const [first] = samples as [Sample];
  return (train.clipNats ?? Number.POSITIVE_INFINITY) / elementsOf(first.rollout.trajectory.latents);
}
