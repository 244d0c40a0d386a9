import {
  type Device,
  Embedding,
  LayerNorm,
  Linear,
  type ParameterPath,
  type StateDict,
  scope,
  type Tensor,
  UserError,
} from '@rldf/torch';
import { CLIPEncoder } from './clip-encoder.js';
import { checkFields, textFields } from './config-fields.js';
import type { CLIPTextConfig } from './configs.js';

export interface CLIPTextOutput {
  /** Normed by the final layer norm, [B, L, D]. */
  lastHiddenState: Tensor;
  /** `lastHiddenState` at each prompt's first end-of-text token, [B, D]. */
  pooled: Tensor;
  /** Before the final norm: embeddings, then the output of each layer. Only when asked for. */
  hiddenStates?: Tensor[];
}

export interface CLIPTextForwardOptions {
  /** Leaves out that many of the last layers; 1 is the "penultimate layer". The final norm still applies. */
  clipSkip?: number;
  /** Returns `hiddenStates` too. */
  hiddenStates?: boolean;
}

/** CLIP's text tower (Radford et al. 2021; transformers' class of this name, `text_model.` names). */
export class CLIPTextModel {
  readonly config: CLIPTextConfig;
  readonly #maxLength: number;
  readonly #vocabulary: number;
  readonly #layers: number;
  readonly #tokenEmbedding: Embedding;
  readonly #positionEmbedding: Tensor; // [maxLength, D]
  readonly #encoder: CLIPEncoder;
  readonly #finalNorm: LayerNorm;

  /** @throws UserError when the config asks for something that is not built, or contradicts itself */
  constructor(config: CLIPTextConfig, path: ParameterPath, where = 'CLIPTextModel config') {
    checkFields(where, config, textFields);
    const text = path.at('text_model');
    const hiddenSize = config.hidden_size ?? 512;
    const eps = config.layer_norm_eps ?? 1e-5;
    const embeddings = text.at('embeddings');
    this.config = config;
    this.#maxLength = config.max_position_embeddings ?? 77;
    this.#vocabulary = config.vocab_size ?? 49408;
    this.#layers = config.num_hidden_layers ?? 12;
    this.#tokenEmbedding = new Embedding(embeddings.at('token_embedding'), this.#vocabulary, hiddenSize, {
      init: { normal: 0.02 },
    });
    this.#positionEmbedding = embeddings
      .at('position_embedding')
      .tensor('weight', [this.#maxLength, hiddenSize], { normal: 0.02 });
    const tower = {
      hiddenSize,
      intermediateSize: config.intermediate_size ?? 2048,
      layers: this.#layers,
      heads: config.num_attention_heads ?? 8,
      activation: config.hidden_act ?? 'quick_gelu',
      eps,
      causal: true,
    };
    this.#encoder = new CLIPEncoder(text.at('encoder'), tower, where);
    this.#finalNorm = new LayerNorm(text.at('final_layer_norm'), hiddenSize, eps);
  }

  get device(): Device {
    return this.#positionEmbedding.device;
  }

  /** @param ids token ids [B, L] int64, L at most `max_position_embeddings` */
  forward(ids: Tensor, options: CLIPTextForwardOptions = {}): CLIPTextOutput {
    const { clipSkip = 0 } = options;
    const length = ids.shape[1];
    if (ids.shape.length !== 2 || length === undefined || length > this.#maxLength) {
      throw new UserError(
        `CLIPTextModel.forward: ids have shape [${ids.shape}] — expected [batch, length] with length at most ` +
          `${this.#maxLength}. Truncate the prompts with the tokenizer of this model.`,
      );
    }
    if (!Number.isInteger(clipSkip) || clipSkip < 0 || clipSkip >= this.#layers) {
      throw new UserError(
        `CLIPTextModel.forward: clipSkip is ${clipSkip} — the encoder has ${this.#layers} layers. ` +
          `Choose 0 to ${this.#layers - 1}.`,
      );
    }
    return scope(() => {
      const positions = this.#positionEmbedding.narrow(0, 0, length); // [L, D]
      const states = this.#encoder.forward(this.#tokenEmbedding.forward(ids).add(positions)); // each [B, L, D]
      const lastHiddenState = this.#finalNorm.forward(states[states.length - 1 - clipSkip]!);
      const output = { lastHiddenState, pooled: this.#pool(lastHiddenState, ids) };
      return options.hiddenStates ? { ...output, hiddenStates: states } : output;
    });
  }

  /** The state at the end-of-text token: [B, L, D] -> [B, D]. */
  #pool(states: Tensor, ids: Tensor): Tensor {
    const [batch, , width] = states.shape as [number, number, number];
    const eos = this.config.eos_token_id ?? 49407;
    // configs older than transformers 4.31 say 2 whatever the vocabulary; there the end token is the highest id
    const position = eos === 2 ? ids.argmax(1) : ids.eq(eos).to('int32').argmax(1); // [B], the first one
    return states.gather(1, position.reshape([batch, 1, 1]).expand([batch, 1, width])).squeeze(1);
  }
}

/** The text tower with CLIP's projection into the space shared with pictures. */
export class CLIPTextModelWithProjection {
  readonly config: CLIPTextConfig;
  readonly #text: CLIPTextModel;
  readonly #projection: Linear;

  constructor(config: CLIPTextConfig, path: ParameterPath, where = 'CLIPTextModelWithProjection config') {
    const hiddenSize = config.hidden_size ?? 512;
    this.config = config;
    this.#text = new CLIPTextModel(config, path, where);
    this.#projection = new Linear(path.at('text_projection'), hiddenSize, config.projection_dim ?? 512, {
      bias: false,
      init: { normal: hiddenSize ** -0.5 },
    });
  }

  /** @returns as `CLIPTextModel`, and `textEmbeds` [B, projection_dim] (not normalised) */
  forward(ids: Tensor, options: CLIPTextForwardOptions = {}): CLIPTextOutput & { textEmbeds: Tensor } {
    const output = this.#text.forward(ids, options);
    return { ...output, textEmbeds: this.#projection.forward(output.pooled) };
  }
}

/** Weights of a bare tower as transformers 5 saves them (`encoder...`) -> with `text_model.` in front. */
export function withTowerPrefix(state: StateDict, prefix: 'text_model' | 'vision_model'): StateDict {
  const heads = ['embeddings.', 'encoder.', 'final_layer_norm.', 'pre_layrnorm.', 'post_layernorm.'];
  const bare = (name: string) => heads.some((head) => name.startsWith(head));
  return new Map(
    [...state]
      .filter(([name]) => !name.endsWith('embeddings.position_ids')) // a constant that old files carry along
      .map(([name, tensor]) => [bare(name) ? `${prefix}.${name}` : name, tensor]),
  );
}
