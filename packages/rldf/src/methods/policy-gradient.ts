// What DDPO and DPOK share: drawing an epoch by the policy, and the gradient of a loss of its log-probabilities.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { momentsOf } from '@rldf/common/base/stats';
import { crew } from '@rldf/common/workers/crew';
import { catRows } from '@rldf/common/workers/rows';
import { latentElements, type Pipeline, type PolicyScheduler } from '@rldf/models';
import {
  cat,
  type DType,
  free,
  isHalf,
  keep,
  noGrad,
  noiseKey,
  Random,
  scope,
  type Tensor,
  tensor,
} from '@rldf/torch';
import { InternalError, UserError } from '@rldf/torch/errors';
import { mapYields } from '../base/generators.js';
import { stepsInRange, trainedStepsOf } from '../config/batch-arithmetic.js';
import type { Scores } from '../rewards/reward.js';
import { type ProgressEvent, progress, rewardMetrics, type TrainingContext } from '../run/training.js';
import {
  balancedStepWeights,
  meanKl,
  meanLogProb,
  policyMoments,
  policyScheduler,
  type Rollout,
} from '../sampling/rollout.js';
import type { DdpoRecipe } from './ddpo-schema.js';
import type { EpochPicture, PromptText } from './diffexp.js';
import { agreementMetric, type Learner, rolloutBatches, type Step, type Texts } from './learner.js';
import { TextFeatures } from './texforce.js';

// B pictures · T denoising steps · C, h, w latent

/** What a policy-gradient recipe says of drawing and learning. */
export type PolicyRecipe = Pick<DdpoRecipe, 'epochs' | 'seed' | 'negativePrompt' | 'explore' | 'sample'> & {
  method: string;
  train: Omit<DdpoRecipe['train'], 'estimator' | 'promptStatistics' | 'advantageClip'>;
};

/** A picture with its place in the batch that drew it; none of one that another worker draws. */
export interface DrawnPicture extends EpochPicture {
  rollout?: Rollout;
  row?: number;
}

/** One that was drawn here. */
export type Own<Picture extends DrawnPicture = DrawnPicture> = Picture & Required<DrawnPicture>;

export const isOwn = <Picture extends DrawnPicture>(picture: Picture): picture is Own<Picture> =>
  picture.rollout !== undefined;

/** The same with what is learned from it. */
export interface Sample extends DrawnPicture {
  /** One a denoising step. */
  advantages: readonly number[];
}

/** x_T, ..., x_0 of an epoch's pictures, drawn by the policy as it is. Free their rollouts. */
export async function* drawEpoch(
  learner: Learner,
  recipe: PolicyRecipe,
  { prompts, begin }: Pick<TrainingContext, 'prompts' | 'begin'>,
  epoch: number,
): AsyncGenerator<ProgressEvent, DrawnPicture[]> {
  const { sample, train, negativePrompt } = recipe;
  const pictures = learner.picturesOfEpoch(prompts, epoch);
  const own = crew().own(pictures, () => shuffled(recipe, pictures, epoch, 0)); // as much of each update as the others
  const asked = own.map(({ prompt }) => prompt);
  const draw = () =>
    rolloutBatches(learner.pipeline, {
      ...sample,
      prompts: asked.map(({ text }) => text),
      behaviours: own.map(({ behaviour }) => behaviour),
      negativePrompt,
      prepare: train.reuse,
      drawn: (images, start) => begin?.(images, asked.slice(start, start + sample.batchSize)),
    });
  const rollouts = yield* mapYields(learner.drawing(draw), (share) => progress('drawing', share, true));
  const places = rollouts.flatMap((rollout) =>
    rollout.trajectory.behaviours.map((_, row) => ({ rollout, row })),
  );
  const placeOf = new Map(own.map((picture, i) => [picture, places[i]]));
  return pictures.map((picture) => ({ ...picture, ...placeOf.get(picture) }));
}

const shuffled = <T>({ seed }: PolicyRecipe, list: readonly T[], epoch: number, pass: number): T[] =>
  new Random(noiseKey(seed, 'shuffle', epoch, pass)).shuffle(list);

