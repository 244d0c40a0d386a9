import { arange, cat, F, Linear, type ParameterPath, type Tensor } from '@rldf/torch';

export interface SinusoidOptions {
  /** cos before sin. */
  flipSinToCos: boolean;
  /** Subtracted from the number of frequencies in the exponent (diffusers' `freq_shift`). */
  frequencyShift: number;
  maxPeriod?: number;
}

/**
 * Sinusoidal embedding of timesteps (Ho et al. 2020, after Vaswani et al. 2017), in float32.
 *
 * @param timesteps [B], integral or fractional
 * @returns [B, dim]
 */
export function sinusoidalEmbedding(timesteps: Tensor, dim: number, options: SinusoidOptions): Tensor {
  const half = Math.floor(dim / 2);
  // float32 as in diffusers: one rounding more or less moves sin(999 x) by 1e-4
  const frequencies = arange(0, half, 1, { dtype: 'float32', device: timesteps.device })
    .mul(-Math.log(options.maxPeriod ?? 10000))
    .div(half - options.frequencyShift)
    .exp(); // [half]
  const angles = timesteps.to('float32').unsqueeze(1).mul(frequencies.unsqueeze(0)); // [B, half]
  const halves = options.flipSinToCos ? [angles.cos(), angles.sin()] : [angles.sin(), angles.cos()];
  const embedding = cat(halves, 1); // [B, 2 half]
  return dim % 2 === 0 ? embedding : F.pad(embedding, [0, 1, 0, 0]);
}

/** The two-layer network that turns the sinusoid into the time embedding of the residual blocks. */
export class TimestepEmbedding {
  readonly #linear1: Linear;
  readonly #linear2: Linear;

  constructor(path: ParameterPath, inFeatures: number, embeddingDim: number) {
    this.#linear1 = new Linear(path.at('linear_1'), inFeatures, embeddingDim);
    this.#linear2 = new Linear(path.at('linear_2'), embeddingDim, embeddingDim);
  }

  /** [B, inFeatures] -> [B, embeddingDim] */
  forward(sinusoid: Tensor): Tensor {
    return this.#linear2.forward(this.#linear1.forward(sinusoid).silu());
  }
}
