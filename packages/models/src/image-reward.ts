import { cat, F, LayerNorm, Linear, type ParameterPath, scope, type Tensor } from '@rldf/torch';
import { AestheticPredictor } from './aesthetic.js';
import type { CLIPModel } from './clip.js';

export interface ImageRewardConfig {
  hidden_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  intermediate_size: number;
}

/**
 * A scorer in ImageReward's form (Xu et al. 2023, arXiv 2304.05977): text tokens attend to the picture's patches, the
 * first token's state goes through an MLP. ImageReward starts from BLIP; here a frozen CLIP supplies token states and
 * patches. Names below `text_encoder` and `mlp` are BLIP's and ImageReward's.
 */
export class ImageRewardModel {
  readonly #clip: CLIPModel;
  readonly #project: Linear;
  readonly #layers: CrossAttentionLayer[];
  readonly #head: AestheticPredictor;
  /** Of the raw scores on ordinary pictures, scalars: the reward is (raw - mean) / deviation. Not trained. */
  readonly mean: Tensor;
  readonly deviation: Tensor;

  /** @param clip frozen; not part of this model's state */
  constructor(config: ImageRewardConfig, clip: CLIPModel, path: ParameterPath) {
    const { hidden_size: width } = config;
    const text = path.at('text_encoder');
    this.#clip = clip;
    this.#project = new Linear(
      text.at('embeddings', 'projection'),
      clip.config.text_config.hidden_size ?? 512,
      width,
    );
    const visionWidth = 2 * (clip.config.vision_config.hidden_size ?? 768);
    this.#layers = Array.from(
      { length: config.num_hidden_layers },
      (_, layer) => new CrossAttentionLayer(text.at('encoder', 'layer', layer), config, visionWidth),
    );
    this.#head = new AestheticPredictor(path.at('mlp'), width);
    this.mean = path.tensor('mean', [], { constant: 0 });
    this.deviation = path.tensor('deviation', [], { constant: 1 });
  }

  /**
   * @param ids [B, L]
   * @param pixels [B, 3, S, S], normalised as CLIP's preprocessor does; differentiable
   * @returns [B]
   */
  forward(ids: Tensor, pixels: Tensor): Tensor {
    return scope(() => this.raw(ids, pixels).sub(this.mean).div(this.deviation));
  }

  /** Before standardisation: what the loss is taken of. */
  raw(ids: Tensor, pixels: Tensor): Tensor {
    return scope(() => {
      const { hiddenStates, lastHiddenState } = this.#clip.vision.forward(pixels, { hiddenStates: true });
      // what the first layer saw is added to what the last one made of it: sharpness is lost on the way
      const patches = cat([(hiddenStates as Tensor[])[1] as Tensor, lastHiddenState], -1); // [B, 1 + patches, 2 D]
      let states = this.#project.forward(this.#clip.text.forward(ids).lastHiddenState); // [B, L, width]
      for (const layer of this.#layers) states = layer.forward(states, patches);
      return this.#head.forward(states.select(1, 0)); // [B]
    });
  }
}

/** A BERT layer with cross-attention, normed after each sum, as BLIP's. */
class CrossAttentionLayer {
  readonly #self: BertAttention;
  readonly #cross: BertAttention;
  readonly #expand: Linear;
  readonly #contract: Linear;
  readonly #norm: LayerNorm;

  constructor(path: ParameterPath, config: ImageRewardConfig, visionWidth: number) {
    const { hidden_size: width, intermediate_size: inner, num_attention_heads: heads } = config;
    this.#self = new BertAttention(path.at('attention'), width, width, heads);
    this.#cross = new BertAttention(path.at('crossattention'), width, visionWidth, heads);
    this.#expand = new Linear(path.at('intermediate', 'dense'), width, inner);
    this.#contract = new Linear(path.at('output', 'dense'), inner, width);
    this.#norm = new LayerNorm(path.at('output', 'LayerNorm'), width, 1e-12);
  }

  /** [B, L, width], patches [B, P, visionWidth] -> [B, L, width] */
  forward(x: Tensor, patches: Tensor): Tensor {
    return scope(() => {
      const seen = this.#cross.forward(this.#self.forward(x, x), patches);
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
  forward(x: Tensor, context: Tensor): Tensor {
    const [batch, length] = x.shape as [number, number, number];
    const split = (projected: Tensor) =>
      projected.reshape([batch, -1, this.heads, this.width / this.heads]).transpose(1, 2); // [B, heads, N, width/heads]
    const mixed = F.scaledDotProductAttention(
      split(this.#query.forward(x)),
      split(this.#key.forward(context)),
      split(this.#value.forward(context)),
    );
    const joined = mixed.transpose(1, 2).reshape([batch, length, this.width]);
    return this.#norm.forward(this.#out.forward(joined).add(x));
  }
}
