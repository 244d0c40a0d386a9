// What AlignProp, DRaFT-K, DRaFT-LV and ReFL share: pictures that are drawn and followed at once, and the way of a reward's
// gradient back to the weights,
//
//   dL/dθ = Σ_i dL/dr · ∂r/∂x_0 · ∂x_0/∂θ
//
// whose middle part is `rewardGradient` and whose last one is `DifferentiableSample.backward`.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { momentsOf } from '@rldf/common/base/stats';
import { crew } from '@rldf/common/workers/crew';
import { catRows } from '@rldf/common/workers/rows';
import { decodeLatents, type Pipeline, refuseBlack, resident } from '@rldf/models';
import {
  cat,
  enableGrad,
  free,
  gradOrUndefined,
  noGrad,
  noiseKey,
  Random,
  scope,
  type Tensor,
} from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { mapYields } from '../base/generators.js';
import type { Prompt } from '../prompts/prompts.js';
import { gradientMissing } from '../rewards/differentiable.js';
import { checkScores, type Reward } from '../rewards/reward.js';
import { type ProgressEvent, progress, rewardMetrics, type TrainingContext } from '../run/training.js';
import { type DifferentiableSample, DifferentiableSampler } from '../sampling/differentiable-sampling.js';
import type { EpochPicture } from './diffexp.js';
import { agreementMetric, type Learner, type Passes, type Step } from './learner.js';
import type { RewardGradientRecipe } from './reward-gradient-schema.js';

// B pictures · T denoising steps · C, h, w latent · H, W pixels

/** r as a function whose gradient can be followed: pictures in [0, 1] and their prompts to [B]. */
export type DifferentiableReward = NonNullable<Reward['differentiable']>;

/** @throws UserError when the reward has no gradient */
export function differentiableReward(
  { method }: { method: string },
  { differentiable }: TrainingContext,
): DifferentiableReward {
  if (differentiable === undefined) throw new UserError(gradientMissing(method, 'the given reward'));
  return differentiable;
}

/** Against a gradient that is not finite, beside a lower learning rate. */
export const remedy = 'fewer steps that the gradient flows through';

/** What is minimised, of the rewards: [B] -> [B]. */
export type RewardLoss = (rewards: Tensor) => Tensor;

/** The pictures of each update of an epoch: shuffled, and drawn by the weights that they improve, so none is learned from twice. */
export function updatesOf(
  learner: Learner,
  { seed, train }: RewardGradientRecipe,
  prompts: readonly Prompt[],
  epoch: number,
): EpochPicture[][] {
  const pictures = learner.picturesOfEpoch(prompts, epoch);
  const shuffled = new Random(noiseKey(seed, 'shuffle', epoch)).shuffle(pictures);
  const each = pictures.length / train.updatesPerEpoch;
  return Array.from({ length: train.updatesPerEpoch }, (_, update) =>
    shuffled.slice(update * each, (update + 1) * each),
  );
}

/** Pictures that are drawn and followed at once. */
export interface Batch {
  pictures: readonly EpochPicture[];
  sampler: DifferentiableSampler;
  passes: Passes;
  /** All pictures of the update, each of which counts the same, in the order in which one worker alone takes them. */
  order: readonly EpochPicture[];
  /** What is being done, and the share of this batch that is done. */
  progress(phase: 'drawing' | 'learning', within: number): ProgressEvent;
}

export interface BatchOptions {
  /** A number that all pictures of a batch share, such as a denoising step. */
  groupOf?(picture: EpochPicture): number;
  /** Further captions that passes of the batches are conditioned on. */
  captions?: readonly string[];
}

/**
 * The batches of an update's pictures that are this worker's, at most `train.batchSize` each. The gradients that are followed from them are gathered;
 * behind the last batch what reached the text is sent on (texforce.ts). Ends without a step: call `learner.step`.
 */
