/**
 * libtorch without numbers: handles, scopes and operators that only know shapes, so that a program can be asked how much
 * memory it will need before anything is allocated. Every number read from a tensor is 0.
 *
 * `RLDF_TORCH=shapes` puts it in the place of the addon for a whole process (see ../native.ts).
 */

import { dtypeNumber } from '../dtype.js';
import { InternalError } from '../errors.js';
import type { Handle, Native, OperatorNumber } from '../native.js';
import { backward, hold, Memory, release, type Storage, type Value } from './graph.js';
import { ruleOf } from './operators.js';
import { onGpu } from './products.js';
import type { Context } from './rules.js';
import { bytesOf, contiguousStrides } from './strides.js';

/** All calls of one operator on the same shapes. */
export interface Work {
  /** The operator's name, or `backward` for all gradients together. */
  name: string;
  /** Shapes of the tensor operands. */
  shapes: number[][];
  /** Lists among the other arguments, such as stride and padding. */
  lists: number[][];
  calls: number;
  /** Floating-point operations of products. */
  operations: number;
  /** Bytes that other operators read and write. */
  bytes: number;
}

/** What can be asked besides. */
export interface ShapesNative extends Native {
  /** The most bytes with which a backward pass began, since `allocatedBytes` was reset. */
  graphPeak(): number;
  /** The work since the last call. */
  takeWork(): Work[];
}

