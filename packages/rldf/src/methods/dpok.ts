// docs: docs/methods/dpok.md · paper: Fan et al. 2023, "DPOK: Reinforcement learning for fine-tuning text-to-image diffusion models", arXiv 2305.16381 · code: google-research/dpok
//
// A policy gradient held near the model that training began from. The mean over (picture, step) pairs that is lowered:
//
//   -α (r(x_0, c) - V(x_t, c, t)) · clipped ratio + β KL(p_θ(x_{t-1} | x_t, c) ‖ p_base)
//
// V is learned beside it and never shown a reward before it is subtracted from it. Rewards are taken in units of the first
// epoch's spread, from its mean.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { type Moments, mean, momentsOf } from '@rldf/common/base/stats';
import { crew } from '@rldf/common/workers/crew';
import { CLIPTextModel, latentShape, type Pipeline, type PolicyScheduler, ValueNetwork } from '@rldf/models';
import {
  AdamW,
  cat,
  free,
  grad,
  keep,
  noGrad,
  noiseKey,
  Parameters,
  Random,
  type StateTree,
  scope,
  type Tensor,
  tensor,
  zeros,
} from '@rldf/torch';
import { mapYields } from '../base/generators.js';
import { batchArithmetic } from '../config/batch-arithmetic.js';
import { progress, type Training, type TrainingContext, type TrainingEvent } from '../run/training.js';
import { importanceSamplingLoss } from './ddpo.js';
import { type DpokRecipe, dpokProblems, dpokSchema } from './dpok-schema.js';
import { copyInto, Learner } from './learner.js';
import type { Method } from './method.js';
import {
  type DrawnPicture,
  drawEpoch,
  isOwn,
  type Own,
  ownRows,
  policyMetrics,
  policyOf,
  policyUpdate,
  requireSamePolicy,
  rolloutsOf,
  samplesOfUpdate,
  scoreEpoch,
  type UpdateReport,
} from './policy-gradient.js';

export { type DpokRecipe, dpokSchema };

// B pictures · T denoising steps · N = B T transitions · C, h, w latent · D text width · H hidden units

export function createDpok(recipe: DpokRecipe, pipeline: Pipeline, context: TrainingContext): Training {
  const { sample, train } = recipe;
  const learner = new Learner(pipeline, recipe, batchArithmetic(recipe).updates);
  const policy =
    train.variant === 'publicCode'
      ? policyOf(learner, recipe, cutRatioLoss, (scheduler) => noiseKlFactors(scheduler, sample.eta))
      : policyOf(learner, recipe, importanceSamplingLoss);
  const value = new ValueFunction(recipe, pipeline);
  /** Of the first epoch's rewards: the unit in which all are learned from. */
  let unit: Moments | null = null;

  async function* run(from: number): AsyncGenerator<TrainingEvent> {
    for (let epoch = from; epoch < recipe.epochs; epoch++) yield* runEpoch(epoch);
  }

  async function* runEpoch(epoch: number): AsyncGenerator<TrainingEvent> {
    const pictures = yield* drawEpoch(learner, recipe, context, epoch); // x_T, ..., x_0 ~ p_θ
    try {
      const scores = yield* scoreEpoch(context, pictures); // r(x_0, c)
      unit ??= momentsOf(scores.total);
      const { mean: zero, std } = unit;
      const rewards = scores.total.map((reward) => (reward - zero) / (std > 1e-12 ? std : 1));
      const expected = await value.values(pictures); // V(x_t, c, t), before it is shown these rewards
      await value.fit(pictures, rewards, epoch);
      const errors = expected.map((ofSteps, i) => ofSteps.map((v) => (rewards[i] as number) - v)); // r - V
      const samples = pictures.map((picture, i) => ({
        ...picture,
        advantages: (errors[i] as number[]).map((error) => train.rewardWeight * error), // α (r - V)
      }));
      const updates = train.innerEpochs * train.updatesPerEpoch;
      const reports: UpdateReport[] = [];
      for (let update = 0; update < updates; update++) {
        const part = samplesOfUpdate(recipe, samples, epoch, update);
        const learningRate = train.learningRate * learner.schedule(epoch * updates + update);
        const updating = policyUpdate(learner, policy, part, learningRate); // with β KL, train.klWeight
        const report = yield* mapYields(updating, (share) =>
          progress('learning', (update + share) / updates, false),
        );
        if (update === 0) requireSamePolicy(learner, recipe, epoch, report);
        reports.push(report);
      }
      const metrics = {
        ...policyMetrics(scores, samples, reports, recipe),
        'value/meanSquareError': mean(errors.flat().map((error) => error ** 2)),
      };
      yield { kind: 'step', step: epoch + 1, metrics, pictures: pictures.length };
    } finally {
      free(rolloutsOf(pictures));
    }
  }

  return {
    steps: recipe.epochs,
    run,
    state: () => ({
      ...learner.state(),
      value: value.state(),
      unit: unit && { mean: unit.mean, std: unit.std },
    }),
    load(state) {
      const saved = state as { value: StateTree; unit: Moments | null };
      learner.load(state);
      value.load(saved.value);
      unit = saved.unit;
    },
    draw: (requests) => learner.draw(requests),
    exportTo: (folder) => learner.exportTo(folder),
    free() {
      learner.free();
      value.free();
    },
  };
}

