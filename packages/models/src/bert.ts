import {
  Embedding,
  F,
  LayerNorm,
  Linear,
  type ParameterPath,
  scope,
  type Tensor,
  UserError,
} from '@rldf/torch';

export interface BertConfig {
  hidden_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  intermediate_size: number;
}

/** A BERT layer with cross-attention, normed after each sum, as BLIP's (Li et al. 2022, arXiv 2201.12086). */
export class CrossAttentionLayer {
  readonly #self: BertAttention;
  readonly #cross: BertAttention;
  readonly #expand: Linear;
  readonly #contract: Linear;
  readonly #norm: LayerNorm;

  constructor(path: ParameterPath, config: BertConfig, visionWidth: number) {
    const { hidden_size: width, intermediate_size: inner, num_attention_heads: heads } = config;
    this.#self = new BertAttention(path.at('attention'), width, width, heads);
    this.#cross = new BertAttention(path.at('crossattention'), width, visionWidth, heads);
    this.#expand = new Linear(path.at('intermediate', 'dense'), width, inner);
    this.#contract = new Linear(path.at('output', 'dense'), inner, width);
    this.#norm = new LayerNorm(path.at('output', 'LayerNorm'), width, 1e-12);
  }

  /**
   * @param x [B, L, width]
   * @param patches [B, P, visionWidth]
   * @param mask bool, broadcast to [B, heads, L, L]: which tokens are seen; all by default
   * @returns [B, L, width]
   */
  forward(x: Tensor, patches: Tensor, mask?: Tensor): Tensor {
    return scope(() => {
      const seen = this.#cross.forward(this.#self.forward(x, x, mask), patches);
      return this.#norm.forward(this.#contract.forward(this.#expand.forward(seen).gelu()).add(seen));
    });
  }
}

class BertAttention {
  readonly #query: Linear;
  readonly #key: Linear;
  readonly #value: Linear;
  readonly #out: Linear;
  readonly #norm: LayerNorm;

  constructor(
    path: ParameterPath,
    readonly width: number,
    contextWidth: number,
    readonly heads: number,
  ) {
    this.#query = new Linear(path.at('self', 'query'), width, width);
    this.#key = new Linear(path.at('self', 'key'), contextWidth, width);
    this.#value = new Linear(path.at('self', 'value'), contextWidth, width);
    this.#out = new Linear(path.at('output', 'dense'), width, width);
    this.#norm = new LayerNorm(path.at('output', 'LayerNorm'), width, 1e-12);
  }

  /** [B, L, width], context [B, P, contextWidth] -> [B, L, width] */
  forward(x: Tensor, context: Tensor, mask?: Tensor): Tensor {
    const [batch, length] = x.shape as [number, number, number];
    const split = (projected: Tensor) =>
      projected.reshape([batch, -1, this.heads, this.width / this.heads]).transpose(1, 2); // [B, heads, N, width/heads]
    const mixed = F.scaledDotProductAttention(
      split(this.#query.forward(x)),
      split(this.#key.forward(context)),
      split(this.#value.forward(context)),
      mask === undefined ? {} : { mask },
    );
    const joined = mixed.transpose(1, 2).reshape([batch, length, this.width]);
    return this.#norm.forward(this.#out.forward(joined).add(x));
  }
}

/** BLIP's text encoder: BERT whose layers also attend to a picture's patches (`text_encoder.` names). */
export class BlipTextEncoder {
  readonly #words: Embedding;
  readonly #positions: Tensor; // [longest, width]
  readonly #norm: LayerNorm;
  readonly #layers: CrossAttentionLayer[];

  constructor(
    path: ParameterPath,
    config: BertConfig & { vocab_size: number; max_position_embeddings: number },
    visionWidth: number,
  ) {
    const { hidden_size: width, vocab_size: vocabulary, max_position_embeddings: longest } = config;
    if (width % config.num_attention_heads !== 0) {
      throw new UserError(
        `BLIP text encoder: hidden_size ${width} with ${config.num_attention_heads} heads — the first must be a multiple of the second. Use the config that belongs to the weights.`,
      );
    }
    const embeddings = path.at('embeddings');
    this.#words = new Embedding(embeddings.at('word_embeddings'), vocabulary, width);
    this.#positions = embeddings
      .at('position_embeddings')
      .tensor('weight', [longest, width], { normal: 0.02 });
    this.#norm = new LayerNorm(embeddings.at('LayerNorm'), width, 1e-12);
    this.#layers = Array.from(
      { length: config.num_hidden_layers },
      (_, layer) => new CrossAttentionLayer(path.at('encoder', 'layer', layer), config, visionWidth),
    );
  }

  /**
   * @param ids [B, L]
   * @param mask bool [B, L]: which of them are words, and not padding
   * @param patches [B, P, visionWidth]
   * @returns [B, L, width]
   */
  forward(ids: Tensor, mask: Tensor, patches: Tensor): Tensor {
    const [batch, length] = ids.shape as [number, number];
    return scope(() => {
      const seen = mask.reshape([batch, 1, 1, length]).expand([batch, 1, length, length]);
      const embedded = this.#words.forward(ids).add(this.#positions.narrow(0, 0, length)); // [B, L, width]
      return this.#layers.reduce((x, layer) => layer.forward(x, patches, seen), this.#norm.forward(embedded));
    });
  }
}
