import {
  type GradOptions,
  gradEnabled,
  gradOrUndefined,
  keep,
  Linear,
  noGrad,
  scope,
  type Tensor,
} from '@rldf/torch';
import type { LoraAdapter, LoraModule } from './lora.js';

/** What a layer was shown and answered: x [..., in] without its graph, y [..., out]. */
interface Entry {
  module: LoraModule;
  x: Tensor;
  y: Tensor;
}

/** dL/d(down) and dL/d(up) of one layer. */
type BranchGradient = [down: Tensor, up: Tensor];

/**
 * The gradient of a merged adapter, from what its layers were shown and answered.
 *
 * With W' = W + s·B·A in the weights (`LoraAdapter.merge`) a pass costs what it costs without an adapter, and the chain
 * rule needs no graph of the branches: for y = W' x and g = dL/dy, dL/dB = s·gᵀ(A x) and dL/dA = s·(g B)ᵀ x. The same as
 * through the branches, up to rounding. A convolution has its W' differentiated and the gradient projected.
 */
export class LoraTape {
  readonly #adapter: LoraAdapter;
  #entries: Entry[] = [];

  /** @param adapter merged from before `record` until after `grad`, its parameters unchanged */
  constructor(adapter: LoraAdapter) {
    this.#adapter = adapter;
    for (const weight of this.#convolved()) weight.requiresGrad_();
  }

  /** Runs a part of the network, remembering what the adapted layers see. */
  record<T>(fn: () => T): T {
    const linear = this.#adapter.modules.filter(({ layer }) => layer instanceof Linear);
    for (const module of linear) {
      (module.layer as Linear).observer = (x, y) => {
        if (!gradEnabled()) return; // a block that runs again for its gradient
        if (!y.requiresGrad) y.requiresGrad_();
        this.#entries.push({ module, x: keep(x.detach()), y: keep(y) });
      };
    }
    try {
      return fn();
    } finally {
      for (const { layer } of linear) (layer as Linear).observer = undefined;
    }
  }

  /**
   * Gradients of what was recorded, by `adapter.parameters()` and by further inputs; `undefined` where the outputs do not
   * depend on it.
   */
  grad(
    outputs: Tensor | readonly Tensor[],
    inputs: readonly Tensor[] = [],
    options: GradOptions = {},
  ): { parameters: (Tensor | undefined)[]; inputs: (Tensor | undefined)[] } {
    return scope(() => {
      const weights = this.#convolved();
      const answers = this.#entries.map(({ y }) => y);
      const found = gradOrUndefined(outputs, [...answers, ...weights, ...inputs], options);
      const sums = new Map<LoraModule, BranchGradient>();
      noGrad(() => {
        for (const [i, { module, x }] of this.#entries.entries()) {
          const given = found[i];
          if (given === undefined) continue;
          add(sums, module, ofLinear(module, x, given));
          given.free(); // together they are as large as all answers
        }
        for (const module of this.#adapter.modules) {
          const given = found[answers.length + weights.indexOf(module.layer.weight)];
          if (!(module.layer instanceof Linear) && given !== undefined)
            add(sums, module, projected(module, given));
        }
      });
      return {
        parameters: this.#adapter.modules.flatMap((module) => sums.get(module) ?? [undefined, undefined]),
        inputs: found.slice(answers.length + weights.length),
      };
    });
  }

  /** Forgets what was recorded. */
  clear(): void {
    for (const { x, y } of this.#entries) {
      x.free();
      y.free();
    }
    this.#entries = [];
  }

  free(): void {
    this.clear();
    for (const weight of this.#convolved()) weight.requiresGrad_(false);
  }

  #convolved(): Tensor[] {
    return this.#adapter.modules.flatMap(({ layer }) => (layer instanceof Linear ? [] : [layer.weight]));
  }
}

/** @param x [..., in] @param answer dL/dy [..., out] */
function ofLinear({ branch }: LoraModule, x: Tensor, answer: Tensor): BranchGradient {
  return scope(() => {
    const { down, up, scale } = branch;
    const rows = x.reshape([-1, x.shape.at(-1) as number]); // [N, in]
    const gradient = answer.reshape([-1, answer.shape.at(-1) as number]); // [N, out]
    // r x N, not N x r: thin products are four times as fast this way round
    const hidden = down.matmul(rows.transpose(0, 1)); // [r, N]
    const back = up.transpose(0, 1).matmul(gradient.transpose(0, 1)); // [r, N]
    return [back.matmul(rows).mul(scale), hidden.matmul(gradient).transpose(0, 1).mul(scale)];
  });
}

/** @param merged dL/dW' [out, in, k, k] */
function projected({ branch }: LoraModule, merged: Tensor): BranchGradient {
  return scope(() => {
    const { down, up, scale } = branch;
    const gradient = merged.flatten(1); // [out, in · k · k]
    const a = up.flatten(1).transpose(0, 1).matmul(gradient); // [r, in · k · k]
    const b = gradient.matmul(down.flatten(1).transpose(0, 1)); // [out, r]
    return [a.mul(scale).reshape(down.shape), b.mul(scale).reshape(up.shape)];
  });
}

/** A layer that was passed several times has the sum. */
function add(sums: Map<LoraModule, BranchGradient>, module: LoraModule, more: BranchGradient): void {
  const known = sums.get(module);
  if (known === undefined) sums.set(module, more);
  else for (const [i, sum] of known.entries()) sum.add_(more[i] as Tensor);
}