/**
 * The public code's policy loss of one denoising step, one value a picture: the ratio is cut off on both sides. Unlike PPO's
 * form it has no gradient beyond the band even where that would lead back into it.
 *
 * @param logProb of the policy now, [B]
 * @param oldLogProb of the policy that drew, [B]
 * @param advantage [B]
 */
export function cutRatioLoss(
  logProb: Tensor,
  oldLogProb: Tensor,
  advantage: Tensor,
  clipRange: number,
): Tensor {
  const ratio = logProb.sub(oldLogProb).exp(); // [B]
  return advantage.mul(ratio.clamp(1 - clipRange, 1 + clipRange)).neg(); // [B]
}

/**
 * At each step, how many times the exact KL between two policies is (ε̂ - ε̂_base)², which DPOK's public code takes in its
 * place: 2 σ² / (∂μ/∂ε̂)², whatever the network predicts.
 */
export function noiseKlFactors(scheduler: PolicyScheduler, eta: number): number[] {
  return scheduler.timesteps.map(
    (_, step) => (2 * scheduler.std(step, eta) ** 2) / scheduler.noiseSlope(step, eta) ** 2,
  );
}

/** A picture by number, at a denoising step. */
type Transition = readonly [picture: number, step: number];

/**
 * V(x_t, c, t), the reward to be expected from a noisy latent (the paper's variance reduction by value learning; `ValueMulti` of
 * the public code): the mean square of r - V over the (picture, step) pairs it is shown falls. It reads prompts with the text
 * encoder that training began from.
 */
export class ValueFunction {
  readonly #textEncoder: CLIPTextModel;
  /** Of a copy, if the encoder itself learns. */
  readonly #frozen: Parameters | undefined;
  readonly #parameters: Parameters;
  readonly #network: ValueNetwork;
  readonly #optimiser: AdamW;
  readonly #latentSize: number;

  constructor(
    readonly recipe: DpokRecipe,
    readonly pipeline: Pipeline,
  ) {
    const { seed, sample, train } = recipe;
    const { device } = pipeline.unet;
    const { textEncoder, parameters } = pipeline;
    this.#frozen =
      train.textEncoder === 'none' ? undefined : Parameters.from(new Map(parameters.textEncoder.entries));
    this.#textEncoder = this.#frozen ? new CLIPTextModel(textEncoder.config, this.#frozen.at()) : textEncoder;
    this.#latentSize = latentShape(pipeline).reduce((a, b) => a * b);
    const inputs = this.#latentSize + (textEncoder.config.hidden_size ?? 512);
    this.#parameters = Parameters.random(noiseKey(seed, 'value function')[0] as number, { device });
    this.#network = new ValueNetwork(this.#parameters.at(), inputs, sample.steps, train.value.width);
    this.#optimiser = new AdamW(this.#parameters.trainable(), { ...train.value, weightDecay: 0 });
  }

