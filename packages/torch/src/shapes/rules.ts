/** Rules that many operators share: elementwise ones, views, reductions. */

import { dtypeName, dtypeNumber, itemSize } from '../dtype.js';
import { type Edge, Node, type Storage, type Value } from './graph.js';
import { broadcast, bytesOf, numelOf, sameShape, viewStrides } from './strides.js';

export interface Context {
  allocate(shape: readonly number[], dtype: number): Value;
  recording(): boolean;
  /** Arithmetic done, in floating-point operations, and bytes read and written. */
  work(operations: number, bytes: number): void;
}

export type Argument =
  | Value
  | readonly Value[]
  | number
  | readonly number[]
  | string
  | boolean
  | null
  | undefined;
export type Rule = (context: Context, ...args: never[]) => Value | readonly Value[] | undefined;

export const float32 = dtypeNumber('float32');
export const float64 = dtypeNumber('float64');
export const int64 = dtypeNumber('int64');
export const bool = dtypeNumber('bool');

/** Gradient of `input`: new memory of its size unless it is passed on. */
export function edge(input: Value, how: 'new' | 'pass' = 'new', more: Partial<Edge> = {}): Edge[] {
  if (input.origin === undefined) return [];
  return [{ origin: input.origin, bytes: how === 'new' ? bytesOf(input.shape, input.dtype) : 0, ...more }];
}

/** Records the operator if one of its inputs wants gradients. */
export function record(
  context: Context,
  outputs: readonly Value[],
  edges: readonly Edge[],
  saved: readonly (Value | Storage)[] = [],
): void {
  if (edges.length === 0 || !context.recording()) return;
  const node = new Node(
    outputs.length,
    edges,
    saved.map((one) => ('storage' in one ? one.storage : one)),
  );
  outputs.forEach((output, index) => {
    output.origin = { node, index };
  });
}

/** As large as x and in its order of elements, if x has no gaps. */
export function like(context: Context, x: Value, dtype = x.dtype): Value {
  const result = context.allocate(x.shape, dtype);
  const dense = numelOf(x.shape) * itemSize[dtypeName(x.dtype)] >= x.storage.bytes;
  return dense && !x.strides.includes(0) ? { ...result, strides: x.strides } : result;
}

export function unary(saves: 'nothing' | 'input' | 'result', temporaries = 0): Rule {
  return (context, x: Value) => {
    const result = like(context, x);
    const temporary = temporaries * bytesOf(x.shape, x.dtype);
    context.work(0, 2 * bytesOf(x.shape, x.dtype));
    record(
      context,
      [result],
      edge(x, 'new', { temporary }),
      saves === 'nothing' ? [] : [saves === 'input' ? x : result],
    );
    return result;
  };
}

export const withScalar =
  (saves: 'nothing' | 'input', gradient: 'new' | 'pass'): Rule =>
  (context, x: Value) => {
    const result = like(context, x, isFloat(x) ? x.dtype : float32);
    context.work(0, 2 * bytesOf(x.shape, x.dtype));
    record(context, [result], edge(x, gradient), saves === 'input' ? [x] : []);
    return result;
  };

export const isFloat = (x: Value) => dtypeName(x.dtype).includes('float');

export function promoted(a: Value, b: Value): number {
  if (isFloat(a) !== isFloat(b)) return isFloat(a) ? a.dtype : b.dtype;
  if ((a.shape.length === 0) !== (b.shape.length === 0)) return a.shape.length === 0 ? b.dtype : a.dtype;
  return itemSize[dtypeName(a.dtype)] >= itemSize[dtypeName(b.dtype)] ? a.dtype : b.dtype;
}