export async function* batchesOf(
  learner: Learner,
  recipe: RewardGradientRecipe,
  pictures: readonly EpochPicture[],
  update: number,
  { groupOf = () => 0, captions = [] }: BatchOptions = {},
): AsyncGenerator<Batch, void> {
  const { train, negativePrompt, sample } = recipe;
  const own = crew().own(pictures);
  const order = inGroups(pictures, groupOf).flat();
  const batches = inGroups(own, groupOf).flatMap((group) =>
    Array.from({ length: Math.ceil(group.length / train.batchSize) }, (_, i) =>
      group.slice(i * train.batchSize, (i + 1) * train.batchSize),
    ),
  );
  const texts = [negativePrompt, ...own.map(({ text }) => text), ...captions];
  yield* learner.accumulate(texts, async function* (passes) {
    for (const [i, batch] of batches.entries()) {
      const behaviours = batch.map(({ behaviour }) => behaviour);
      const sampler = new DifferentiableSampler(learner.pipeline, {
        behaviours,
        steps: sample.steps,
        eta: sample.eta,
        conditioning(which) {
          const prompts = which.map((row) => (batch[row] as EpochPicture).text);
          return passes.text.forDrawing(behaviours, negativePrompt, prompts);
        },
      });
      yield {
        pictures: batch,
        sampler,
        passes,
        order,
        progress: (phase, within) =>
          progress(phase, (update + (i + within) / batches.length) / train.updatesPerEpoch, update === 0), // until the first step
      };
    }
  });
}

/** Pictures of one number each, in the order in which the numbers come. */
function inGroups<T>(pictures: readonly T[], groupOf: (picture: T) => number): T[][] {
  const groups = new Map<number, T[]>();
  for (const picture of pictures)
    groups.set(groupOf(picture), [...(groups.get(groupOf(picture)) ?? []), picture]);
  return [...groups.values()];
}

/** Runs what draws without gradient. */
export async function* drawing<T>(
  batch: Batch,
  shares: AsyncGenerator<number, T>,
): AsyncGenerator<ProgressEvent, T> {
  yield batch.progress('drawing', 0);
  return yield* mapYields(shares, (share) => batch.progress('drawing', share));
}

/** What a batch was worth. The pictures are the caller's. */
export interface Judged {
  rewards: number[];
  losses: number[];
  /** uint8 [B, H, W, 3] */
  images: Tensor;
}

/** Decodes and judges what was drawn, follows the gradient of its loss back to the weights, and frees it. */
export async function* followReward(
  learner: Learner,
  batch: Batch,
  drawn: DifferentiableSample,
  reward: DifferentiableReward,
  loss: RewardLoss,
  weight = 1,
): AsyncGenerator<ProgressEvent, Judged> {
  const { pictures, passes } = batch;
  let gradient: Tensor | undefined;
  let images: Tensor | undefined;
  try {
    yield batch.progress('learning', 0);
    const texts = pictures.map(({ prompt }) => prompt.text);
    const judged = rewardGradient(learner, drawn.latents, texts, reward, loss, weight / batch.order.length); // dL/dr · ∂r/∂x_0
    gradient = judged.gradient;
    images = judged.images;
    await nextTurn();
    yield* mapYields(drawn.backward(gradient, passes), (done) => batch.progress('learning', done)); // ∂x_0/∂θ
    const { rewards, losses } = judged;
    const result = { rewards, losses, images };
    images = undefined;
    return result;
  } finally {
    free([gradient, images]);
    drawn.free();
  }
}

/** Pixels that are decoded and judged with a graph at once. */
const mostPixels = 2 ** 20;

/**
 * The gradient of the summed losses times `factor` with respect to the latents, [B, C, h, w], through the decoder.
 * @param latents x_0 [B, C, h, w]
 * @throws UserError when a reward is no finite number, or does not depend on the pictures
 */
export function rewardGradient(
  { pipeline, recipe }: { pipeline: Pipeline; recipe: { method: string } },
  latents: Tensor,
  prompts: readonly string[],
  reward: DifferentiableReward,
  loss: RewardLoss,
  factor: number,
): Judged & { gradient: Tensor } {
  const [count, , height, width] = latents.shape as [number, number, number, number];
  const size = Math.max(1, Math.floor(mostPixels / (height * width * pipeline.vae.downFactor ** 2)));
  return scope(() => {
    const chunks = Array.from({ length: Math.ceil(count / size) }, (_, i) => {
      const start = i * size;
      const some = latents.narrow(0, start, Math.min(size, count - start));
      const texts = prompts.slice(start, start + size);
      const weights = [pipeline.parameters.vae, ...(pipeline.judges ?? [])]; // until the gradient is there
      return resident(pipeline, weights, () =>
        enableGrad(() => gradientOfChunk(pipeline, recipe.method, some, texts, reward, loss, factor)),
      );
    });
    return noGrad(() => ({
      gradient: cat(chunks.map(({ gradient }) => gradient)),
      images: cat(chunks.map(({ images }) => images)),
      rewards: chunks.flatMap(({ rewards }) => rewards),
      losses: chunks.flatMap(({ losses }) => losses),
    }));
  });
}

