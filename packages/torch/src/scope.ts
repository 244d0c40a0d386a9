import { InternalError, UserError } from './errors.js';
import { closeScope, dropMade, openScope } from './made.js';
import { native } from './native.js';
import { Tensor } from './tensor.js';

/** Calls `visit` for every tensor in a tree of arrays, plain objects, maps and sets. */
export function forEachTensor(tree: unknown, visit: (tensor: Tensor) => void): void {
  if (tree instanceof Tensor) visit(tree);
  else if (Array.isArray(tree)) for (const item of tree) forEachTensor(item, visit);
  else if (tree instanceof Map || tree instanceof Set)
    for (const item of tree.values()) forEachTensor(item, visit);
  else if (tree !== null && typeof tree === 'object' && Object.getPrototypeOf(tree) === Object.prototype) {
    for (const item of Object.values(tree)) forEachTensor(item, visit);
  }
}

/** Asynchronous code and generators leave a scope before they are done: their tensors would be freed under them. */
type Synchronous<T> = T extends PromiseLike<unknown> | Generator | AsyncGenerator ? never : T;

/**
 * Runs `fn` and frees every tensor that was made inside, except those in the returned value (a tree of arrays,
 * plain objects and maps) and those given to {@link keep}. Scopes nest; survivors belong to the scope around.
 *
 * @throws if `fn` returns a promise or a generator.
 */
export function scope<T>(fn: () => Synchronous<T>): T {
  const mark = openScope();
  const survivors: Tensor[] = [];
  try {
    const result = fn();
    if (isDeferred(result)) {
      throw new InternalError(
        'scope() was given asynchronous code or a generator — its tensors would be freed while it still runs. Open scopes between awaits.',
      );
    }
    forEachTensor(result, (tensor) => survivors.push(tensor));
    return result;
  } finally {
    const handles = survivors.map((tensor) => tensor.handle);
    if (!closeScope(mark, handles)) for (const tensor of survivors) tensor.watch();
  }
}

function isDeferred(value: unknown): boolean {
  if (value === null || typeof value !== 'object') return false;
  return 'then' in value || (Symbol.iterator in value && 'next' in value) || Symbol.asyncIterator in value;
}

/** Lets the tensors in `tree` outlive every scope, until `free()` (or, as a safety net, the garbage collector). */
export function keep<T>(tree: T): T {
  forEachTensor(tree, (tensor) => {
    if (!tensor.isLive) {
      throw new UserError(
        'keep: the tensor was freed — it may have been made inside a scope() that has ended; return it from the scope.',
      );
    }
    dropMade(tensor.handle);
    tensor.watch();
  });
  return tree;
}

const op = {
  allocatedBytes: native.resolve('rldf::allocated_bytes', ''),
  peakBytes: native.resolve('rldf::peak_bytes', ''),
  resetPeakBytes: native.resolve('rldf::reset_peak_bytes', ''),
};

/** Frees every tensor in `tree`. */
export function free(tree: unknown): void {
  forEachTensor(tree, (tensor) => tensor.free());
}

/** Tensors that are alive: a metric of every run. */
export function liveTensors(): number {
  return native.live()[0];
}

/** Bytes of the distinct storages behind the living tensors. Graph-internal tensors are not counted. */
export function liveBytes(): number {
  return native.live()[1];
}

/** Bytes that libtorch's CPU tensors hold, those inside the autograd graph and inside operators included. */
export function allocatedBytes(): number {
  return native.call(op.allocatedBytes);
}

/**
 * The most that {@link allocatedBytes} has been since the process began, or since the last `resetPeakBytes`. All
 * environments of the process together.
 */
export function peakBytes(): number {
  return native.call(op.peakBytes);
}

/** Lets `peakBytes` begin anew from what is held now. */
export function resetPeakBytes(): void {
  native.call(op.resetPeakBytes);
}
