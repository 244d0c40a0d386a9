/**
 * What each operator of libtorch does to memory: the shape of its result, whether it is a view, what it keeps for the
 * backward pass, and what that allocates. As in libtorch's derivatives.yaml and its CPU kernels.
 */

import { dtypeName, itemSize } from '../dtype.js';
import { InternalError } from '../errors.js';
import type { Value } from './graph.js';
import {
  attention,
  conv2d,
  conv3x3,
  gathered,
  joined,
  linear,
  matmul,
  normalised,
  onGpu,
  resized,
} from './products.js';
import {
  type Argument,
  at,
  axesOf,
  binary,
  type Context,
  comparison,
  copied,
  type Dims,
  detached,
  edge,
  float32,
  float64,
  inPlace,
  int64,
  like,
  narrow,
  pieces,
  promoted,
  type Rule,
  record,
  reduced,
  replaced,
  reshape,
  unary,
  view,
  withScalar,
} from './rules.js';
import { broadcast, bytesOf, contiguousStrides, isContiguous, numelOf, sameShape } from './strides.js';

const filled: Rule = (context, shape: readonly number[], dtype: number) => context.allocate(shape, dtype);

const input: Rule = unary('input');
const result: Rule = unary('result');
const plain: Rule = unary('nothing');

/** By the operator's name and overload. */
export const operators: Readonly<Record<string, Rule>> = {
  abs: input,
  exp: result,
  log: input,
  sqrt: result,
  rsqrt: result,
  square: unary('input', 1),
  sin: input,
  cos: input,
  tanh: result,
  sigmoid: result,
  relu: result,
  silu: input,
  gelu: input,
  clamp: unary('input', 1),
  neg: plain,
  round: plain,
  floor: plain,
  logical_not: comparison,
  isfinite: comparison,
  logical_and: comparison,
  'eq.Scalar': comparison,
  'eq.Tensor': comparison,
  'ne.Scalar': comparison,
  'ne.Tensor': comparison,
  'lt.Scalar': comparison,
  'lt.Tensor': comparison,
  'le.Scalar': comparison,
  'le.Tensor': comparison,
  'gt.Scalar': comparison,
  'gt.Tensor': comparison,
  'ge.Scalar': comparison,
  'ge.Tensor': comparison,
  'add.Scalar': withScalar('nothing', 'pass'),
  'sub.Scalar': withScalar('nothing', 'pass'),
  'mul.Scalar': withScalar('nothing', 'new'),
  'div.Scalar': withScalar('nothing', 'new'),
  'pow.Tensor_Scalar': unary('input', 1),
  'pow.Tensor_Tensor': binary('both', ['new', 'new']),
  'add.Tensor': binary('nothing', ['pass', 'pass']),
  'sub.Tensor': binary('nothing', ['pass', 'new']),
  'mul.Tensor': binary('other', ['new', 'new']),
  'div.Tensor': binary('both', ['new', 'new']),
  maximum: binary('both', ['new', 'new']),
  minimum: binary('both', ['new', 'new']),
  'add_.Scalar': inPlace,
  'add_.Tensor': inPlace,
  'mul_.Scalar': inPlace,
  'mul_.Tensor': inPlace,
  'div_.Scalar': inPlace,
  'div_.Tensor': inPlace,
  'lerp_.Scalar': inPlace,
  clamp_: inPlace,
  copy_: inPlace,
  zero_: inPlace,
  'fill_.Scalar': inPlace,

  set_data: (_, x: Value, other: Value) => {
    other.storage.hold();
    x.storage.release();
    x.storage = other.storage;
    x.host = other.host === true;
    return undefined;
  },
  detach: (_, x: Value) => ({ ...detached(x), storage: x.storage.hold() }),
  clone: (context, x: Value) => copied(context, x),
  contiguous: (context, x: Value) =>
    isContiguous(x) ? view(context, x, x.shape, x.strides) : copied(context, x),
  'to.dtype_layout': (
    context,
    x: Value,
    dtype: number | null,
    _layout: null,
    device: string | null | undefined,
  ) => {
    const leaves = onGpu() && device === 'cpu' && !x.host;
    const stays = x.host === true && (device === undefined || device === null || device === 'cpu');
    if (leaves || stays)
      return { ...context.allocate([0], dtype ?? x.dtype), shape: x.shape, strides: x.strides, host: true };
    if (x.host === true) return context.allocate(x.shape, dtype ?? x.dtype);
    if (dtype === null || dtype === undefined || dtype === x.dtype)
      return view(context, x, x.shape, x.strides);
    const converted = like(context, x, dtype);
    record(context, [converted], edge(x));
    return converted;
  },
  reshape,
  permute: (context, x: Value, dims: readonly number[]) =>
    view(
      context,
      x,
      dims.map((d) => x.shape[at(d, x.shape.length)]!),
      dims.map((d) => x.strides[at(d, x.shape.length)]!),
    ),
  'transpose.int': (context, x: Value, a: number, b: number) => {
    const order = x.shape.map((_, i) => i);
    [order[at(a, order.length)], order[at(b, order.length)]] = [at(b, order.length), at(a, order.length)];
    return view(
      context,
      x,
      order.map((i) => x.shape[i]!),
      order.map((i) => x.strides[i]!),
    );
  },
  unsqueeze: (context, x: Value, dim: number) => {
    const axis = at(dim, x.shape.length + 1);
    const stride = axis < x.shape.length ? x.strides[axis]! * x.shape[axis]! : 1;
    const insert = (list: readonly number[], value: number) => [
      ...list.slice(0, axis),
      value,
      ...list.slice(axis),
    ];
    return view(context, x, insert(x.shape, 1), insert(x.strides, stride));
  },
  'squeeze.dim': (context, x: Value, dim: number) => {
    const axis = at(dim, x.shape.length);
    return x.shape[axis] === 1
      ? view(context, x, replaced(x.shape, axis), replaced(x.strides, axis))
      : view(context, x, x.shape, x.strides);
  },
  expand: (context, x: Value, sizes: readonly number[]) => {
    const lead = sizes.length - x.shape.length;
    const shape = sizes.map((size, i) => (size === -1 ? x.shape[i - lead]! : size));
    const strides = shape.map((size, i) =>
      i < lead || (x.shape[i - lead] === 1 && size !== 1) ? 0 : x.strides[i - lead]!,
    );
    return view(context, x, shape, strides, sameShape(shape, x.shape));
  },
  'flatten.using_ints': (context, x: Value, start: number, end: number) => {
    const [first, last] = [at(start, x.shape.length), at(end, x.shape.length)];
    return reshape(context, x, [
      ...x.shape.slice(0, first),
      numelOf(x.shape.slice(first, last + 1)),
      ...x.shape.slice(last + 1),
    ]);
  },
  narrow: (context, x: Value, dim: number, _start: number, length: number) => narrow(context, x, dim, length),
  'select.int': (context, x: Value, dim: number) => {
    const axis = at(dim, x.shape.length);
    return view(context, x, replaced(x.shape, axis), replaced(x.strides, axis), false);
  },
  'view.dtype': (context, x: Value, dtype: number) => {
    const factor = itemSize[dtypeName(x.dtype)] / itemSize[dtypeName(dtype)];
    const shape = [...x.shape.slice(0, -1), (x.shape.at(-1) as number) * factor];
    return { ...view(context, x, shape, contiguousStrides(shape)), dtype };
  },
  chunk: (context, x: Value, count: number, dim: number) => {
    const size = x.shape[at(dim, x.shape.length)] as number;
    const each = Math.ceil(size / count);
    return pieces(
      context,
      x,
      dim,
      Array.from({ length: Math.ceil(size / each) }, (_, i) => Math.min(each, size - i * each)),
    );
  },
  split_with_sizes: (context, x: Value, sizes: readonly number[], dim: number) =>
    pieces(context, x, dim, sizes),
  index_select: (context, x: Value, dim: number, index: Value) =>
    gathered(context, x, replaced(x.shape, at(dim, x.shape.length), numelOf(index.shape)), index),
  gather: (context, x: Value, _dim: number, index: Value) => gathered(context, x, index.shape, index),
  embedding: (context, weight: Value, ids: Value) =>
    gathered(context, weight, [...ids.shape, weight.shape[1]!], ids),

  sum: (context, x: Value) => reduced(context, x, null, false, 'pass'),
  'sum.dim_IntList': (context, x: Value, dims: Dims, keepdim: boolean) =>
    reduced(context, x, dims, keepdim, 'pass'),
  mean: (context, x: Value) => reduced(context, x, null, false, 'new'),
  'mean.dim': (context, x: Value, dims: Dims, keepdim: boolean) => reduced(context, x, dims, keepdim, 'new'),
  'var.correction': (context, x: Value, dims: Dims, _c: number, keepdim: boolean) =>
    reduced(context, x, dims, keepdim, 'new', [x]),
  amax: (context, x: Value, dims: Dims, keepdim: boolean) => reduced(context, x, dims, keepdim, 'new', [x]),
  amin: (context, x: Value, dims: Dims, keepdim: boolean) => reduced(context, x, dims, keepdim, 'new', [x]),
  argmax: (context, x: Value, dim: Dims, keepdim: boolean) =>
    context.allocate(
      axesOf(x, dim).reduceRight(
        (shape, axis) => (keepdim ? replaced(shape, axis, 1) : replaced(shape, axis)),
        [...x.shape],
      ),
      int64,
    ),
  'norm.Scalar': (context, x: Value) => reduced(context, x, null, false, 'new', [x]),
  logsumexp: (context, x: Value, dims: Dims, keepdim: boolean) =>
    reduced(context, x, dims, keepdim, 'new', [x]),
  'softmax.int': result,
  'log_softmax.int': result,
  cumsum: plain,

  matmul,
  linear,
  conv2d,
  'rldf::conv3x3': conv3x3,
  'rldf::philox': (context, keys: readonly number[], count: number) =>
    context.allocate([keys.length / 4, count], float64),
  group_norm: (context, x: Value, groups: number, weight?: Value, bias?: Value) =>
    normalised(context, x, [x.shape[0]!, groups], [weight, bias]),
  layer_norm: (context, x: Value, shape: readonly number[], weight?: Value, bias?: Value) =>
    normalised(context, x, x.shape.slice(0, -shape.length), [weight, bias]),
  scaled_dot_product_attention: attention,
  upsample_nearest2d: resized,
  upsample_bilinear2d: resized,
  _upsample_bilinear2d_aa: resized,
  upsample_bicubic2d: resized,
  _upsample_bicubic2d_aa: resized,
  avg_pool2d: (context, x: Value, kernel: readonly number[]) =>
    resized(
      context,
      x,
      x.shape.slice(-2).map((size, i) => Math.floor(size / kernel[i]!)),
    ),
  constant_pad_nd: (context, x: Value, pad: readonly number[]) => {
    const shape = x.shape.map((size, i) => {
      const pair = 2 * (x.shape.length - 1 - i);
      return size + (pad[pair] ?? 0) + (pad[pair + 1] ?? 0);
    });
    const padded = context.allocate(shape, x.dtype);
    record(context, [padded], edge(x, 'pass'));
    return padded;
  },
  cross_entropy_loss: (context, logits: Value, target: Value, _w: null, reduction: number) => {
    const logProbabilities = context.allocate(logits.shape, logits.dtype);
    const loss = context.allocate(reduction === 0 ? target.shape : [], logits.dtype);
    record(context, [loss], edge(logits, 'new', { temporary: bytesOf(logits.shape, logits.dtype) }), [
      logProbabilities,
      target,
    ]);
    logProbabilities.storage.release();
    return loss;
  },
  mse_loss: (context, a: Value, b: Value, reduction: number) => {
    const loss = context.allocate(reduction === 0 ? a.shape : [], a.dtype);
    record(context, [loss], [...edge(a), ...edge(b)], [a, b]);
    return loss;
  },
  cat: (context, parts: readonly Value[], dim = 0) => {
    const [first] = parts as [Value];
    const axis = at(dim, first.shape.length);
    return joined(
      context,
      parts,
      replaced(
        first.shape,
        axis,
        parts.reduce((sum, part) => sum + part.shape[axis]!, 0),
      ),
    );
  },
  stack: (context, parts: readonly Value[], dim = 0) => {
    const [first] = parts as [Value];
    const axis = at(dim, first.shape.length + 1);
    return joined(context, parts, [...first.shape.slice(0, axis), parts.length, ...first.shape.slice(axis)]);
  },
  'where.self': (context, condition: Value, a: Value, b: Value) => {
    const chosen = context.allocate(broadcast(condition.shape, broadcast(a.shape, b.shape)), promoted(a, b));
    record(context, [chosen], [...edge(a), ...edge(b)], [condition]);
    return chosen;
  },

  // a mapped file is the kernel's memory, not the allocator's
  from_file: (context, _path: string, _shared: boolean, size: number, dtype: number) => ({
    ...context.allocate([0], dtype),
    shape: [size],
  }),
  'empty.memory_format': filled,
  zeros: filled,
  full: (context, shape: readonly number[], _value: number, dtype: number) => context.allocate(shape, dtype),
  eye: (context, size: number, dtype: number) => context.allocate([size, size], dtype),
  linspace: (context, _a: number, _b: number, steps: number, dtype: number) =>
    context.allocate([steps], dtype),
  'arange.start_step': (context, start: number, end: number, step: number, dtype: number) =>
    context.allocate([Math.max(0, Math.ceil((end - start) / step))], dtype),

  '_foreach_add_.List': () => undefined,
  '_foreach_add_.Scalar': () => undefined,
  '_foreach_mul_.Scalar': () => undefined,
  '_foreach_lerp_.Scalar': () => undefined,
  _fused_adamw_: () => undefined,
  '_foreach_norm.Scalar': (context, list: readonly Value[]) =>
    list.map((x) => context.allocate([], x.dtype === float64 ? float64 : float32)),
};

/** The rule of an operator. @throws InternalError when there is none */
export function ruleOf(
  name: string,
): (context: Context, ...args: readonly Argument[]) => Value | readonly Value[] | undefined {
  const rule = operators[name];
  if (rule !== undefined) return rule as never;
  throw new InternalError(
    `operator ${name}: how much memory it takes is not known — add its rule to packages/torch/src/shapes/operators.ts.`,
  );
}
