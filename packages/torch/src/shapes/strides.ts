/** Shapes and strides, as libtorch reckons with them. Strides count elements. */

import { dtypeName, itemSize } from '../dtype.js';

export const numelOf = (shape: readonly number[]) => shape.reduce((product, size) => product * size, 1);

export const bytesOf = (shape: readonly number[], dtype: number) =>
  numelOf(shape) * itemSize[dtypeName(dtype)];

export const sameShape = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((size, i) => size === b[i]);

export function contiguousStrides(shape: readonly number[]): number[] {
  const strides = Array<number>(shape.length).fill(1);
  for (let i = shape.length - 2; i >= 0; i--) strides[i] = strides[i + 1]! * Math.max(1, shape[i + 1]!);
  return strides;
}

/** Row-major without gaps; the strides of dimensions of size 1 do not matter. */
export function isContiguous({
  shape,
  strides,
}: {
  shape: readonly number[];
  strides: readonly number[];
}): boolean {
  let expected = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] === 1) continue;
    if (strides[i] !== expected) return false;
    expected *= shape[i]!;
  }
  return true;
}

export function broadcast(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const [x = 1, y = 1] = [a[i - rank + a.length], b[i - rank + b.length]];
    return x === 1 ? y : x;
  });
}

/** Strides of the same elements under a new shape; undefined if they must be copied (ATen's computeStride). */
export function viewStrides(
  shape: readonly number[],
  strides: readonly number[],
  wanted: readonly number[],
): number[] | undefined {
  if (shape.length === 0) return wanted.map(() => 1);
  const result = Array<number>(wanted.length).fill(0);
  let place = wanted.length - 1;
  let base = strides.at(-1)!;
  let length = 1;
  let viewed = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    length *= shape[i]!;
    // the end of a run of dimensions that lie behind one another
    if (i > 0 && (shape[i - 1] === 1 || strides[i - 1] === length * base)) continue;
    while (place >= 0 && (viewed < length || wanted[place] === 1)) {
      result[place] = viewed * base;
      viewed *= wanted[place]!;
      place--;
    }
    if (viewed !== length) return undefined;
    if (i > 0) {
      base = strides[i - 1]!;
      length = 1;
      viewed = 1;
    }
  }
  return place === -1 ? result : undefined;
}

/** Strides of [B, C, H, W] whose channels lie side by side. */
export function channelsLastStrides([, channels = 1, height = 1, width = 1]: readonly number[]): number[] {
  return [channels * height * width, 1, channels * width, channels];
}

export function isChannelsLast({
  shape,
  strides,
}: {
  shape: readonly number[];
  strides: readonly number[];
}): boolean {
  const wanted = channelsLastStrides(shape);
  return shape.length === 4 && strides.every((stride, i) => shape[i] === 1 || stride === wanted[i]);
}
