/** What is the same of two runs or two drawings, and where they first differ. */

import { sha256 } from '@rldf/common/base/sha256';
import type { Tensor } from '@rldf/torch';
import type { MetricsRow } from '../run/metrics.js';

/** One thing that must be equal. */
export interface Comparison {
  what: string;
  /** SHA-256 of each of the two. */
  hashes: [string, string];
  equal: boolean;
  /** The first difference in words, if they are not equal. */
  difference?: string;
}

export function compare(
  what: string,
  [a, b]: readonly [Uint8Array | string, Uint8Array | string],
  explain: () => string | undefined,
): Comparison {
  const hashes: [string, string] = [sha256(a), sha256(b)];
  const equal = hashes[0] === hashes[1];
  if (equal) return { what, hashes, equal };
  return {
    what,
    hashes,
    equal,
    difference: explain() ?? 'the files differ in other bytes than their values',
  };
}

/** Name, index and values of the first element that differs by more than `tolerance`; by default in any bit. */
export function firstTensorDifference(
  a: ReadonlyMap<string, Tensor>,
  b: ReadonlyMap<string, Tensor>,
  tolerance?: number,
): string | undefined {
  for (const name of new Set([...a.keys(), ...b.keys()])) {
    const [one, other] = [a.get(name), b.get(name)];
    if (one === undefined || other === undefined) return `${name} is in only one of them`;
    const shapes = [one, other].map(({ dtype, shape }) => `${dtype} [${shape.join(', ')}]`);
    if (shapes[0] !== shapes[1]) return `${name} is ${shapes.join(' and ')}`;
    if (tolerance === undefined && Buffer.compare(one.bytes(), other.bytes()) === 0) continue;
    const [x, y] = [one.toArray(), other.toArray()];
    for (let flat = 0; flat < x.length; flat++) {
      const same =
        tolerance === undefined
          ? Object.is(x[flat], y[flat])
          : Math.abs(Number(x[flat]) - Number(y[flat])) <= tolerance;
      if (!same) return `${name} [${indexOf(flat, one.shape).join(', ')}]: ${x[flat]} and ${y[flat]}`;
    }
  }
  return undefined;
}

/** Step, name and values of the first metric that differs. */
export function firstRowDifference(a: readonly MetricsRow[], b: readonly MetricsRow[]): string | undefined {
  for (let index = 0; index < Math.max(a.length, b.length); index++) {
    const [one, other] = [a[index], b[index]];
    if (one === undefined || other === undefined) return `${a.length} and ${b.length} rows of metrics`;
    for (const name of new Set([...Object.keys(one), ...Object.keys(other)])) {
      const values = [one[name], other[name]].map((value) => JSON.stringify(value) ?? 'nothing');
      if (values[0] !== values[1]) return `metrics of step ${one.step}, ${name}: ${values.join(' and ')}`;
    }
  }
  return undefined;
}

function indexOf(flat: number, shape: readonly number[]): number[] {
  const index: number[] = [];
  let rest = flat;
  for (const size of [...shape].reverse()) {
    index.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  return index;
}
