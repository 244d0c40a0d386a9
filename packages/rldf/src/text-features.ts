import { encodePrompts, type Pipeline } from '@rldf/models';
import { free, grad, keep, noGrad, scope, type Tensor, tensor, zeros } from '@rldf/torch';

// P prompts · L tokens · D text width · B rows

/**
 * Text features of the prompts behind one update. When the text encoder learns (TexForce, Chen et al. 2024), they are a
 * leaf that gathers dL/dz over all denoising steps, so that the encoder runs forward and backward once an update: the
 * same gradient as through every step.
 */
export class TextFeatures {
  /** [P, L, D]; a leaf that wants its gradient if the encoder learns. */
  readonly values: Tensor;
  readonly #encoded: Tensor;
  readonly #gradient: Tensor | undefined;
  readonly #parameters: readonly Tensor[];
  readonly #rows: Map<string, number>;

  /** @param parameters of the text encoder that learn; empty if it is frozen */
  constructor(pipeline: Pipeline, prompts: Iterable<string>, parameters: readonly Tensor[]) {
    const distinct = [...new Set(prompts)];
    const learns = parameters.length > 0;
    const encode = () => encodePrompts(pipeline, distinct).hiddenStates;
    this.#rows = new Map(distinct.map((prompt, row) => [prompt, row]));
    this.#parameters = parameters;
    this.#encoded = keep(learns ? encode() : noGrad(encode));
    this.values = learns ? keep(this.#encoded.detach().requiresGrad_()) : this.#encoded;
    this.#gradient = learns ? keep(zeros(this.values.shape, { device: this.values.device })) : undefined;
  }

  get learns(): boolean {
    return this.#gradient !== undefined;
  }

  /** Features of these prompts, [B, L, D]. Differentiable in `values`. */
  of(prompts: readonly string[]): Tensor {
    return scope(() => {
      const rows = prompts.map((prompt) => this.#rows.get(prompt) as number);
      return this.values.indexSelect(0, tensor(rows, { dtype: 'int64', device: this.values.device }));
    });
  }

  /** Adds a micro-batch's gradient of `values`. */
  gather(gradient: Tensor): void {
    this.#gradient?.add_(gradient);
  }

  /** Gradients of the encoder's parameters for all that was gathered. */
  backward(): Tensor[] {
    if (this.#gradient === undefined) return [];
    return grad(this.#encoded, this.#parameters, { gradOutputs: [this.#gradient] });
  }

  free(): void {
    free([this.#encoded, this.values, this.#gradient]);
  }
}
