import {
  Conv2d,
  cat,
  LayerNorm,
  Linear,
  type ParameterPath,
  scope,
  type Tensor,
  UserError,
} from '@rldf/torch';
import { CLIPEncoder } from './clip-encoder.js';
import type { CLIPVisionConfig } from './configs.js';

export interface CLIPVisionOutput {
  /** [B, 1 + patches, D], the class token first. */
  lastHiddenState: Tensor;
  /** The class token behind the last norm, [B, D]. */
  pooled: Tensor;
  /** Embeddings behind the first norm, then the output of each layer. Only when asked for. */
  hiddenStates?: Tensor[];
}

/** CLIP's vision transformer (Radford et al. 2021; transformers' class of this name, `vision_model.` names). */
export class CLIPVisionModel {
  readonly config: CLIPVisionConfig;
  readonly #imageSize: number;
  readonly #classEmbedding: Tensor; // [D]
  readonly #patchEmbedding: Conv2d;
  readonly #positionEmbedding: Tensor; // [1 + patches, D]
  readonly #preNorm: LayerNorm;
  readonly #encoder: CLIPEncoder;
  readonly #postNorm: LayerNorm;

  /** @throws UserError when the config asks for something that is not built, or contradicts itself */
  constructor(config: CLIPVisionConfig, path: ParameterPath, where = 'CLIPVisionModel config') {
    const vision = path.at('vision_model');
    const embeddings = vision.at('embeddings');
    const hiddenSize = config.hidden_size ?? 768;
    const patchSize = config.patch_size ?? 32;
    const eps = config.layer_norm_eps ?? 1e-5;
    this.config = config;
    this.#imageSize = config.image_size ?? 224;
    const patches = Math.floor(this.#imageSize / patchSize) ** 2;
    this.#classEmbedding = embeddings.tensor('class_embedding', [hiddenSize], { normal: hiddenSize ** -0.5 });
    this.#patchEmbedding = new Conv2d(
      embeddings.at('patch_embedding'),
      config.num_channels ?? 3,
      hiddenSize,
      patchSize,
      { stride: patchSize, bias: false, init: { normal: 0.02 } },
    );
    this.#positionEmbedding = embeddings
      .at('position_embedding')
      .tensor('weight', [1 + patches, hiddenSize], { normal: 0.02 });
    this.#preNorm = new LayerNorm(vision.at('pre_layrnorm'), hiddenSize, eps);
    const tower = {
      hiddenSize,
      intermediateSize: config.intermediate_size ?? 3072,
      layers: config.num_hidden_layers ?? 12,
      heads: config.num_attention_heads ?? 12,
      activation: config.hidden_act ?? 'quick_gelu',
      eps,
      causal: false,
    };
    this.#encoder = new CLIPEncoder(vision.at('encoder'), tower, where);
    this.#postNorm = new LayerNorm(vision.at('post_layernorm'), hiddenSize, eps);
  }

  /** @param pixels [B, num_channels, image_size, image_size], normalised as the model's preprocessor does */
  forward(pixels: Tensor, options: { hiddenStates?: boolean } = {}): CLIPVisionOutput {
    const [batch, , height, width] = pixels.shape as [number, number, number, number];
    if (pixels.shape.length !== 4 || height !== this.#imageSize || width !== this.#imageSize) {
      throw new UserError(
        `CLIPVisionModel.forward: pixels have shape [${pixels.shape}] — expected [batch, channels, ` +
          `${this.#imageSize}, ${this.#imageSize}]. Resize the pictures to image_size.`,
      );
    }
    return scope(() => {
      const patches = this.#patchEmbedding.forward(pixels).flatten(2).transpose(1, 2); // [B, patches, D]
      const classes = this.#classEmbedding.expand([batch, 1, this.#classEmbedding.numel]); // [B, 1, D]
      const embedded = cat([classes, patches], 1).add(this.#positionEmbedding); // [B, 1 + patches, D]
      const states = this.#encoder.forward(this.#preNorm.forward(embedded));
      const lastHiddenState = states[states.length - 1]!;
      const output = { lastHiddenState, pooled: this.#postNorm.forward(lastHiddenState.select(1, 0)) };
      return options.hiddenStates ? { ...output, hiddenStates: states } : output;
    });
  }
}

/** The vision tower with CLIP's projection into the space shared with text. */
export class CLIPVisionModelWithProjection {
  readonly config: CLIPVisionConfig;
  readonly #vision: CLIPVisionModel;
  readonly #projection: Linear;

  constructor(config: CLIPVisionConfig, path: ParameterPath, where = 'CLIPVisionModelWithProjection config') {
    const hiddenSize = config.hidden_size ?? 768;
    this.config = config;
    this.#vision = new CLIPVisionModel(config, path, where);
    this.#projection = new Linear(path.at('visual_projection'), hiddenSize, config.projection_dim ?? 512, {
      bias: false,
      init: { normal: hiddenSize ** -0.5 },
    });
  }

  /** @returns as `CLIPVisionModel`, and `imageEmbeds` [B, projection_dim] (not normalised) */
  forward(
    pixels: Tensor,
    options: { hiddenStates?: boolean } = {},
  ): CLIPVisionOutput & { imageEmbeds: Tensor } {
    const output = this.#vision.forward(pixels, options);
    return { ...output, imageEmbeds: this.#projection.forward(output.pooled) };
  }
}
