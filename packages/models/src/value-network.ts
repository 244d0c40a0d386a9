/** What a reward is expected to be, of DPOK. */
import { Embedding, Linear, type ParameterPath, scope, type Tensor } from '@rldf/torch';

// N transitions · H hidden units · C, h, w latent · D text width

/** Three layers ReLU(γ_t ⊙ (W x + b)), with a factor γ_t of each denoising step, and a linear one. */
export class ValueNetwork {
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
