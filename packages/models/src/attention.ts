import { cat, F, LayerNorm, Linear, type ParameterPath, scope, type Tensor } from '@rldf/torch';
import type { Conditioning, PreparedConditioning } from './conditioning.js';

export interface AttentionOptions {
  queryDim: number;
  /** Width of what keys and values are read from; the query's own by default. */
  contextDim?: number;
  heads: number;
  headDim: number;
  /** Bias of the query, key and value projections; the output projection always has one. */
  bias?: boolean;
  /** Computes the attention weights in float32 also when the model is in half precision. */
  upcast?: boolean;
}

/** Multi-head scaled dot-product attention under diffusers' names `to_q`, `to_k`, `to_v`, `to_out.0`. */
export class Attention {
  readonly #heads: number;
  readonly #headDim: number;
  readonly #upcast: boolean;
  readonly #toQuery: Linear;
  readonly #toKey: Linear;
  readonly #toValue: Linear;
  readonly #toOut: Linear;

  constructor(path: ParameterPath, options: AttentionOptions) {
    const { queryDim, contextDim = queryDim, heads, headDim, bias = false, upcast = false } = options;
    const innerDim = heads * headDim;
    this.#heads = heads;
    this.#headDim = headDim;
    this.#upcast = upcast;
    this.#toQuery = new Linear(path.at('to_q'), queryDim, innerDim, { bias });
    this.#toKey = new Linear(path.at('to_k'), contextDim, innerDim, { bias });
    this.#toValue = new Linear(path.at('to_v'), contextDim, innerDim, { bias });
    this.#toOut = new Linear(path.at('to_out', 0), innerDim, queryDim);
  }

  /**
   * @param x [B, N, queryDim]
   * @param context [B, L, contextDim]; x itself by default (self-attention)
   * @param keyValue of the context, where they are known already
   * @returns [B, N, queryDim]
   */
  forward(x: Tensor, context: Tensor = x, keyValue?: readonly Tensor[]): Tensor {
    return scope(() => {
      const query = this.#splitHeads(this.#toQuery.forward(x)); // [B, heads, N, headDim]
      const [key, value] = (keyValue ?? this.keyValue(context)) as [Tensor, Tensor];
      const mixed = this.#attend(query, key, value); // [B, heads, N, headDim]
      const [batch, length] = x.shape as [number, number, number];
      return this.#toOut.forward(mixed.transpose(1, 2).reshape([batch, length, this.#heads * this.#headDim]));
    });
  }

  /** [B, L, contextDim] -> keys and values [B, heads, L, headDim] */
  keyValue(context: Tensor): readonly [Tensor, Tensor] {
    return scope(() => [
      this.#splitHeads(this.#toKey.forward(context)),
      this.#splitHeads(this.#toValue.forward(context)),
    ]);
  }

