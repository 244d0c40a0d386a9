// DPOK's value function V(x_t, z, t): the reward to be expected from a noisy latent (Fan et al. 2023, variance reduction by value learning; `ValueMulti` of the public code).
import { setImmediate as nextTurn } from 'node:timers/promises';
import { CLIPTextModel, latentShape, type Pipeline } from '@rldf/models';
import {
  AdamW,
  cat,
  Embedding,
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
import type { DpokRecipe } from '../config/dpok-schema.js';
import { loadParameters } from './learner.js';
import type { Scored } from './policy-gradient.js';

// B pictures · T denoising steps · N = B T transitions · C, h, w latent · D text width · H hidden units

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
 * Learns V from the pictures it is shown: the mean square of r - V over their (picture, step) pairs falls. It reads prompts with
 * the text encoder that training began from.
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
    const inputs =
      latentShape(pipeline).reduce((product, size) => product * size, 1) +
      (textEncoder.config.hidden_size ?? 512);
    this.#parameters = Parameters.random(noiseKey(seed, 'value function')[0] as number, { device });
    this.#network = new ValueNetwork(this.#parameters.at(), inputs, sample.steps, train.value.width);
    this.#optimiser = new AdamW(this.#parameters.trainable(), { ...train.value, weightDecay: 0 });
  }

  /** V before each denoising step of each picture: B lists of T. */
  values(scored: Scored): number[][] {
    const { steps } = this.recipe.sample;
    return noGrad(() =>
      scope(() => {
        const texts = this.#texts(scored); // [B, D]
        const rows = scored.prompts.map((_, row) => row);
        const columns = Array.from({ length: steps }, (_, step) =>
          scope(() => this.#at(scored, texts, rows, Array(rows.length).fill(step)).toNumbers()),
        ); // T lists of B
        return rows.map((row) => columns.map((column) => column[row] as number));
      }),
    );
  }

  /** Fits V to the pictures' rewards. */
  async fit(scored: Scored): Promise<void> {
    const { seed, sample, train } = this.recipe;
    const { updates, batchSize } = train.value;
    const texts = noGrad(() => keep(this.#texts(scored)));
    try {
      for (let update = 0; update < updates; update++) {
        const random = new Random(noiseKey(seed, 'value batch', scored.epoch, update));
        const count = Math.min(batchSize, scored.prompts.length * sample.steps);
        const rows = Array.from({ length: count }, () => random.integer(scored.prompts.length));
        const steps = rows.map(() => random.integer(sample.steps));
        scope(() => {
          const rewards = tensor(
            rows.map((row) => scored.rewards[row] as number),
            { device: texts.device },
          );
          const loss = this.#at(scored, texts, rows, steps).sub(rewards).square().mean();
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
    loadParameters(this.#optimiser.parameters, saved.parameters);
    this.#optimiser.load(saved.optimiser);
  }

  free(): void {
    this.#optimiser.free();
    this.#parameters.free();
    this.#frozen?.free();
  }

  /** V of some transitions: pictures by number, each at a denoising step. [N] */
  #at(scored: Scored, texts: Tensor, rows: readonly number[], steps: readonly number[]): Tensor {
    const places = scored.rollouts.flatMap(({ trajectory }) =>
      trajectory.behaviours.map((_, row) => ({ latents: trajectory.latents, row })),
    );
    const { device } = texts;
    const indices = (values: readonly number[]) => tensor([...values], { dtype: 'int64', device });
    const latents = rows.map((picture, i) => {
      const { latents, row } = places[picture] as (typeof places)[number];
      return latents
        .select(0, steps[i] as number)
        .narrow(0, row, 1)
        .flatten(1); // [1, C h w]
    });
    const inputs = cat([cat(latents), texts.indexSelect(0, indices(rows))], 1); // [N, C h w + D]
    return this.#network.forward(inputs, indices(steps));
  }

  /** Pooled text features of each picture's prompt, [B, D]. */
  #texts({ prompts }: Scored): Tensor {
    return scope(() => {
      const distinct = [...new Set(prompts)];
      const options = { dtype: 'int64', device: this.#textEncoder.device } as const;
      const ids = tensor(this.pipeline.tokenizer.encode(distinct).ids, options);
      const { pooled } = this.#textEncoder.forward(ids);
      return pooled.indexSelect(
        0,
        tensor(
          prompts.map((prompt) => distinct.indexOf(prompt)),
          options,
        ),
      );
    });
  }
}
