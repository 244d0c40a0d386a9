import { noGrad } from '../autograd.js';
import { UserError } from '../errors.js';
import { native } from '../native.js';
import { free, keep, scope } from '../scope.js';
import type { StateTree } from '../state-tree.js';
import type { Tensor } from '../tensor.js';
import { loadTensors } from './load.js';

const foreachLerp_ = native.resolve('_foreach_lerp_', 'Scalar');

const copies = (parameters: readonly Tensor[]) =>
  noGrad(() => scope(() => keep(parameters.map((p) => p.detach().clone()))));

/** averaged ← decay · averaged + (1 - decay) · parameter, with a warm-up decay of (1 + n) / (10 + n) at update n. */
export class ExponentialMovingAverage {
  readonly averaged: Tensor[];
  #updates = 0;

  constructor(
    readonly parameters: readonly Tensor[],
    readonly decay: number,
  ) {
    if (!(decay >= 0 && decay < 1))
      throw new UserError(`ExponentialMovingAverage: decay ${decay} must be in [0, 1).`);
    this.averaged = copies(parameters);
  }

  update(): void {
    const decay = Math.min(this.decay, (1 + this.#updates) / (10 + this.#updates));
    this.#updates++;
    const handles = (list: readonly Tensor[]) => list.map((t) => t.handle);
    noGrad(() => native.call(foreachLerp_, handles(this.averaged), handles(this.parameters), 1 - decay));
  }

  /** Runs `fn` with the averaged values in the parameters, then puts the trained ones back. */
  async withAveraged<T>(fn: () => T | Promise<T>): Promise<T> {
    const trained = copies(this.parameters);
    const copy = (source: readonly Tensor[]) =>
      noGrad(() =>
        scope(() => {
          this.parameters.forEach((p, i) => {
            p.detach().copy_(source[i] as Tensor);
          });
        }),
      );
    copy(this.averaged);
    try {
      return await fn();
    } finally {
      copy(trained);
      free(trained);
    }
  }

  state(): StateTree {
    return { averaged: this.averaged, updates: this.#updates };
  }

  load(tree: StateTree): void {
    const { averaged, updates } = (tree ?? {}) as Record<string, unknown>;
    if (!Number.isSafeInteger(updates))
      throw new UserError(`ExponentialMovingAverage.load: "updates" is ${updates} — a count is needed.`);
    loadTensors('ExponentialMovingAverage.load', this.averaged, averaged);
    this.#updates = updates as number;
  }

  free(): void {
    free(this.averaged);
  }
}