  /**
   * How the first head divides its attention, as logarithms of shares.
   * @param x [B, N, queryDim]
   * @param key [B, heads, M, headDim]
   * @returns [B, N, M]
   */
  logShares(x: Tensor, key: Tensor): Tensor {
    return scope(() => {
      const query = this.#splitHeads(this.#toQuery.forward(x)).select(1, 0); // [B, N, headDim]
      const products = query.matmul(key.select(1, 0).transpose(1, 2)); // [B, N, M]
      return products
        .mul(this.#headDim ** -0.5)
        .to('float32')
        .logSoftmax(-1);
    });
  }

  #attend(query: Tensor, key: Tensor, value: Tensor): Tensor {
    if (!this.#upcast || query.dtype === 'float32') return F.scaledDotProductAttention(query, key, value);
    const wide = [query, key, value].map((part) => part.to('float32')) as [Tensor, Tensor, Tensor];
    return F.scaledDotProductAttention(...wide).to(value.dtype);
  }

  /** [B, N, heads * headDim] -> [B, heads, N, headDim] */
  #splitHeads(x: Tensor): Tensor {
    const [batch, length] = x.shape as [number, number, number];
    return x.reshape([batch, length, this.#heads, this.#headDim]).transpose(1, 2);
  }
}

/** GEGLU feed-forward (Shazeer 2020): four times the width, gated by the exact gelu of the second half. */
class FeedForward {
  readonly #project: Linear;
  readonly #out: Linear;

  constructor(path: ParameterPath, dim: number) {
    this.#project = new Linear(path.at('net', 0, 'proj'), dim, 8 * dim);
    this.#out = new Linear(path.at('net', 2), 4 * dim, dim);
  }

  /** [B, N, dim] -> [B, N, dim] */
  forward(x: Tensor): Tensor {
    return scope(() => {
      const [hidden, gate] = this.#project.forward(x).chunk(2, -1) as [Tensor, Tensor]; // each [B, N, 4 dim]
      return this.#out.forward(hidden.mul(gate.gelu()));
    });
  }
}

/**
 * GLIGEN's layer between self- and cross-attention: the picture attends to itself and to the grounded objects, and what comes
 * of it is added behind a gate, tanh(alpha), that begins closed. diffusers' class of this name.
 */
export class GatedSelfAttentionDense {
  readonly #linear: Linear;
  readonly #attention: Attention;
  readonly #feedForward: FeedForward;
  readonly #norm1: LayerNorm;
  readonly #norm2: LayerNorm;
  readonly #alphaAttention: Tensor; // []
  readonly #alphaDense: Tensor; // []
  /** Where a training looks on: called with what `forward` is. */
  watch: ((x: Tensor, ofObjects: readonly Tensor[]) => void) | undefined;

  constructor(
    path: ParameterPath,
    options: { dim: number; objectDim: number; heads: number; headDim: number },
  ) {
    const { dim, objectDim, heads, headDim } = options;
    this.#linear = new Linear(path.at('linear'), objectDim, dim);
    this.#attention = new Attention(path.at('attn'), { queryDim: dim, heads, headDim });
    this.#feedForward = new FeedForward(path.at('ff'), dim);
    this.#norm1 = new LayerNorm(path.at('norm1'), dim);
    this.#norm2 = new LayerNorm(path.at('norm2'), dim);
    this.#alphaAttention = path.tensor('alpha_attn', [], 'zeros');
    this.#alphaDense = path.tensor('alpha_dense', [], 'zeros');
  }

  /**
   * What places and objects get of the first head's attention, as logarithms of shares; arguments as `forward`.
   * @returns [B, HW, HW + N]
   */
  logShares(x: Tensor, [ofObjects]: readonly Tensor[]): Tensor {
    return scope(() => {
      const normed = this.#norm1.forward(x);
      const [own] = this.#attention.keyValue(normed);
      return this.#attention.logShares(normed, cat([own, ofObjects!], 2));
    });
  }

  /** Keys and values of the objects [B, N, objectDim], each [B, heads, N, headDim]. */
  keyValue(objects: Tensor): readonly [Tensor, Tensor] {
    return scope(() => this.#attention.keyValue(this.#norm1.forward(this.#linear.forward(objects))));
  }

  /**
   * @param x [B, HW, dim]
   * @param ofObjects what `keyValue` answers
   * @returns [B, HW, dim]
   */
  forward(x: Tensor, ofObjects: readonly Tensor[]): Tensor {
    this.watch?.(x, ofObjects);
    return scope(() => {
      const normed = this.#norm1.forward(x);
      const own = this.#attention.keyValue(normed);
      const both = own.map((part, i) => cat([part, ofObjects[i]!], 2)); // [B, heads, HW + N, headDim]
      const attended = this.#attention.forward(normed, normed, both);
      const hidden = x.add(this.#alphaAttention.tanh().mul(attended));
      const dense = this.#feedForward.forward(this.#norm2.forward(hidden));
      return hidden.add(this.#alphaDense.tanh().mul(dense));
    });
  }
}

export interface TransformerBlockOptions {
  dim: number;
  heads: number;
  headDim: number;
  crossAttentionDim: number;
  /** The first attention reads the text too, instead of the picture. */
  onlyCrossAttention: boolean;
  upcastAttention: boolean;
  /** Whether grounded objects are read between the two attentions. */
  gated?: boolean;
}

/** Self-attention, cross-attention to the text, feed-forward; each behind a LayerNorm and added to its input. */
export class BasicTransformerBlock {
  readonly #onlyCrossAttention: boolean;
  readonly #norm1: LayerNorm;
  readonly #attention1: Attention;
  readonly fuser: GatedSelfAttentionDense | undefined;
  readonly #norm2: LayerNorm;
  readonly #attention2: Attention;
  readonly #norm3: LayerNorm;
  readonly #feedForward: FeedForward;

  constructor(path: ParameterPath, options: TransformerBlockOptions) {
    const { dim, heads, headDim, crossAttentionDim, onlyCrossAttention, upcastAttention } = options;
    const common = { queryDim: dim, heads, headDim, upcast: upcastAttention };
    this.#onlyCrossAttention = onlyCrossAttention;
    this.#norm1 = new LayerNorm(path.at('norm1'), dim);
    this.#attention1 = new Attention(path.at('attn1'), {
      ...common,
      contextDim: onlyCrossAttention ? crossAttentionDim : dim,
    });
    if (options.gated)
      this.fuser = new GatedSelfAttentionDense(path.at('fuser'), {
        dim,
        objectDim: crossAttentionDim,
        heads,
        headDim,
      });
    this.#norm2 = new LayerNorm(path.at('norm2'), dim);
    this.#attention2 = new Attention(path.at('attn2'), { ...common, contextDim: crossAttentionDim });
    this.#norm3 = new LayerNorm(path.at('norm3'), dim);
    this.#feedForward = new FeedForward(path.at('ff'), dim);
  }

  /** Adds keys and values of the text [B, L, crossAttentionDim] and of grounded objects [B, N, crossAttentionDim]. */
  prepare({ hiddenStates: text, objects }: Conditioning, prepared: PreparedConditioning): void {
    const readers = this.#onlyCrossAttention ? [this.#attention1, this.#attention2] : [this.#attention2];
    for (const attention of readers) prepared.set(attention, attention.keyValue(text));
    if (this.fuser && objects) prepared.set(this.fuser, this.fuser.keyValue(objects));
  }

  /** [B, N, dim] -> [B, N, dim] */
  forward(x: Tensor, { hiddenStates: text, grounding, objects, prepared }: Conditioning): Tensor {
    return scope(() => {
      const normed = this.#norm1.forward(x);
      const known = (layer: Attention | GatedSelfAttentionDense) => prepared?.get(layer);
      const context = this.#onlyCrossAttention ? text : normed;
      let hidden = x.add(this.#attention1.forward(normed, context, known(this.#attention1)));
      if (this.fuser && grounding)
        hidden = this.fuser.forward(hidden, known(this.fuser) ?? this.fuser.keyValue(objects!));
      hidden = hidden.add(
        this.#attention2.forward(this.#norm2.forward(hidden), text, known(this.#attention2)),
      );
      return hidden.add(this.#feedForward.forward(this.#norm3.forward(hidden)));
    });
  }
}
