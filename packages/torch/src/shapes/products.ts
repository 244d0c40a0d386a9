/** Rules of what takes the time: products, convolutions, attention, normalisation; and what copies. */

import { readFileSync } from 'node:fs';
import { dtypeNumber } from '../dtype.js';
import type { Value } from './graph.js';
import { type Context, copied, detached, edge, float32, record } from './rules.js';
import { broadcast, bytesOf, channelsLastStrides, isChannelsLast, isContiguous, numelOf } from './strides.js';

const bfloat16 = dtypeNumber('bfloat16');

/** Whether the kernels are the CPU's, which reorder operands and have Winograd's algorithm. */
let onProcessor = true;

export function setKernels(device: string): void {
  onProcessor = device === 'cpu';
}

/** Whether tensors are on a GPU, and the host's memory is another one. */
export const onGpu = (): boolean => !onProcessor;

/** x [..., in], weight [out, in]. Keeps x only if the weight wants its gradient. */
export function linear(context: Context, x: Value, weight: Value, bias?: Value | null): Value {
  const [outFeatures, inFeatures] = weight.shape as [number, number];
  const rows = numelOf(x.shape) / inFeatures;
  const operations = 2 * rows * inFeatures * outFeatures;
  const source = isContiguous(x) ? undefined : context.allocate(x.shape, x.dtype);
  const result = context.allocate([...x.shape.slice(0, -1), outFeatures], x.dtype);
  context.work(operations, bytesOf(weight.shape, x.dtype));
  const edges = [
    ...edge(x, 'new', { work: operations }),
    ...edge(weight, 'new', { work: operations }),
    ...(bias ? edge(bias) : []),
  ];
  record(context, [result], edges, weight.origin ? [source ?? x] : []);
  source?.storage.release();
  return result;
}

export function matmul(context: Context, a: Value, b: Value): Value {
  const inner = a.shape.at(-1) as number;
  const batch = broadcast(a.shape.slice(0, -2), b.shape.slice(0, -2));
  const result = context.allocate([...batch, a.shape.at(-2) ?? 1, b.shape.at(-1) as number], a.dtype);
  const operations = 2 * numelOf(result.shape) * inner;
  context.work(operations, 0);
  record(
    context,
    [result],
    [...edge(a, 'new', { work: operations }), ...edge(b, 'new', { work: operations })],
    [...(b.origin ? [a] : []), ...(a.origin ? [b] : [])],
  );
  return result;
}

/** Keeps input and weight, whichever of them wants its gradient. */
export function conv2d(
  context: Context,
  x: Value,
  weight: Value,
  bias: Value | null | undefined,
  stride: readonly number[] = [1, 1],
  padding: readonly number[] = [0, 0],
  _dilation?: readonly number[],
  groups = 1,
): Value {
  const [batch, channels, ...size] = x.shape as [number, number, number, number];
  const [outChannels, , ...kernel] = weight.shape as [number, number, number, number];
  const map = size.map((n, i) => Math.floor((n + 2 * padding[i]! - kernel[i]!) / stride[i]!) + 1) as [
    number,
    number,
  ];
  const source = isContiguous(x) || isChannelsLast(x) ? x : copied(context, detached(x));
  const result = ordered(context.allocate([batch, outChannels, ...map], x.dtype), [source]);
  const operations = (2 * numelOf(result.shape) * channels * kernel[0]! * kernel[1]!) / groups;
  context.work(operations, bytesOf(weight.shape, x.dtype));
  const [whole, output, filter] = [x, result, weight].map((t) => bytesOf(t.shape, t.dtype)) as [
    number,
    number,
    number,
  ];
  const pointwise =
    kernel.every((k) => k === 1) && stride.every((n) => n === 1) && padding.every((p) => p === 0);
  // The plain kernel unfolds the input into columns; oneDNN's reorders what it reads into blocks of channels.
  const plain =
    (x.dtype !== float32 && x.dtype !== bfloat16) ||
    (batch === 1 && numelOf(x.shape) <= 20480 && kernel[0]! <= 3 && groups === 1);
  const columns = bytesOf([batch, channels, ...kernel, ...map], x.dtype);
  const temporaries =
    pointwise || !onProcessor
      ? { forward: 0, ofInput: 0, ofWeight: 0 }
      : plain
        ? { forward: columns, ofInput: columns, ofWeight: columns }
        : { forward: whole + filter, ofInput: Math.max(whole, output) + filter, ofWeight: whole + output };
  context.allocate([temporaries.forward], dtypeNumber('uint8')).storage.release();
  const edges = [
    ...edge(x, 'new', { work: operations, temporary: temporaries.ofInput }),
    ...edge(weight, 'new', { work: operations, temporary: temporaries.ofWeight }),
    ...(bias ? edge(bias) : []),
  ];
  record(context, [result], edges, [source, weight]);
  if (source !== x) source.storage.release();
  return result;
}

