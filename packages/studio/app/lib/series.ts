/** Curves that grow while they are looked at: columns of numbers, made coarser by merging neighbours when they get long. */

import type { MetricsRow, Series } from '../../src/api.js';

type Value = number | null;

/** A curve: steps ascending, a value, and the least and greatest value behind it. */
export interface Curve {
  steps: number[];
  values: Value[];
  low: Value[];
  high: Value[];
  /** Rows behind each point. */
  counts: number[];
}

/** Points above which a curve is merged. */
export const MOST_POINTS = 3000;

export const emptyCurve = (): Curve => ({ steps: [], values: [], low: [], high: [], counts: [] });

/** A curve of the server's answer. */
export function curveOf({ steps, values, low, high, rows }: Series): Curve {
  const each = Math.max(1, Math.round(rows / Math.max(1, steps.length)));
  return {
    steps: [...steps],
    values: [...values],
    low: [...(low ?? values)],
    high: [...(high ?? values)],
    counts: steps.map(() => each),
  };
}

/** Adds a value; one of the same step replaces the last, one of an earlier step is passed over. */
export function append(curve: Curve, step: number, value: Value): void {
  const last = curve.steps.at(-1);
  if (last !== undefined && step < last) return;
  const at = step === last ? curve.steps.length - 1 : curve.steps.length;
  curve.steps[at] = step;
  curve.values[at] = curve.low[at] = curve.high[at] = value;
  curve.counts[at] = 1;
  if (curve.steps.length > MOST_POINTS) halve(curve);
}

/** Merges each two neighbours: mean weighted by rows, least and greatest of both. The newest point stays as it is. */
export function halve(curve: Curve): void {
  const { steps, values, low, high, counts } = curve;
  let to = 0;
  let from = 0;
  for (; from + 2 < steps.length; from += 2, to++) {
    const rows = counts[from]! + counts[from + 1]!;
    values[to] = mixed(values[from]!, counts[from]!, values[from + 1]!, counts[from + 1]!);
    low[to] = extreme(Math.min, low[from]!, low[from + 1]!);
    high[to] = extreme(Math.max, high[from]!, high[from + 1]!);
    steps[to] = steps[from + 1]!;
    counts[to] = rows;
  }
  for (; from < steps.length; from++, to++) {
    for (const column of [steps, values, low, high, counts] as Value[][]) column[to] = column[from]!;
  }
  for (const column of [steps, values, low, high, counts]) column.length = to;
}

function mixed(a: Value, rowsOfA: number, b: Value, rowsOfB: number): Value {
  if (a === null || b === null) return a ?? b;
  return (a * rowsOfA + b * rowsOfB) / (rowsOfA + rowsOfB);
}

function extreme(which: (a: number, b: number) => number, a: Value, b: Value): Value {
  return a === null || b === null ? (a ?? b) : which(a, b);
}

/**
 * The numbers of new rows, by metric: finite ones, and null for those that are not ("NaN", "Infinity").
 * Texts, lists, truths and nulls are no curves.
 */
export function numbersOf(rows: readonly MetricsRow[]): Map<string, { step: number; value: Value }[]> {
  const found = new Map<string, { step: number; value: Value }[]>();
  for (const row of rows) {
    for (const [name, value] of Object.entries(row)) {
      if (name === 'step') continue;
      const finite = typeof value === 'number';
      if (!finite && value !== 'NaN' && value !== 'Infinity' && value !== '-Infinity') continue;
      const list = found.get(name) ?? [];
      found.set(name, list);
      list.push({ step: row.step, value: finite ? value : null });
    }
  }
  return found;
}

/** Exponential moving average whose first values are unbiased; gaps stay gaps. `weight` in [0, 1) of the past. */
export function smooth(values: readonly Value[], weight: number): Value[] {
  if (weight <= 0) return [...values];
  let [sum, mass] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    sum = weight * sum + (1 - weight) * value;
    mass = weight * mass + (1 - weight);
    return sum / mass;
  });
}

/** Least and greatest of all lists; undefined if there is no number. */
export function extent(...lists: (readonly (Value | undefined)[])[]): [number, number] | undefined {
  let [least, greatest] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const list of lists) {
    for (const value of list) {
      if (value === null || value === undefined) continue;
      if (value < least) least = value;
      if (value > greatest) greatest = value;
    }
  }
  return least > greatest ? undefined : [least, greatest];
}

/** Index of the last step that is at most `step`; -1 if none is. */
export function indexAt(steps: readonly number[], step: number): number {
  let [low, high] = [0, steps.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle]! <= step) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The index whose step is nearest; -1 for none. Of two equally near the earlier. */
export function nearest(steps: readonly number[], step: number): number {
  const at = indexAt(steps, step);
  if (at < 0) return steps.length === 0 ? -1 : 0;
  const next = steps[at + 1];
  return next !== undefined && next - step < step - steps[at]! ? at + 1 : at;
}

/** First and last number of a curve, and its extent, for people who cannot see it. */
export function inWords(curve: Pick<Curve, 'steps' | 'values'>, say: (value: Value) => string): string {
  const seen = curve.values.flatMap((value, i) => (value === null ? [] : [{ value, step: curve.steps[i]! }]));
  if (seen.length === 0) return 'no numbers yet';
  const [first, last] = [seen[0]!, seen.at(-1)!];
  if (seen.length === 1) return `${say(first.value)} at step ${first.step}`;
  const [least, greatest] = extent(curve.values)!;
  return `from ${say(first.value)} at step ${first.step} to ${say(last.value)} at step ${last.step}, between ${say(least)} and ${say(greatest)}`;
}