export const ownRows = (pictures: readonly DrawnPicture[]): number[] =>
  pictures.flatMap((picture, row) => (isOwn(picture) ? [row] : []));

export const rolloutsOf = (pictures: readonly DrawnPicture[]): Rollout[] => [
  ...new Set(pictures.flatMap(({ rollout }) => rollout ?? [])),
];

/** r(x_0, c) of each picture. */
export async function* scoreEpoch(
  { score }: Pick<TrainingContext, 'score'>,
  pictures: readonly DrawnPicture[],
): AsyncGenerator<ProgressEvent, Scores> {
  yield progress('scoring', 0, true);
  const images = noGrad(() => catRows(rolloutsOf(pictures).map((part) => part.images))); // [B, H, W, 3]
  return await score(
    images,
    pictures.map(({ prompt }) => prompt),
    'training',
    pictures.map(({ behaviour }) => behaviour),
    ownRows(pictures),
  ).finally(() => images.free());
}

/** What of an epoch an update learns from: a part of its pictures, each with the denoising steps chosen for it. */
export interface UpdateSample extends Sample {
  steps: ReadonlySet<number>;
}

/** The pictures of an update: each pass of an epoch shuffles them anew and splits them into `updatesPerEpoch` parts. */
export function samplesOfUpdate(
  recipe: PolicyRecipe,
  samples: readonly Sample[],
  epoch: number,
  update: number,
): UpdateSample[] {
  const { updatesPerEpoch } = recipe.train;
  const pass = Math.floor(update / updatesPerEpoch);
  const each = samples.length / updatesPerEpoch;
  const first = (update % updatesPerEpoch) * each;
  return shuffled(recipe, samples, epoch, pass)
    .slice(first, first + each)
    .map((one) => ({ ...one, steps: trainedSteps(recipe, one.behaviour.path, pass) }));
}

/** The denoising steps that a pass over the epoch's pictures learns from, of the picture with this identity; others in each pass. */
export function trainedSteps(
  { seed, sample, train }: Pick<PolicyRecipe, 'seed' | 'sample' | 'train'>,
  path: readonly number[],
  pass: number,
): Set<number> {
  const random = new Random(noiseKey(seed, 'trained steps', ...path, ...(pass === 0 ? [] : [pass])));
  return new Set(random.shuffle(stepsInRange(sample, train)).slice(0, trainedStepsOf(sample, train)));
}

/** The loss of (picture, step) pairs: [B] from log-probabilities now and then, and advantages, [B] each. */
export type PolicyLoss = (
  logProb: Tensor,
  oldLogProb: Tensor,
  advantage: Tensor,
  clipRange: number,
) => Tensor;

/** What stays the same over all updates. */
export interface Policy {
  recipe: PolicyRecipe;
  scheduler: PolicyScheduler;
  /** One a denoising step. */
  stepWeights: readonly number[];
  /** On the KL from the policy that training began from, one a denoising step. */
  klFactors: readonly number[];
  loss: PolicyLoss;
}

/** @param klFactors 1 by default */
export function policyOf(
  learner: Learner,
  recipe: PolicyRecipe,
  loss: PolicyLoss,
  klFactors?: (scheduler: PolicyScheduler) => number[],
): Policy {
  const { sample, train } = recipe;
  const scheduler = policyScheduler(learner.pipeline, sample.steps, sample.eta, sample.scheduler);
  const ones = Array<number>(sample.steps).fill(1);
  return {
    recipe,
    scheduler,
    stepWeights: train.stepWeights === 'balanced' ? balancedStepWeights(scheduler, sample.eta) : ones,
    klFactors: klFactors?.(scheduler) ?? ones,
    loss,
  };
}

/** Pictures whose gradient is computed at once, all at one denoising step. */
interface MicroBatch {
  samples: readonly Own<UpdateSample>[];
  step: number;
  /** Mean of the policy that training began from, [B, C, h, w], if the policy is kept near it. */
  baseMean?: Tensor;
}

/**
 * One optimiser step along the gradient of
 *
 *   (1/n) Σ_(i,t) w_t [ loss(log p_θ(x_{t-1} | x_t, c), log p_old, Â_t) + β f_t KL(p_θ ‖ p_base) ]
 *
 * over the n trained (picture i, step t) pairs, in micro-batches of this worker's pictures. Yields the share done.
 */