function gradientOfChunk(
  pipeline: Pipeline,
  method: string,
  latents: Tensor,
  prompts: readonly string[],
  reward: DifferentiableReward,
  loss: RewardLoss,
  factor: number,
): Judged & { gradient: Tensor } {
  return scope(() => {
    const leaf = latents.detach().requiresGrad_();
    const decoded = decodeLatents(pipeline, leaf); // [B, 3, H, W]
    refuseBlack(decoded.detach());
    const images01 = decoded.div(2).add(0.5).clamp(0, 1); // not rounded
    const found = reward(images01, prompts); // [B]
    const rewards = checkScores('as a differentiable function', found.detach().flatten().toNumbers(), {
      prompts,
    });
    const losses = loss(found); // [B]
    const [gradient] = losses.requiresGrad ? gradOrUndefined(losses.sum().mul(factor), [leaf]) : [];
    if (gradient === undefined) {
      throw new UserError(
        `${method}: the reward does not depend on the pictures — there is no gradient to follow. Compute it from \`images01\` by tensor operations alone.`,
      );
    }
    const pixels = images01.detach().permute([0, 2, 3, 1]);
    const images = pixels.mul(255).round().to('uint8').contiguous(); // [B, H, W, 3]
    return { gradient, images, rewards, losses: losses.detach().toNumbers() };
  });
}

/** What an epoch has seen: a reward, a loss and a picture of each, until an update is scored. */
export class EpochReport {
  /** Of all workers' pictures, but those of the update that is being made. */
  readonly rewards: number[] = [];
  readonly #losses: number[] = [];
  readonly #parts: Record<string, number[]> = {};
  readonly #steps: Step[] = [];
  readonly #rates: number[] = [];
  /** This worker's pictures of the update that is being made. */
  #images: Tensor[] = [];
  #own: { place: number; picture: EpochPicture; reward: number; loss: number }[] = [];

  /** Takes a batch's pictures over. */
  add({ pictures, order }: Batch, { rewards, losses, images }: Judged): void {
    this.#images.push(images);
    for (const [i, picture] of pictures.entries()) {
      const [reward, loss] = [rewards[i] as number, losses[i] as number];
      this.#own.push({ place: order.indexOf(picture), picture, reward, loss });
    }
  }

  /** Asks the reward as in evaluation: for its parts, and so that its statistics move as in other methods. */
  async *score({ score }: TrainingContext, at: ProgressEvent): AsyncGenerator<ProgressEvent, void> {
    yield at;
    const shares = await crew().meet('rewards', this.#own);
    const all = shares.flat().sort((a, b) => a.place - b.place);
    this.rewards.push(...all.map(({ reward }) => reward));
    this.#losses.push(...all.map(({ loss }) => loss));
    const images = noGrad(() => catRows(this.#images)); // of its own, [B, H, W, 3]
    const prompts = all.map(({ picture }) => picture.prompt);
    const behaviours = all.map(({ picture }) => picture.behaviour);
    const rows = this.#own.map(({ place }) => place);
    const { parts } = await score(images, prompts, 'training', behaviours, rows).finally(() => images.free());
    for (const [name, values] of Object.entries(parts))
      this.#parts[name] = [...(this.#parts[name] ?? []), ...values];
    this.free();
  }

  stepped(step: Step, learningRate: number): void {
    this.#steps.push(step);
    this.#rates.push(learningRate);
  }

  metrics(): Record<string, number> {
    return {
      ...rewardMetrics(this.rewards, this.#parts),
      'loss/reward': momentsOf(this.#losses).mean,
      'gradient/norm': momentsOf(this.#steps.map(({ norm }) => norm)).mean,
      ...agreementMetric(this.#steps),
      'optimiser/learningRate': momentsOf(this.#rates).mean,
    };
  }

  free(): void {
    free(this.#images);
    this.#images = [];
    this.#own = [];
  }
}
