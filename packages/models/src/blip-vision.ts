import {
  Conv2d,
  cat,
  F,
  LayerNorm,
  Linear,
  type ParameterPath,
  scope,
  type Tensor,
  UserError,
} from '@rldf/torch';

export interface BlipVisionConfig {
  hidden_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  intermediate_size: number;
  image_size: number;
  patch_size: number;
}

const EPS = 1e-6;

/** The vision transformer of BLIP (Li et al. 2022, arXiv 2201.12086), under its own names (timm's). */
export class BlipVisionTransformer {
  readonly #imageSize: number;
  readonly #classToken: Tensor; // [1, 1, D]
  readonly #positions: Tensor; // [1, 1 + patches, D]
  readonly #patches: Conv2d;
  readonly #blocks: Block[];
  readonly #norm: LayerNorm;

  constructor(config: BlipVisionConfig, path: ParameterPath) {
    const { hidden_size: width, patch_size: patch, image_size: size } = config;
    if (width % config.num_attention_heads !== 0 || size % patch !== 0) {
      throw new UserError(
        `BLIP vision transformer: hidden_size ${width} with ${config.num_attention_heads} heads, image_size ${size} with patches of ${patch} — must divide. Use the config that belongs to the weights.`,
      );
    }
    this.#imageSize = size;
    this.#classToken = path.tensor('cls_token', [1, 1, width], { normal: 0.02 });
    this.#positions = path.tensor('pos_embed', [1, 1 + (size / patch) ** 2, width], { normal: 0.02 });
    this.#patches = new Conv2d(path.at('patch_embed', 'proj'), 3, width, patch, { stride: patch });
    this.#blocks = Array.from(
      { length: config.num_hidden_layers },
      (_, block) => new Block(path.at('blocks', block), config),
    );
    this.#norm = new LayerNorm(path.at('norm'), width, EPS);
  }

  /** @param pixels [B, 3, image_size, image_size], normalised -> [B, 1 + patches, D], the class token first */
  forward(pixels: Tensor): Tensor {
    const [batch, , height, width] = pixels.shape as [number, number, number, number];
    if (height !== this.#imageSize || width !== this.#imageSize) {
      throw new UserError(
        `BLIP vision transformer: pixels have shape [${pixels.shape}] — expected [batch, 3, ${this.#imageSize}, ${this.#imageSize}]. Resize the pictures.`,
      );
    }
    return scope(() => {
      const patches = this.#patches.forward(pixels).flatten(2).transpose(1, 2); // [B, patches, D]
      const first = this.#classToken.expand([batch, 1, this.#classToken.numel]); // [B, 1, D]
      const embedded = cat([first, patches], 1).add(this.#positions); // [B, 1 + patches, D]
      return this.#norm.forward(this.#blocks.reduce((x, block) => block.forward(x), embedded));
    });
  }
}

class Block {
  readonly #heads: number;
  readonly #norm1: LayerNorm;
  readonly #qkv: Linear;
  readonly #out: Linear;
  readonly #norm2: LayerNorm;
  readonly #expand: Linear;
  readonly #contract: Linear;

  constructor(path: ParameterPath, config: BlipVisionConfig) {
    const { hidden_size: width, intermediate_size: inner } = config;
    this.#heads = config.num_attention_heads;
    this.#norm1 = new LayerNorm(path.at('norm1'), width, EPS);
    this.#qkv = new Linear(path.at('attn', 'qkv'), width, 3 * width);
    this.#out = new Linear(path.at('attn', 'proj'), width, width);
    this.#norm2 = new LayerNorm(path.at('norm2'), width, EPS);
    this.#expand = new Linear(path.at('mlp', 'fc1'), width, inner);
    this.#contract = new Linear(path.at('mlp', 'fc2'), inner, width);
  }

  /** [B, L, D] -> [B, L, D] */
  forward(x: Tensor): Tensor {
    return scope(() => {
      const hidden = x.add(this.#attend(this.#norm1.forward(x)));
      return hidden.add(this.#contract.forward(this.#expand.forward(this.#norm2.forward(hidden)).gelu()));
    });
  }

  #attend(x: Tensor): Tensor {
    const [batch, length, width] = x.shape as [number, number, number];
    const all = this.#qkv.forward(x).reshape([batch, length, 3, this.#heads, width / this.#heads]); // [B, L, 3, heads, D/heads]
    const part = (which: number) => all.select(2, which).transpose(1, 2); // [B, heads, L, D/heads]
    const mixed = F.scaledDotProductAttention(part(0), part(1), part(2));
    return this.#out.forward(mixed.transpose(1, 2).reshape([batch, length, width]));
  }
}
