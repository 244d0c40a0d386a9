import { type Conditioning, type Pipeline, selectRows } from '@rldf/models';
import { free, grad, keep, scope, type Tensor, tensor, zeros } from '@rldf/torch';
import { encodeWeighted, type WeightedPrompt } from '../explore/word-weights.js';
import { type NetworkGradient, networkGradient } from '../sampling/network-gradient.js';

// P distinct prompts, or prompts with weighted words · L tokens · D text width · B pictures

export interface TextFeaturesOptions {
  /** Parameters of the text encoder that learn; none if it is frozen. */
  parameters?: readonly Tensor[];
  /** Of the U-Net, if its projections of the text may learn. */
  network?: NetworkGradient;
  /** Whether what the U-Net makes of the text (`UNet2DConditionModel.prepare`) is computed here, or in each of its passes. */
  prepare?: boolean;
}

/**
 * The text of one drawing or one update, computed once for all denoising steps. What learns on the way (the text encoder
 * in TexForce, Chen et al. 2024; the U-Net's keys and values of the text) ends in leaves that gather their gradient over
 * the steps and send it back once: the same gradient as through every step.
 */
export class TextFeatures {
  /** What a loss is to be differentiated by, besides the U-Net's own parameters. */
  readonly leaves: readonly Tensor[];
  readonly #rows: Map<string, number>;
  readonly #parameters: readonly Tensor[];
  readonly #network: NetworkGradient;
  /** [P, L, D], with the graph of the text encoder if it learns; and the same as a leaf. */
  readonly #encoded: Tensor;
  readonly #features: Tensor;
  /** Of the P prompts. With the graph from `#features` on, and cut off by leaves. */
  readonly #conditioning: Conditioning;
  readonly #leafConditioning: Conditioning;
  /** What the leaves are copies of, and the gradients they have gathered. */
  readonly #origins: readonly Tensor[];
  readonly #gathered: readonly Tensor[];

  constructor(
    pipeline: Pipeline,
    prompts: Iterable<string | WeightedPrompt>,
    options: TextFeaturesOptions = {},
  ) {
    const { parameters = [], network = networkGradient([]), prepare = true } = options;
    const distinct = new Map([...prompts].map((prompt) => [keyOf(prompt), weighted(prompt)]));
    this.#rows = new Map([...distinct.keys()].map((key, row) => [key, row]));
    this.#parameters = parameters;
    this.#network = network;
    this.#encoded = keep(encodeWeighted(pipeline, [...distinct.values()]));
    this.#features = leafOf(this.#encoded);
    const bare: Conditioning = { hiddenStates: this.#features };
    this.#conditioning = prepare ? keep(network.record(() => pipeline.unet.prepare(bare))) : bare;

    const origins = [...(this.#conditioning.prepared?.values() ?? [])].flat().filter((t) => t.requiresGrad);
    const leaves = new Map(origins.map((origin) => [origin, leafOf(origin)]));
    this.#leafConditioning = prepare ? replaced(this.#conditioning, leaves) : bare;
    this.leaves = prepare ? [...leaves.values()] : this.#features.requiresGrad ? [this.#features] : [];
    this.#origins = origins;
    this.#gathered = this.leaves.map(({ shape, dtype, device }) => keep(zeros(shape, { dtype, device })));
  }

  /** The conditioning of a guided batch, 2B rows: the negative prompt for all, then these. Differentiable in `leaves`. */
  guided(negativePrompt: string, prompts: readonly (string | WeightedPrompt)[]): Conditioning {
    return this.of([...prompts.map(() => negativePrompt), ...prompts]);
  }

  /** The conditioning of a batch without guidance, one row a prompt. Differentiable in `leaves`. */
  of(prompts: readonly (string | WeightedPrompt)[]): Conditioning {
    const rows = prompts.map((prompt) => this.#rows.get(keyOf(prompt)) as number);
    const { device } = this.#features;
    return scope(
      () => selectRows(this.#leafConditioning, tensor(rows, { dtype: 'int64', device })) as never,
    ) as Conditioning;
  }

  /** Adds a micro-batch's gradients of `leaves`. */
  gather(gradients: readonly (Tensor | undefined)[]): void {
    for (const [i, gradient] of gradients.entries()) if (gradient) this.#gathered[i]?.add_(gradient);
  }

  /** Gradients of what learns, for all that was gathered: of the U-Net (its share behind the text) and of the encoder. */
  backward(): { network: (Tensor | undefined)[]; textEncoder: Tensor[] } {
    if (this.leaves.length === 0) return { network: [], textEncoder: [] };
    const inputs = this.#features.requiresGrad ? [this.#features] : [];
    const behind =
      this.#origins.length > 0
        ? this.#network.grad(this.#origins, inputs, { gradOutputs: this.#gathered })
        : { parameters: [], inputs: this.#gathered };
    const [features] = behind.inputs;
    const textEncoder =
      features === undefined ? [] : grad(this.#encoded, this.#parameters, { gradOutputs: [features] });
    return { network: behind.parameters, textEncoder };
  }

  free(): void {
    this.#network.clear();
    free([this.#encoded, this.#features, this.#conditioning, this.leaves, this.#gathered]);
  }
}

const weighted = (prompt: string | WeightedPrompt): WeightedPrompt =>
  typeof prompt === 'string' ? { prompt } : prompt;

/** Equal for prompts of equal features. */
function keyOf(given: string | WeightedPrompt): string {
  const { prompt, wordWeights } = weighted(given);
  return wordWeights === undefined ? prompt : `${prompt}\n${JSON.stringify(wordWeights)}`;
}

/** The same values without what they were computed from; they gather a gradient if the given ones have one. */
function leafOf(tensor: Tensor): Tensor {
  return keep(scope(() => (tensor.requiresGrad ? tensor.detach().requiresGrad_() : tensor)));
}

function replaced(conditioning: Conditioning, by: ReadonlyMap<Tensor, Tensor>): Conditioning {
  const prepared = [...(conditioning.prepared ?? [])].map(
    ([layer, tensors]) => [layer, tensors.map((tensor) => by.get(tensor) ?? tensor)] as const,
  );
  return { ...conditioning, prepared: new Map(prepared) };
}