/** The gradient of an operand that was repeated is summed: full size on the way, then its own. */
export function binary(
  saves: 'nothing' | 'other' | 'both',
  gradients: readonly ['new' | 'pass', 'new' | 'pass'],
): Rule {
  return (context, a: Value, b: Value, alpha?: number) => {
    const shape = broadcast(a.shape, b.shape);
    const dtype = promoted(a, b);
    const whole = bytesOf(shape, dtype);
    const template = [a, b].find((x) => sameShape(x.shape, shape) && x.dtype === dtype);
    const result = template ? like(context, template) : context.allocate(shape, dtype);
    context.work(0, 3 * whole);
    const edgeOf = (x: Value, how: 'new' | 'pass') => {
      if (sameShape(x.shape, shape)) return edge(x, x.dtype === dtype ? how : 'new');
      return edge(x, 'new', { temporary: how === 'new' ? whole : 0 });
    };
    const ofB = alpha !== undefined && alpha !== null && alpha !== 1 ? 'new' : gradients[1];
    const edges = [...edgeOf(a, gradients[0]), ...edgeOf(b, ofB)];
    const both = saves === 'both' ? [a, b] : [];
    const other = saves === 'other' ? [...(b.origin ? [a] : []), ...(a.origin ? [b] : [])] : [];
    record(context, [result], edges, [...both, ...other]);
    return result;
  };
}

export const comparison: Rule = (context, a: Value, b: Value | number) =>
  context.allocate(typeof b === 'object' ? broadcast(a.shape, b.shape) : a.shape, bool);

export const inPlace: Rule = (_, x: Value) => x;

/** The same memory under another shape; the gradient is a view of the result's. */
export function view(
  context: Context,
  x: Value,
  shape: readonly number[],
  strides: readonly number[],
  whole = true,
): Value {
  const result: Value = { storage: x.storage.hold(), shape, strides, dtype: x.dtype };
  // the gradient of a part is zeros of the whole's size with the part copied in
  record(context, [result], edge(x, whole ? 'pass' : 'new'));
  return result;
}

export function detached({ storage, shape, strides, dtype }: Value): Value {
  return { storage, shape, strides, dtype };
}

export function copied(context: Context, x: Value, shape: readonly number[] = x.shape): Value {
  const result = context.allocate(shape, x.dtype);
  context.work(0, 2 * bytesOf(x.shape, x.dtype));
  record(context, [result], edge(x, 'pass'));
  return result;
}

export function reshape(context: Context, x: Value, wanted: readonly number[]): Value {
  const known = wanted.reduce((product, size) => (size === -1 ? product : product * size), 1);
  const shape = wanted.map((size) => (size === -1 ? numelOf(x.shape) / known : size));
  const strides = viewStrides(x.shape, x.strides, shape);
  return strides ? view(context, x, shape, strides) : copied(context, x, shape);
}

export const at = (dim: number, rank: number) => (dim < 0 ? dim + rank : dim);
export const replaced = <T>(list: readonly T[], index: number, ...values: T[]): T[] => [
  ...list.slice(0, index),
  ...values,
  ...list.slice(index + 1),
];

export function narrow(context: Context, x: Value, dim: number, length: number): Value {
  const axis = at(dim, x.shape.length);
  const whole = length === x.shape[axis];
  return view(context, x, replaced(x.shape, axis, length), x.strides, whole);
}

/** One operator with several results: their gradients are joined into one. */
export function pieces(context: Context, x: Value, dim: number, sizes: readonly number[]): Value[] {
  const axis = at(dim, x.shape.length);
  const results = sizes.map(
    (size): Value => ({
      storage: x.storage.hold(),
      shape: replaced(x.shape, axis, size),
      strides: x.strides,
      dtype: x.dtype,
    }),
  );
  record(context, results, edge(x));
  return results;
}

export function reduced(
  context: Context,
  x: Value,
  dims: Dims,
  keepdim: boolean,
  how: 'new' | 'pass',
  saves: readonly Value[] = [],
): Value {
  const axes = axesOf(x, dims);
  const shape = keepdim
    ? x.shape.map((size, i) => (axes.includes(i) ? 1 : size))
    : x.shape.filter((_, i) => !axes.includes(i));
  const result = context.allocate(shape, isFloat(x) ? x.dtype : int64);
  context.work(0, bytesOf(x.shape, x.dtype));
  record(context, [result], edge(x, how), saves);
  return result;
}

export type Dims = number | readonly number[] | null | undefined;
export function axesOf(x: Value, dims: Dims): number[] {
  const list = dims === undefined || dims === null ? [] : typeof dims === 'number' ? [dims] : dims;
  return list.length === 0 ? x.shape.map((_, i) => i) : list.map((dim) => at(dim, x.shape.length));
}
