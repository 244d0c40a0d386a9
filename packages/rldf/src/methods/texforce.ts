// docs: docs/methods/texforce.md · paper: Chen et al. 2024, "Enhancing diffusion models with text-encoder reinforcement learning" (TexForce), arXiv 2311.15657, section 3.2 · code: chaofengc/TexForce
//
// The text encoder φ acts on every denoising step through the features c = E_φ(prompt):
//
//   ∇_φ Σ_t L_t(c) = (Σ_t ∂L_t/∂c) · ∂c/∂φ
//
// So c is computed once, cut from its graph; each step differentiates its loss by the copy (a leaf), the leaf's gradients
// are summed over the steps, and the sum is sent through the encoder once: the same gradient as through every step. What
// the U-Net computes of c alone, the keys and values of its cross-attention, is treated the same.
import { type Behaviour, type Conditioning, type Pipeline, selectRows, toldOf } from '@rldf/models';
import { free, gradOrUndefined, isHalf, keep, scope, type Tensor, tensor, zeros } from '@rldf/torch';
import type { NetworkGradient } from '../sampling/network-gradient.js';
import { encodeWeighted, type PromptText, type WeightedPrompt } from './diffexp.js';

// P distinct prompts, or prompts with weighted words · L tokens · D text width · B pictures

export interface TextFeaturesOptions {
  /** φ: parameters of the text encoder that learn; none if it is frozen. */
  parameters?: readonly Tensor[];
  /** Of the U-Net, if its projections of the text may learn. */
  network?: NetworkGradient;
  /**
   * Whether what the U-Net makes of the text (`UNet2DConditionModel.prepare`) is computed here, or in each of its passes. XL’s is not:
   * a hundredth of its work, and 51 MB a prompt.
   */
  prepare?: boolean;
}

/** The text of one drawing or one update, computed once for all denoising steps. */
export class TextFeatures {
  /** What a loss is to be differentiated by, besides the U-Net's own parameters. */
  readonly leaves: readonly Tensor[];
  /** Σ_t ∂L_t/∂leaf, one a leaf. */
  readonly #gathered: readonly Tensor[];
  readonly #parameters: readonly Tensor[];
  readonly #network: NetworkGradient | undefined;
  /** Row of each prompt among the P. */
  readonly #rows: Map<string, number>;
  readonly #keyOf: (prompt: PromptText) => string;
  /** c, with the graph of the text encoders that learn: features [P, L, D], and of XL the summary [P, D2]; and cut from it. */
  readonly #encoded: readonly Tensor[];
  readonly #features: readonly Tensor[];
  /** Keys and values of the U-Net's layers, with their graph from `#features` on; empty without `prepare`. */
  readonly #projected: readonly Tensor[];
  /** Of the P prompts, cut from every graph. */
  readonly #conditioning: Conditioning;