export function shapesNative(): ShapesNative {
  const memory = new Memory();
  const names: string[] = [];
  const values = new Map<Handle, Value>();
  const works = new Map<string, Work>();
  let last = 2 ** 40; // above any other number that an operator is given
  let recording = true;
  let graphPeak = 0;
  let current = backwardOperator;
  /** What autocast narrows to, and what it has narrowed for good. */
  let narrow: number | null = null;
  const narrowed = new Map<Storage, Value>();

  const valueAt = (handle: Handle): Value => {
    const value = values.get(handle);
    if (value === undefined) throw new InternalError(`shapes: the tensor ${handle} was freed.`);
    return value;
  };
  const give = (value: Value): Handle => {
    const handle = ++last;
    values.set(handle, value);
    hold(value.origin);
    return handle;
  };
  const free = (handle: Handle): void => {
    const value = values.get(handle);
    if (value === undefined) return;
    values.delete(handle);
    value.storage.release();
    release(value.origin);
  };
  const tally = (operations: number, bytes: number) => {
    const { name, operands } = current;
    const shapes = operands.flatMap((one) => (isValue(one) ? [[...one.shape]] : []));
    const lists = operands.filter((one) => Array.isArray(one) && !one.some(isValue)) as number[][];
    const key = JSON.stringify([name, shapes, lists]);
    const entry = works.get(key) ?? { name, shapes, lists, calls: 0, operations: 0, bytes: 0 };
    works.set(key, entry);
    entry.calls++;
    entry.operations += operations;
    entry.bytes += bytes;
  };
  const context: Context = {
    allocate: (shape, dtype) => ({
      storage: memory.allocate(bytesOf(shape, dtype)),
      shape: [...shape],
      strides: contiguousStrides(shape),
      dtype,
    }),
    recording: () => recording,
    work: tally,
  };

  /** The binding's own operators (native/runtime.cc), which know handles. */
  const own: Record<string, (...args: never[]) => unknown> = {
    'rldf::allocated_bytes': () => memory.now,
    'rldf::peak_bytes': () => memory.peak,
    'rldf::reset_peak_bytes'() {
      memory.peak = memory.now;
      graphPeak = 0;
    },
    'rldf::grad_enabled': () => recording,
    'rldf::set_grad_enabled'(on: boolean) {
      recording = on;
    },
    'rldf::grad'(
      outputs: Handle[],
      inputs: Handle[],
      gradOutputs: Handle[],
      retainGraph: boolean,
      createGraph: boolean,
      allowUnused: boolean,
    ) {
      if (createGraph) throw new InternalError('shapes: second derivatives have no rules.');
      graphPeak = Math.max(graphPeak, memory.now);
      const from = outputs.map(valueAt);
      const origins = [...outputs, ...inputs].map((handle) => {
        const { origin } = valueAt(handle);
        if (origin === undefined)
          throw new InternalError('shapes: a tensor that wants no gradient was asked for one.');
        return origin;
      });
      const given = from.map(({ shape, dtype }, i) =>
        gradOutputs.length === 0
          ? context.allocate(shape, dtype).storage
          : valueAt(gradOutputs[i] as Handle).storage.hold(),
      );
      current = backwardOperator;
      const gradients = backward(
        memory,
        origins.slice(0, outputs.length),
        origins.slice(outputs.length),
        given,
        retainGraph,
        tally,
      );
      for (const storage of given) storage.release();
      return gradients.map((storage, i) => {
        if (storage === undefined && !allowUnused)
          throw new InternalError(`shapes: input ${i} was not used.`);
        if (storage === undefined) return undefined;
        const { shape, dtype } = valueAt(inputs[i] as Handle);
        return give({ storage, shape, strides: contiguousStrides(shape), dtype });
      });
    },
    'stride.int': (handle: Handle, dim: number) => valueAt(handle).strides[dim],
    requires_grad_(handle: Handle, on: boolean) {
      const value = valueAt(handle);
      if (on && value.origin === undefined) value.origin = { index: 0 };
      if (!on && value.origin?.node === undefined) delete value.origin;
    },
    item: () => 0,
    'rldf::autocast'(_device: string, dtype: number | null) {
      narrow = dtype;
      for (const value of narrowed.values()) drop(value);
      narrowed.clear();
    },
    'rldf::set_winograd': () => undefined,
    'rldf::set_threads': () => undefined,
    'rldf::threads': () => 1,
    'rldf::cuda_devices': () => (onGpu() ? 1 : 0),
    'rldf::version': () => 'shapes',
  };

  return {
    resolve(name, overload): OperatorNumber {
      return names.push(overload === '' ? name : `${name}.${overload}`) - 1;
    },
    call(operator, ...args) {
      const name = names[operator] as string;
      const special = own[name];
      if (special !== undefined) return special(...(args as never[]));
      const given = args.map((arg) => operandOf(name, arg));
      const operands = narrow !== null && narrowing.has(name) ? given.map(narrowedOf) : given;
      current = { name, operands };
      const result = ruleOf(name)(context, ...(operands as never[]));
      for (const [i, one] of operands.entries())
        if (!Object.is(one, given[i]) && ![...narrowed.values()].includes(one as Value)) drop(one as Value);
      if (result === undefined) return undefined;
      if (Array.isArray(result)) return result.map(give);
      const same = operands.indexOf(result as Value);
      return same === -1 ? give(result as Value) : args[same];
    },
    schema: () => unsupported('schema'),
    listOperators: () => names,
    isLive: (handle) => values.has(handle),
    shape: (handle) => [...valueAt(handle).shape],
    device: (handle) => (onGpu() && valueAt(handle).host !== true ? 'cuda:0' : 'cpu'),
    dtype: (handle) => valueAt(handle).dtype,
    requiresGrad: (handle) => valueAt(handle).origin !== undefined,
    copyBytes: () => undefined,
    free(handles, from, to) {
      for (let i = to - 1; i >= from; i--) free(handles[i] as Handle);
    },
    live: () => [values.size, memory.now],
    graphPeak: () => graphPeak,
    takeWork() {
      const list = [...works.values()];
      works.clear();
      return list;
    },
  };

  /** As autocast hands it to an operator: weights that learn once, until it is switched off. */
  function narrowedOf(one: unknown): unknown {
    if (!isValue(one) || one.dtype !== wide) return one;
    const known = narrowed.get(one.storage);
    if (known !== undefined) return known;
    const made = ruleOf('to.dtype_layout')(context, one, narrow as number) as Value;
    hold(made.origin);
    if (one.origin !== undefined && one.origin.node === undefined) narrowed.set(one.storage, made);
    return made;
  }

  function drop(value: Value): void {
    value.storage.release();
    release(value.origin);
  }

  /** A number is a handle only where the operator takes a tensor; handles are larger than any other number. */
  function operandOf(name: string, arg: unknown): unknown {
    if (typeof arg === 'number') return values.get(arg) ?? arg;
    if (Array.isArray(arg)) {
      const isList = /^(cat|stack|_foreach|_fused)/.test(name);
      return isList ? arg.map((element) => operandOf(name, element)) : arg;
    }
    return arg;
  }
}

/** What autocast narrows. */
const narrowing = new Set(['linear', 'matmul', 'conv2d', 'rldf::conv3x3', 'scaled_dot_product_attention']);
const wide = dtypeNumber('float32');

const backwardOperator: { name: string; operands: readonly unknown[] } = { name: 'backward', operands: [] };

const isValue = (one: unknown): one is Value => one !== null && typeof one === 'object' && 'storage' in one;

function unsupported(what: string): never {
  throw new InternalError(`shapes: ${what} is not known without libtorch.`);
}