export function normalised(
  context: Context,
  x: Value,
  statistics: readonly number[],
  parameters: readonly (Value | null | undefined)[],
): Value {
  const source = isContiguous(x) || isChannelsLast(x) ? x : copied(context, detached(x));
  const result = ordered(context.allocate(x.shape, x.dtype), [source]);
  const [mean, rstd] = [context.allocate(statistics, x.dtype), context.allocate(statistics, x.dtype)];
  context.work(0, 3 * bytesOf(x.shape, x.dtype));
  const edges = [...edge(x), ...parameters.flatMap((p) => (p ? edge(p) : []))];
  record(context, [result], edges, [source, mean, rstd]);
  for (const { storage } of [mean, rstd, ...(source === x ? [] : [source])]) storage.release();
  return result;
}

/** The flash kernel: keeps query, key, value, result and the logarithm of the sums, never the attention matrix. */
export function attention(context: Context, query: Value, key: Value, value: Value): Value {
  const [batch, heads, length, dim] = query.shape as [number, number, number, number];
  const context_ = key.shape[2] as number;
  const stored = context.allocate([batch, length, heads, dim], query.dtype);
  const [a, b, c, d] = stored.strides as [number, number, number, number];
  const result: Value = { ...stored, shape: query.shape, strides: [a, c, b, d] };
  const logSum = context.allocate([batch, length, heads], float32);
  const operations = 4 * batch * heads * length * context_ * dim;
  context.work(operations, 0);
  const edges = [query, key, value].flatMap((x) => edge(x, 'new', { work: operations }));
  record(context, [result], edges, [query, key, value, result, logSum]);
  logSum.storage.release();
  return result;
}

export function resized(context: Context, x: Value, size: readonly number[]): Value {
  const result = ordered(context.allocate([...x.shape.slice(0, -2), ...size], x.dtype), [x]);
  const reordered =
    isChannelsLast(x) || !onProcessor ? 0 : bytesOf(x.shape, x.dtype) + bytesOf(result.shape, x.dtype); // the kernel works channels-last
  context.allocate([reordered], dtypeNumber('uint8')).storage.release();
  context.work(0, 2 * bytesOf(result.shape, x.dtype));
  record(context, [result], edge(x));
  return result;
}

export function joined(context: Context, parts: readonly Value[], shape: readonly number[]): Value {
  const result = ordered(context.allocate(shape, (parts[0] as Value).dtype), parts);
  context.work(0, 2 * bytesOf(shape, result.dtype));
  record(
    context,
    [result],
    parts.flatMap((part) => edge(part, 'pass')),
  );
  return result;
}

export function gathered(context: Context, x: Value, shape: readonly number[], index: Value): Value {
  const result = context.allocate(shape, x.dtype);
  record(context, [result], edge(x), [index]);
  return result;
}

/** Maps keep their channels side by side if those they are made of do. */
function ordered(result: Value, from: readonly Value[]): Value {
  const last = result.shape.length === 4 && from.every((x) => isChannelsLast(x) && !isContiguous(x));
  return last ? { ...result, strides: channelsLastStrides(result.shape) } : result;
}

/** 3x3, stride 1, padding 1. With frozen weights Winograd's kernel (kernels/winograd.cc), which keeps nothing of the input. */
export function conv3x3(context: Context, x: Value, weight: Value, bias?: Value | null): Value {
  if (!fitsWinograd(x, weight, bias)) return conv2d(context, x, weight, bias, [1, 1], [1, 1]);
  const [batch, channels, height, width] = x.shape as [number, number, number, number];
  const outChannels = weight.shape[0] as number;
  const packed = (direction: string) => {
    if (!weight.storage.attached.has(direction))
      weight.storage.attached.set(direction, context.allocate([16, outChannels, channels], float32).storage);
  };
  packed('forward');
  const source = isChannelsLast(x) ? undefined : context.allocate(x.shape, x.dtype);
  const made = context.allocate([batch, outChannels, height, width], x.dtype);
  const result = { ...made, strides: channelsLastStrides(made.shape) };
  source?.storage.release();
  const operations = 2 * numelOf(result.shape) * channels * 9;
  context.work(operations, bytesOf(weight.shape, x.dtype));
  const temporary = bytesOf(result.shape, x.dtype); // the gradient with its channels side by side
  record(
    context,
    [result],
    edge(x, 'new', { work: operations, temporary, prepare: () => packed('backward') }),
  );
  return result;
}

function fitsWinograd(x: Value, weight: Value, bias?: Value | null): boolean {
  const [out, channels] = weight.shape as [number, number];
  const frozen =
    weight.origin === undefined && (bias === undefined || bias === null || bias.origin === undefined);
  return onProcessor && hasWinograd && frozen && x.dtype === float32 && out % 16 === 0 && channels % 16 === 0;
}

/** As runsHere() in kernels/winograd.cc: x86-64 with AVX-512. */
const hasWinograd = process.arch === 'x64' && processorHas('avx512f');

function processorHas(flag: string): boolean {
  try {
    return readFileSync('/proc/cpuinfo', 'utf8').includes(flag);
  } catch {
    return false;
  }
}