  constructor(
    pipeline: Pipeline,
    prompts: Iterable<PromptText>,
    { parameters = [], network, prepare = true }: TextFeaturesOptions = {},
  ) {
    this.#keyOf = (prompt) => keyOf(weighted(pipeline, prompt));
    const distinct = new Map([...prompts].map((prompt) => [this.#keyOf(prompt), weighted(pipeline, prompt)]));
    this.#rows = new Map([...distinct.keys()].map((key, row) => [key, row]));
    this.#parameters = parameters;
    this.#network = network;
    const encoded = keep(encodeWeighted(pipeline, [...distinct.values()]));
    const { hiddenStates, pooled } = encoded;
    this.#encoded = pooled === undefined ? [hiddenStates] : [hiddenStates, pooled];
    this.#features = this.#encoded.map(leafOf);
    const [ofTokens, summary] = this.#features;
    const ofText: Conditioning = { ...encoded, hiddenStates: ofTokens!, ...(summary && { pooled: summary }) };
    if (!prepare || pipeline.textEncoder2 !== undefined) {
      this.#projected = [];
      this.#conditioning = ofText;
      this.leaves = this.#features.filter((leaf) => leaf.requiresGrad);
    } else {
      const project = () => pipeline.unet.prepare(ofText);
      const conditioning = keep(network === undefined ? project() : network.record(project));
      this.#projected = [...(conditioning.prepared?.values() ?? [])].flat();
      const leaves = new Map(this.#projected.map((projected) => [projected, leafOf(projected)]));
      this.#conditioning = replaced(conditioning, leaves);
      this.leaves = [...leaves.values()].filter((leaf) => leaf.requiresGrad);
    }
    this.#gathered = this.leaves.map(({ shape, dtype, device }) =>
      keep(zeros(shape, { dtype: isHalf(dtype) ? 'float32' : dtype, device })),
    );
  }

  /** The conditioning of pictures by how they are drawn: guided, or without guidance, where the unconditional half of a pass would count nothing. */
  forDrawing(
    behaviours: readonly Behaviour[],
    negativePrompt: string | null,
    prompts: readonly PromptText[],
  ): Conditioning {
    const guided = behaviours.some(({ guidance }) => guidance.some((scale) => scale !== 1));
    return guided ? this.guided(negativePrompt, prompts) : this.of(prompts);
  }

  /** The conditioning of a guided batch, 2B rows: the negative prompt for all, then these. Differentiable in `leaves`. */
  guided(negativePrompt: string | null, prompts: readonly PromptText[]): Conditioning {
    return this.of([...prompts.map(() => negativePrompt), ...prompts]);
  }

  /** The conditioning of a batch without guidance, one row a prompt. Differentiable in `leaves`. */
  of(prompts: readonly PromptText[]): Conditioning {
    const rows = prompts.map((prompt) => this.#rows.get(this.#keyOf(prompt)) as number);
    const { device } = this.#conditioning.hiddenStates;
    return scope(
      () => selectRows(this.#conditioning, tensor(rows, { dtype: 'int64', device })) as never,
    ) as Conditioning;
  }

  /** Adds ∂L_t/∂leaf of a micro-batch to the sum over steps, one a leaf. */
  gather(gradients: readonly (Tensor | undefined)[]): void {
    for (const [i, gradient] of gradients.entries()) if (gradient) this.#gathered[i]?.add_(gradient);
  }

  /** Gradients of what learns, for all that was gathered: of the U-Net (its share behind the text) and of the encoders. */
  backward(): { network: (Tensor | undefined)[]; text: (Tensor | undefined)[] } {
    if (this.leaves.length === 0) return { network: [], text: [] };
    const projected = this.#projected.filter((tensor) => tensor.requiresGrad);
    const inputs = this.#features.filter((feature) => feature.requiresGrad);
    const gradOutputs = this.#gathered;
    let network: (Tensor | undefined)[] = [];
    let features: readonly (Tensor | undefined)[] = gradOutputs; // Σ_t ∂L_t/∂c, one an input
    if (projected.length > 0 && this.#network === undefined) {
      features = gradOrUndefined(projected, inputs, { gradOutputs });
    } else if (projected.length > 0 && this.#network !== undefined) {
      const found = this.#network.grad(projected, inputs, { gradOutputs });
      network = found.parameters;
      features = found.inputs;
    }
    const encoded = this.#encoded.filter((tensor) => tensor.requiresGrad);
    const reached = encoded.flatMap((output, i) => (features[i] ? [{ output, gradient: features[i] }] : []));
    if (reached.length === 0) return { network, text: [] };
    const outputs = reached.map(({ output }) => output);
    const gradients = reached.map(({ gradient }) => gradient);
    // XL does not read its first encoder's last layer
    return { network, text: gradOrUndefined(outputs, this.#parameters, { gradOutputs: gradients }) };
  }

  free(): void {
    this.#network?.clear();
    free([this.#encoded, this.#features, this.#projected, this.#conditioning, this.leaves, this.#gathered]);
  }
}

const weighted = (pipeline: Pipeline, prompt: PromptText): WeightedPrompt =>
  typeof prompt === 'string' ? { prompt } : (prompt ?? { prompt: toldOf(pipeline, null) });

/** Equal for prompts of equal features. */
const keyOf = ({ prompt, wordWeights, objects }: WeightedPrompt): string =>
  JSON.stringify([prompt, wordWeights, objects]);

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