  /** V before each denoising step of each picture: B lists of T. */
  async values(pictures: readonly DrawnPicture[]): Promise<number[][]> {
    const { steps } = this.recipe.sample;
    const rows = ownRows(pictures);
    const own = noGrad(() =>
      scope(() => {
        const texts = this.#texts(pictures); // [B, D]
        const columns = Array.from({ length: steps }, (_, step) =>
          scope(() =>
            this.#at(
              pictures,
              texts,
              rows.map((row) => [row, step]),
            ).toNumbers(),
          ),
        ); // T lists
        return rows.map((_, i) => columns.map((column) => column[i] as number));
      }),
    );
    return crew().assemble('values', rows, own);
  }

  /** Fits V to the pictures' rewards. */
  async fit(pictures: readonly DrawnPicture[], rewards: readonly number[], epoch: number): Promise<void> {
    const { seed, sample, train } = this.recipe;
    const { updates, batchSize } = train.value;
    const texts = noGrad(() => keep(this.#texts(pictures)));
    try {
      for (let update = 0; update < updates; update++) {
        const random = new Random(noiseKey(seed, 'value batch', epoch, update));
        const count = Math.min(batchSize, pictures.length * sample.steps);
        const rows = Array.from({ length: count }, () => random.integer(pictures.length));
        const all = rows.map((row): Transition => [row, random.integer(sample.steps)]);
        const own = all.filter(([row]) => isOwn(pictures[row] as DrawnPicture));
        const gradients = scope(() => {
          const targets = own.map(([row]) => rewards[row] as number);
          const errors = this.#at(pictures, texts, own).sub(tensor(targets, { device: texts.device }));
          return grad(errors.square().sum().div(count), this.#optimiser.parameters);
        });
        await crew().sum('value', gradients);
        this.#optimiser.step(gradients);
        free(gradients);
        await nextTurn();
      }
    } finally {
      texts.free();
    }
  }

  state(): StateTree {
    return { parameters: [...this.#optimiser.parameters], optimiser: this.#optimiser.state() };
  }

  load(state: StateTree): void {
    const saved = state as { parameters: Tensor[]; optimiser: StateTree };
    copyInto(this.#optimiser.parameters, saved.parameters);
    this.#optimiser.load(saved.optimiser);
  }

  free(): void {
    this.#optimiser.free();
    this.#parameters.free();
    this.#frozen?.free();
  }

  /** V of some transitions of own pictures. [N] */
  #at(pictures: readonly DrawnPicture[], texts: Tensor, transitions: readonly Transition[]): Tensor {
    const { device } = texts;
    const indices = (values: readonly number[]) => tensor([...values], { dtype: 'int64', device });
    const latents = transitions.map(([picture, step]) => {
      const { rollout, row } = pictures[picture] as Own;
      return rollout.trajectory.latents.select(0, step).narrow(0, row, 1).flatten(1); // [1, C h w]
    });
    const none = zeros([0, this.#latentSize], { device });
    const rows = texts.indexSelect(0, indices(transitions.map(([picture]) => picture)));
    const inputs = cat([cat([none, ...latents]), rows], 1); // [N, C h w + D]
    return this.#network.forward(inputs, indices(transitions.map(([, step]) => step)));
  }

  /** Pooled text features of each picture's prompt, [B, D]. */
  #texts(pictures: readonly DrawnPicture[]): Tensor {
    return scope(() => {
      const prompts = pictures.map(({ prompt }) => prompt.text);
      const distinct = [...new Set(prompts)];
      const options = { dtype: 'int64', device: this.#textEncoder.device } as const;
      const ids = tensor(this.pipeline.tokenizer.encode(distinct).ids, options);
      const { pooled } = this.#textEncoder.forward(ids);
      const rows = prompts.map((prompt) => distinct.indexOf(prompt));
      return pooled.indexSelect(0, tensor(rows, options));
    });
  }
}

export const dpok = {
  schema: dpokSchema,
  create: createDpok,
  problems: dpokProblems,
  plan: { arithmetic: batchArithmetic },
  drawsByPolicy: true,
} satisfies Method<DpokRecipe>;