export async function* policyUpdate(
  learner: Learner,
  policy: Policy,
  samples: readonly UpdateSample[],
  learningRate: number,
): AsyncGenerator<number, UpdateReport> {
  const { recipe } = policy;
  const { klWeight } = recipe.train;
  const report = { loss: 0, approxKl: 0, clipFraction: 0, maxRatioError: 0, baseKl: 0, learningRate };
  const own = samples.filter(isOwn);
  const prompts = [recipe.negativePrompt, ...own.map((sample) => sample.text)];
  const batches = microBatches(recipe, own);
  const pairs = samples.reduce((sum, { steps }) => sum + steps.size, 0);
  const range = clipRange(recipe, learner.pipeline);
  try {
    if (klWeight > 0) await addBaseMeans(learner, policy, batches, prompts);
    yield* learner.accumulate(prompts, async function* ({ text, record, backward }) {
      for (const [i, batch] of batches.entries()) {
        const { samples, step, baseMean } = batch;
        scope(() => {
          const { mean, std } = record(() => momentsAt(learner, policy, batch, text));
          const next = drawn(samples, ({ latents }) => latents.select(0, step + 1)); // x_{t-1} [B, C, h, w]
          const logProb = meanLogProb(next, mean, std); // log p_θ(x_{t-1} | x_t, c) [B]
          const oldLogProb = drawn(samples, ({ logProbs }) => logProbs.select(0, step)); // [B]
          const advantage = tensor(
            samples.map(({ advantages }) => advantages[step] as number),
            { dtype: 'float64', device: mean.device },
          ); // [B]
          const policyLoss = policy.loss(logProb, oldLogProb, advantage, range); // [B]
          const kl = baseMean && meanKl(mean, baseMean, std); // [B]
          const losses = kl ? policyLoss.add(kl, klWeight * (policy.klFactors[step] as number)) : policyLoss;
          const loss = losses.sum().mul((policy.stepWeights[step] as number) / pairs);
          backward(loss);
          observe(report, loss, logProb.detach().sub(oldLogProb), range, pairs);
          if (kl !== undefined) report.baseKl += kl.detach().sum().item() / pairs;
        });
        await nextTurn();
        yield (i + 1) / batches.length;
      }
    });
  } finally {
    free(batches.map(({ baseMean }) => baseMean));
  }
  const whole = await crew().total('report', report, { most: ['maxRatioError'], same: ['learningRate'] });
  return { ...whole, ...learner.step(learningRate) };
}

function microBatches({ sample, train }: PolicyRecipe, samples: readonly Own<UpdateSample>[]): MicroBatch[] {
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
  policy: Policy,
  batches: readonly MicroBatch[],
  prompts: Iterable<PromptText>,
): Promise<void> {
  await learner.withoutAdapters(async () => {
    const prepare = policy.recipe.train.reuse;
    const text = noGrad(() => new TextFeatures(learner.pipeline, prompts, { prepare }));
    try {
      for (const batch of batches) {
        batch.baseMean = noGrad(() => keep(scope(() => momentsAt(learner, policy, batch, text).mean)));
        await nextTurn();
      }
    } finally {
      text.free();
    }
  });
}

/** μ and σ of the policy at a step that was drawn. Differentiable. */
function momentsAt(
  { pipeline }: Learner,
  { recipe, scheduler }: Policy,
  { samples, step }: MicroBatch,
  text: Texts,
): { mean: Tensor; std: number } {
  const current = drawn(samples, ({ latents }) => latents.select(0, step)); // x_t [B, C, h, w]
  const prompts = samples.map((sample) => sample.text);
  const behaviours = samples.map(({ behaviour }) => behaviour);
  const conditioning = text.forDrawing(behaviours, recipe.negativePrompt, prompts);
  return policyMoments(pipeline, scheduler, current, step, conditioning, behaviours, recipe.sample.eta);
}

/** Rows of what was drawn, [B, ...]. */
function drawn(samples: readonly Own[], read: (trajectory: Rollout['trajectory']) => Tensor): Tensor {
  return cat(samples.map(({ rollout, row }) => read(rollout.trajectory).narrow(0, row, 1)));
}

