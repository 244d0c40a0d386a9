import { F, LayerNorm, Linear, type ParameterPath, scope, type Tensor, UserError } from '@rldf/torch';

export interface CLIPEncoderOptions {
  hiddenSize: number;
  intermediateSize: number;
  layers: number;
  heads: number;
  /** `hidden_act` of the config. */
  activation: string;
  eps: number;
  /** Each token sees itself and those before it (text); all see all (vision). */
  causal: boolean;
}

const ACTIVATIONS: { readonly [name: string]: (x: Tensor) => Tensor } = {
  quick_gelu: (x) => x.mul(x.mul(1.702).sigmoid()),
  gelu: (x) => x.gelu(),
  gelu_pytorch_tanh: (x) => x.gelu('tanh'),
};

/** The transformer of both CLIP towers (Radford et al. 2021): pre-norm attention and MLP. */
export class CLIPEncoder {
  readonly #layers: CLIPEncoderLayer[];

  constructor(path: ParameterPath, options: CLIPEncoderOptions, where: string) {
    const { hiddenSize, heads, activation } = options;
    if (hiddenSize % heads !== 0) {
      throw new UserError(
        `${where}: hidden_size ${hiddenSize} with num_attention_heads ${heads} — the first must be a multiple of ` +
          'the second. Change one of the two.',
      );
    }
    if (!Object.hasOwn(ACTIVATIONS, activation)) {
      throw new UserError(
        `${where}: hidden_act is ${JSON.stringify(activation)} — not supported; supported: ` +
          `${Object.keys(ACTIVATIONS).join(', ')}. Use a model with one of these.`,
      );
    }
    this.#layers = Array.from(
      { length: options.layers },
      (_, layer) => new CLIPEncoderLayer(path.at('layers', layer), options),
    );
  }

  /**
   * @param x embeddings [B, L, D]
   * @returns the input of the first layer and the output of every layer: layers + 1 tensors [B, L, D]
   */
  forward(x: Tensor): Tensor[] {
    const states = [x];
    for (const layer of this.#layers) states.push(layer.forward(states[states.length - 1]!));
    return states;
  }
}

class CLIPEncoderLayer {
  readonly #norm1: LayerNorm;
  readonly #attention: CLIPAttention;
  readonly #norm2: LayerNorm;
  readonly #expand: Linear;
  readonly #contract: Linear;
  readonly #activate: (x: Tensor) => Tensor;

  constructor(path: ParameterPath, options: CLIPEncoderOptions) {
    const { hiddenSize, intermediateSize, layers, activation, eps } = options;
    const inner = hiddenSize ** -0.5 * (2 * layers) ** -0.5;
    this.#norm1 = new LayerNorm(path.at('layer_norm1'), hiddenSize, eps);
    this.#attention = new CLIPAttention(path.at('self_attn'), options);
    this.#norm2 = new LayerNorm(path.at('layer_norm2'), hiddenSize, eps);
    this.#expand = new Linear(path.at('mlp', 'fc1'), hiddenSize, intermediateSize, {
      init: { normal: (2 * hiddenSize) ** -0.5 },
    });
    this.#contract = new Linear(path.at('mlp', 'fc2'), intermediateSize, hiddenSize, {
      init: { normal: inner },
    });
    this.#activate = ACTIVATIONS[activation]!;
  }

  /** [B, L, D] -> [B, L, D] */
  forward(x: Tensor): Tensor {
    return scope(() => {
      const hidden = x.add(this.#attention.forward(this.#norm1.forward(x)));
      const expanded = this.#activate(this.#expand.forward(this.#norm2.forward(hidden))); // [B, L, intermediate]
      return hidden.add(this.#contract.forward(expanded));
    });
  }
}

class CLIPAttention {
  readonly #heads: number;
  readonly #causal: boolean;
  readonly #query: Linear;
  readonly #key: Linear;
  readonly #value: Linear;
  readonly #out: Linear;

  constructor(path: ParameterPath, { hiddenSize, heads, layers, causal }: CLIPEncoderOptions) {
    const outInit = { init: { normal: hiddenSize ** -0.5 } };
    const inInit = { init: { normal: hiddenSize ** -0.5 * (2 * layers) ** -0.5 } };
    this.#heads = heads;
    this.#causal = causal;
    this.#query = new Linear(path.at('q_proj'), hiddenSize, hiddenSize, inInit);
    this.#key = new Linear(path.at('k_proj'), hiddenSize, hiddenSize, inInit);
    this.#value = new Linear(path.at('v_proj'), hiddenSize, hiddenSize, inInit);
    this.#out = new Linear(path.at('out_proj'), hiddenSize, hiddenSize, outInit);
  }

  /** [B, L, D] -> [B, L, D] */
  forward(x: Tensor): Tensor {
    const [batch, length, width] = x.shape as [number, number, number];
    const split = (projected: Tensor) =>
      projected.reshape([batch, length, this.#heads, width / this.#heads]).transpose(1, 2); // [B, heads, L, D/heads]
    const mixed = F.scaledDotProductAttention(
      split(this.#query.forward(x)),
      split(this.#key.forward(x)),
      split(this.#value.forward(x)),
      { causal: this.#causal },
    );
    return this.#out.forward(mixed.transpose(1, 2).reshape([batch, length, width]));
  }
}
