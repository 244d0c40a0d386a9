import { arange, cat, F, LayerNorm, Linear, type ParameterPath, type Tensor, UserError } from '@rldf/torch';
import type { Conditioning } from './conditioning.js';
import type { UNet2DConditionConfig } from './configs.js';

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

/**
 * A summary of the text, added to the time embedding so that every residual block hears it (diffusers'
 * `addition_embed_type: text`, after DeepFloyd IF): layer norm, attention pooling with the mean as query, projection.
 */
export class TextTimeEmbedding {
  readonly #norm1: LayerNorm;
  readonly #position: Tensor; // [1, D]
  readonly #query: Linear;
  readonly #key: Linear;
  readonly #value: Linear;
  readonly #projection: Linear;
  readonly #norm2: LayerNorm;
  readonly #heads: number;

  /** @throws UserError when the text width cannot be cut into heads */
  constructor(path: ParameterPath, textDim: number, embeddingDim: number, heads: number) {
    if (textDim % heads !== 0) {
      throw new UserError(
        `${path.name}: addition_embed_type_num_heads is ${heads} — must divide the text width ${textDim}. Change the config.`,
      );
    }
    const pool = path.at('pool');
    this.#heads = heads;
    this.#norm1 = new LayerNorm(path.at('norm1'), textDim);
    this.#position = pool.tensor('positional_embedding', [1, textDim], { normal: 1 / Math.sqrt(textDim) });
    this.#key = new Linear(pool.at('k_proj'), textDim, textDim);
    this.#query = new Linear(pool.at('q_proj'), textDim, textDim);
    this.#value = new Linear(pool.at('v_proj'), textDim, textDim);
    this.#projection = new Linear(path.at('proj'), textDim, embeddingDim);
    this.#norm2 = new LayerNorm(path.at('norm2'), embeddingDim);
  }

  /** @returns [B, embeddingDim] */
  forward({ hiddenStates }: Conditioning): Tensor {
    const text = this.#norm1.forward(hiddenStates);
    const summary = text.mean(1, true).add(this.#position); // [B, 1, D]
    const all = cat([summary, text], 1); // [B, 1 + L, D]
    const [batch, length, width] = all.shape as [number, number, number];
    const split = (x: Tensor, count: number) =>
      x.reshape([batch, count, this.#heads, width / this.#heads]).transpose(1, 2); // [B, heads, count, D / heads]
    const pooled = F.scaledDotProductAttention(
      split(this.#query.forward(summary), 1),
      split(this.#key.forward(all), length),
      split(this.#value.forward(all), length),
    ).reshape([batch, width]);
    return this.#norm2.forward(this.#projection.forward(pooled));
  }
}

/**
 * The prompt's summary and the picture's six sizes, each size as a sinusoid of its own, added to the time embedding (diffusers'
 * `addition_embed_type: text_time`; Podell et al. 2023, section 2.2).
 */
export class SizesTimeEmbedding {
  readonly #sizeDim: number;
  readonly #sinusoid: SinusoidOptions;
  readonly #network: TimestepEmbedding;

  /** @throws UserError when the config names no widths */
  constructor(path: ParameterPath, config: UNet2DConditionConfig, embeddingDim: number, where: string) {
    const { addition_time_embed_dim: sizeDim, projection_class_embeddings_input_dim: inDim } = config;
    if (sizeDim == null || inDim == null) {
      throw new UserError(
        `${where}: addition_time_embed_dim is ${sizeDim}, projection_class_embeddings_input_dim is ${inDim} — ` +
          'addition_embed_type "text_time" needs both. Restore the file, or use another model.',
      );
    }
    this.#sizeDim = sizeDim;
    this.#sinusoid = {
      flipSinToCos: config.flip_sin_to_cos ?? true,
      frequencyShift: config.freq_shift ?? 0,
    };
    this.#network = new TimestepEmbedding(path, inDim, embeddingDim);
  }

  /** @returns [B, embeddingDim] */
  forward({ pooled, timeIds }: Conditioning): Tensor {
    if (pooled === undefined || timeIds === undefined) {
      throw new UserError(
        'UNet2DConditionModel: the conditioning has no pooled text or no sizes — this network was trained with both. ' +
          'Encode the prompts with `encodePrompts`.',
      );
    }
    const sizes = sinusoidalEmbedding(timeIds.flatten(0), this.#sizeDim, this.#sinusoid); // [6 B, sizeDim]
    const flat = sizes.reshape([timeIds.shape[0]!, -1]).to(pooled.dtype); // [B, 6 sizeDim]
    return this.#network.forward(cat([pooled, flat], 1));
  }
}