/** The clip of the mean log-probability's ratio: given so, or in nats of a whole picture. */
function clipRange({ train }: PolicyRecipe, pipeline: Pipeline): number {
  if (train.clipMeanLogProb !== undefined) return train.clipMeanLogProb;
  const nats = train.clipNats ?? Number.POSITIVE_INFINITY;
  return nats / latentElements(pipeline);
}

/** One update; means are over its (picture, step) pairs. docs/methods/ddpo.md explains each. */
interface Observed {
  loss: number;
  approxKl: number;
  clipFraction: number;
  maxRatioError: number;
  /** KL from the base policy, in nats per element; 0 where it is not computed. */
  baseKl: number;
  learningRate: number;
}
export type UpdateReport = Observed & Step;

/** Adds a micro-batch. @param logRatio log-probability now minus that of the drawing policy, [B] */
function observe(report: Observed, loss: Tensor, logRatio: Tensor, range: number, pairs: number): void {
  report.loss += loss.item();
  for (const difference of logRatio.toNumbers()) {
    const error = Math.abs(Math.exp(difference) - 1);
    report.approxKl += (0.5 * difference ** 2) / pairs;
    report.clipFraction += (error > range ? 1 : 0) / pairs;
    report.maxRatioError = Math.max(report.maxRatioError, error);
  }
}

/**
 * Before the first update of an epoch the policy is the one that drew: its ratio is 1, in half precision up to a rounding that the clip
 * must leave alone. (A batch of other pictures rounds otherwise, and a late step's small σ makes much of it.)
 * @throws InternalError when another policy learns than drew
 * @throws UserError when the rounding of half precision would be clipped
 */
export function requireSamePolicy(
  { pipeline }: Learner,
  recipe: PolicyRecipe,
  epoch: number,
  { maxRatioError }: UpdateReport,
): void {
  const differs = `${recipe.method}: before the first update of epoch ${epoch + 1} the ratio differs from 1 by ${maxRatioError}`;
  const half = roundsAs(pipeline);
  if (half === undefined || !Number.isFinite(maxRatioError)) {
    if (maxRatioError <= 1e-3) return;
    throw new InternalError(`${differs} — drawing and learning evaluate different policies.`);
  }
  const clip = clipRange(recipe, pipeline);
  if (maxRatioError <= clip) return;
  const withoutRatio = recipe.method === 'ddpo' ? ', or use train.estimator: sf, which has no ratio' : '';
  throw new UserError(
    `${differs}, most likely by the rounding of ${half}; the clip is at ${clip} — what is clipped teaches nothing. ` +
      `Set precision: float32, leave the last steps out (raise the lower end of train.stepRange, as [0.2, 1])${withoutRatio}.`,
  );
}

/** The half precision of what the policy is computed by, if any of it is. */
function roundsAs({ unet, parameters }: Pipeline): DType | undefined {
  const { textEncoder, textEncoder2 = textEncoder } = parameters;
  return [unet.dtype, textEncoder.dtype, textEncoder2.dtype].find(isHalf);
}

/** What is logged of an epoch. */
export function policyMetrics(
  { total, parts }: Scores,
  samples: readonly Sample[],
  reports: readonly UpdateReport[],
  { train }: PolicyRecipe,
): Record<string, number> {
  const average = (read: (report: UpdateReport) => number) => momentsOf(reports.map(read)).mean;
  const advantages = samples.flatMap((sample) => sample.advantages);
  return {
    ...rewardMetrics(total, parts),
    'advantage/meanAbsolute': advantages.reduce((sum, value) => sum + Math.abs(value), 0) / advantages.length,
    'loss/policy': average((report) => report.loss),
    'policy/approxKl': average((report) => report.approxKl),
    'policy/clipFraction': average((report) => report.clipFraction),
    'policy/firstRatioError': reports[0]?.maxRatioError ?? 0,
    ...(train.klWeight > 0 ? { 'policy/baseKl': average((report) => report.baseKl) } : {}),
    'gradient/norm': average((report) => report.norm),
    ...agreementMetric(reports),
    'optimiser/learningRate': average((report) => report.learningRate),
  };
}
