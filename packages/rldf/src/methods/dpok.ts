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
import { CLIPTextModel, latentShape, type Pipeline, type PolicyScheduler } from '@rldf/models';
import {
  AdamW,
  cat,
  Embedding,
  free,
  grad,
  keep,
  Linear,
  noGrad,
  noiseKey,
  type ParameterPath,
  Parameters,
  Random,
  type StateTree,
  scope,
  type Tensor,
  tensor,
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
      const expected = value.values(pictures); // V(x_t, c, t), before it is shown these rewards
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
        if (update === 0) requireSamePolicy('dpok', epoch, report);
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

/** Three layers ReLU(γ_t ⊙ (W x + b)), with a factor γ_t of each denoising step, and a linear one. */
class ValueNetwork {
  readonly #layers: readonly { linear: Linear; factors: Embedding }[];
  readonly #last: Linear;

  constructor(path: ParameterPath, inputs: number, steps: number, width: number) {
    this.#layers = [inputs, width, width].map((size, i) => ({
      linear: new Linear(path.at('layers', i), size, width),
      factors: new Embedding(path.at('factors', i), steps, width, { init: 'ones' }), // [T, H]
    }));
    this.#last = new Linear(path.at('last'), width, 1);
  }

  /** @param inputs [N, C h w + D]; @param steps int64 [N]; @returns [N] */
  forward(inputs: Tensor, steps: Tensor): Tensor {
    return scope(() => {
      let hidden = inputs;
      for (const { linear, factors } of this.#layers)
        hidden = linear.forward(hidden).mul(factors.forward(steps)).relu(); // [N, H]
      return this.#last.forward(hidden).squeeze(1);
    });
  }
}

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
    const inputs = latentShape(pipeline).reduce((a, b) => a * b) + (textEncoder.config.hidden_size ?? 512);
    this.#parameters = Parameters.random(noiseKey(seed, 'value function')[0] as number, { device });
    this.#network = new ValueNetwork(this.#parameters.at(), inputs, sample.steps, train.value.width);
    this.#optimiser = new AdamW(this.#parameters.trainable(), { ...train.value, weightDecay: 0 });
  }

  /** V before each denoising step of each picture: B lists of T. */
  values(pictures: readonly DrawnPicture[]): number[][] {
    const { steps } = this.recipe.sample;
    return noGrad(() =>
      scope(() => {
        const texts = this.#texts(pictures); // [B, D]
        const rows = pictures.map((_, row) => row);
        const columns = Array.from({ length: steps }, (_, step) =>
          scope(() => this.#at(pictures, texts, rows, Array(rows.length).fill(step)).toNumbers()),
        ); // T lists of B
        return rows.map((row) => columns.map((column) => column[row] as number));
      }),
    );
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
        const steps = rows.map(() => random.integer(sample.steps));
        scope(() => {
          const targets = tensor(
            rows.map((row) => rewards[row] as number),
            { device: texts.device },
          );
          const loss = this.#at(pictures, texts, rows, steps).sub(targets).square().mean();
          this.#optimiser.step(grad(loss, this.#optimiser.parameters));
        });
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

  /** V of some transitions: pictures by number, each at a denoising step. [N] */
  #at(
    pictures: readonly DrawnPicture[],
    texts: Tensor,
    rows: readonly number[],
    steps: readonly number[],
  ): Tensor {
    const { device } = texts;
    const indices = (values: readonly number[]) => tensor([...values], { dtype: 'int64', device });
    const latents = rows.map((picture, i) => {
      const { rollout, row } = pictures[picture] as DrawnPicture;
      return rollout.trajectory.latents
        .select(0, steps[i] as number)
        .narrow(0, row, 1)
        .flatten(1); // [1, C h w]
    });
    const inputs = cat([cat(latents), texts.indexSelect(0, indices(rows))], 1); // [N, C h w + D]
    return this.#network.forward(inputs, indices(steps));
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
