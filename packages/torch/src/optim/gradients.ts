import { UserError } from '../errors.js';
import { zeros } from '../factories.js';
import { native } from '../native.js';
import { free, keep, scope } from '../scope.js';
import { type Tensor, wrap } from '../tensor.js';

const foreachNorm = native.resolve('_foreach_norm', 'Scalar');
const foreachMul_ = native.resolve('_foreach_mul_', 'Scalar');
const foreachAdd_ = native.resolve('_foreach_add_', 'List');
const stackOp = native.resolve('stack', '');
const isSetTo = native.resolve('is_set_to', '');

/**
 * Scales the gradients in place so that their total Euclidean norm is at most `maxNorm`; returns the norm before.
 * A NaN or infinite norm scales nothing: the caller sees it and decides.
 */
export function clipGradNorm(grads: readonly Tensor[], maxNorm: number): number {
  if (grads.length === 0) return 0;
  return scope(() => {
    const handles = grads.map((t) => t.handle);
    const norms = (native.call(foreachNorm, handles, 2) as number[]).map(wrap);
    const all = wrap(
      native.call(
        stackOp,
        norms.map((t) => t.handle),
      ),
    );
    const total = all.norm().item();
    if (Number.isFinite(total) && total > maxNorm) {
      const scaled = withoutShared(grads, all.toNumbers()).map((t) => t.handle);
      native.call(foreachMul_, scaled, maxNorm / (total + 1e-6));
    }
    return total;
  });
}

/**
 * Each memory once: the gradients of two parameters that are only ever added to each other are one tensor under two
 * handles, and what is scaled in place would be scaled twice. Such have one norm.
 */
function withoutShared(grads: readonly Tensor[], norms: readonly number[]): Tensor[] {
  const known = new Map<number, Tensor[]>();
  return grads.filter((gradient, i) => {
    const norm = norms[i] as number;
    if (norm === 0) return true; // zeros stay zeros
    const alike = known.get(norm) ?? [];
    if (alike.some((other) => native.call(isSetTo, gradient.handle, other.handle))) return false;
    known.set(norm, [...alike, gradient]);
    return true;
  });
}

/** Sums weighted gradients over micro-batches. The sums belong to this object and are reused. */
export class GradientAccumulator {
  readonly #sums: Tensor[];
  #count = 0;

  constructor(parameters: readonly Tensor[]) {
    this.#sums = parameters.map((p) => keep(zeros(p.shape, { dtype: p.dtype, device: p.device })));
  }

  /** What was added up since the last `take`, one a parameter: to be added up further, as over processes. */
  get sums(): readonly Tensor[] {
    return this.#sums;
  }

  /** How often `add` was called since the last `take`. */
  get count(): number {
    return this.#count;
  }

  /** One gradient a parameter, in order; `undefined` adds nothing. */
  add(grads: readonly (Tensor | undefined)[], weight = 1): void {
    if (grads.length !== this.#sums.length) {
      throw new UserError(
        `GradientAccumulator.add: ${grads.length} gradients for ${this.#sums.length} parameters.`,
      );
    }
    const given = grads.flatMap((grad, i) =>
      grad === undefined ? [] : [{ grad, sum: this.#sums[i] as Tensor }],
    );
    if (given.length > 0) {
      native.call(
        foreachAdd_,
        given.map(({ sum }) => sum.handle),
        given.map(({ grad }) => grad.handle),
        weight,
      );
    }
    this.#count++;
  }

  /** Hands the sums to `use` (an optimiser's step) and sets them to zero. */
  take<T>(use: (sums: Tensor[]) => T): T {
    const result = use(this.#sums);
    for (const sum of this.#sums) sum.zero_();
    this.#count = 0;
    return result;
  }

  free(): void {
    free(this.#sums);
  }
}
