import { noGrad } from '../autograd.js';
import { UserError } from '../errors.js';
import { stack, zeros } from '../factories.js';
import { native } from '../native.js';
import { free, keep, scope } from '../scope.js';
import type { StateTree } from '../state-tree.js';
import type { Tensor } from '../tensor.js';
import { loadTensors } from './load.js';

export interface AdamWOptions {
  learningRate: number;
  betas?: readonly [number, number];
  /** Decoupled: multiplies the weights by 1 - learningRate · weightDecay. */
  weightDecay?: number;
  epsilon?: number;
  /** Factors on the learning rate, one for each parameter. Default: 1 for all. */
  rates?: readonly number[];
}

const fused = native.resolve('_fused_adamw_', '');
const increment = native.resolve('_foreach_add_', 'Scalar');

/**
 * AdamW (Loshchilov & Hutter 2019, algorithm 2) with libtorch's fused kernel: one call updates all parameters.
 *
 * On CPUs that kernel walks raw memory and does not look at strides: parameter, gradient and moments must lie in one
 * order. Parameters that are not contiguous are refused; gradients are brought into order by `step`.
 */
export class AdamW {
  readonly #first: Tensor[];
  readonly #second: Tensor[];
  readonly #steps: Tensor[];
  readonly #options: Required<Omit<AdamWOptions, 'rates'>>;
  /** Places of the parameters that share a factor on the learning rate: one call of the kernel each. */
  readonly #groups: ReadonlyMap<number, readonly number[]>;

  constructor(
    readonly parameters: readonly Tensor[],
    { rates, ...options }: AdamWOptions,
  ) {
    if (rates !== undefined && rates.length !== parameters.length) {
      throw new UserError(
        `AdamW: ${rates.length} rates for ${parameters.length} parameters — one each, in order.`,
      );
    }
    const factors = parameters.map((_, i) => rates?.[i] ?? 1);
    this.#groups = new Map(
      [...new Set(factors)].map((factor) => [
        factor,
        [...factors.keys()].filter((i) => factors[i] === factor),
      ]),
    );
    this.#options = { betas: [0.9, 0.999], weightDecay: 1e-2, epsilon: 1e-8, ...options };
    parameters.forEach(refuseStrided);
    const like = (p: Tensor) => keep(zeros(p.shape, { dtype: p.dtype, device: p.device }));
    this.#first = parameters.map(like);
    this.#second = parameters.map(like);
    this.#steps = parameters.map((p) => keep(zeros([], { device: p.device })));
  }

  /** One update in place. `grads` in the order of the parameters; `learningRate` for this step, if scheduled. */
  step(grads: readonly Tensor[], learningRate = this.#options.learningRate): void {
    if (grads.length !== this.parameters.length) {
      throw new UserError(
        `AdamW.step: ${grads.length} gradients for ${this.parameters.length} parameters — one each, in order.`,
      );
    }
    if (grads.length === 0) return;
    const { betas, weightDecay, epsilon } = this.#options;
    const handles = (list: readonly Tensor[]) => list.map((t) => t.handle);
    noGrad(() =>
      scope(() => {
        // a convolution's comes channels last: `contiguous` copies it, and hands back what is in order already
        const ordered = grads.map((gradient) => gradient.contiguous());
        native.call(increment, handles(this.#steps), 1);
        for (const [factor, indices] of this.#groups) {
          const group = (list: readonly Tensor[]) => handles(indices.map((i) => list[i] as Tensor));
          native.call(
            fused,
            group(this.parameters),
            group(ordered),
            group(this.#first),
            group(this.#second),
            [],
            group(this.#steps),
            learningRate * factor,
            betas[0],
            betas[1],
            weightDecay,
            epsilon,
            false,
            false,
          );
        }
      }),
    );
  }

  /**
   * Whether gradients go on where those before went: the cosine between them and the running mean of all before, over all
   * parameters; before `step`. Around 0 they are noise, and the weights walk at random.
   * @returns -1 to 1; undefined before the first update, and where a gradient is 0
   */
  agreement(grads: readonly Tensor[]): number | undefined {
    const product = dot(grads, this.#first);
    const norms = product === 0 ? 0 : Math.sqrt(dot(grads, grads) * dot(this.#first, this.#first));
    return norms === 0 ? undefined : product / norms;
  }

  state(): StateTree {
    return { first: this.#first, second: this.#second, steps: this.#steps };
  }

  load(tree: StateTree): void {
    const { first, second, steps } = (tree ?? {}) as Record<string, unknown>;
    loadTensors('AdamW.load: "first"', this.#first, first);
    loadTensors('AdamW.load: "second"', this.#second, second);
    loadTensors('AdamW.load: "steps"', this.#steps, steps);
  }

  free(): void {
    free([this.#first, this.#second, this.#steps]);
  }
}

/** Inner product over all tensors. */
function dot(a: readonly Tensor[], b: readonly Tensor[]): number {
  if (a.length === 0) return 0;
  return noGrad(() =>
    scope(() => {
      const products = a.map((tensor, i) => scope(() => tensor.mul(b[i] as Tensor).sum()));
      return stack(products).sum().item();
    }),
  );
}

function refuseStrided(parameter: Tensor, index: number): void {
  if (parameter.isContiguous()) return;
  throw new UserError(
    `AdamW: parameter ${index} of shape [${parameter.shape}] has strides [${parameter.strides()}] — the fused kernel updates memory in ` +
      'row-major order. Give its contiguous() instead.',
  );
}
