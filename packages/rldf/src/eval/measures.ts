/** From verdicts on pictures to numbers with intervals. Pure; randomness is handed in. */

import { type IntegerSource, mean, quantile } from '@rldf/common/base/stats';
import { InternalError } from '@rldf/torch/errors';

/**
 * What is measured: one row a prompt, one value a picture; null where a picture does not count, such as the relation of
 * objects that are not both there. The metric is the mean of all values that count.
 */
export interface MeanMeasure {
  readonly kind: 'mean';
  readonly values: readonly (readonly (number | null)[])[];
}

/** A number that only a whole set of pictures has, such as FID. */
export interface SetMeasure {
  readonly kind: 'set';
  readonly prompts: number;
  readonly pictures: number;
  /** @param prompts positions of those that are kept */
  of(prompts: readonly number[]): number;
}

export type Measure = MeanMeasure | SetMeasure;

/** Ends of a 95 % interval; null where there are too few prompts for one. */
export type Ends = [lo: number, hi: number] | null;

export interface Metric {
  /** Null where no picture counts. */
  value: number | null;
  /** 95 % interval over prompts. */
  ci95: Ends;
  /** Values behind it: pictures, or prompts where each gives one. */
  n: number;
  prompts: number;
}

export interface MetricDifference {
  /** The first arm minus the second. */
  difference: number | null;
  ci95: Ends;
  /**
   * Share of pairs (same prompt, same noise) in which the first arm's value is higher, ties counted half, with its
   * interval. None for what single pictures do not have.
   */
  winRate?: number | null;
  winRateCi95?: Ends;
}

const RESAMPLES = 4000;
const JACKKNIFE_GROUPS = 20;

/** Means of one value a picture. @param values one row a prompt */
export function meanOf<Row extends readonly (number | null)[]>(values: readonly Row[]): MeanMeasure {
  return { kind: 'mean', values };
}

/**
 * The metric with its interval: for means a percentile bootstrap over prompts (pictures of a prompt stay together), for
 * numbers of a whole set a delete-a-group jackknife over prompts. A share of 0 or 1 leaves the bootstrap no spread;
 * then it is Wilson's interval, with prompts as cases.
 */
export function metricOf(measure: Measure, random: IntegerSource): Metric {
  if (measure.kind === 'set') {
    return { ...jackknife(measure), n: measure.pictures, prompts: measure.prompts };
  }
  const rows = measure.values.map(sumAndCount);
  const n = rows.reduce((sum, [, count]) => sum + count, 0);
  const prompts = rows.filter(([, count]) => count > 0).length;
  const value = shareOf(0)(totalsOf(rows));
  const isShare = measure.values.flat().every((single) => single === null || single === 0 || single === 1);
  const certain = isShare && (value === 0 || value === 1);
  const ci95 = certain ? wilson(value * prompts, prompts) : bootstrap([rows], random, [shareOf(0)])[0]!;
  return { value: orNull(value), ci95, n, prompts };
}

/** Paired difference of two arms on the same prompts and noise, by a bootstrap over prompts drawn for both at once. */
export function differenceOf(a: Measure, b: Measure, random: IntegerSource): MetricDifference {
  if (a.kind === 'mean' && b.kind === 'mean') return armsDifference([{ a, b }], random);
  if (a.kind !== 'set' || b.kind !== 'set')
    throw new InternalError('differenceOf: a set measure beside a mean');
  const { value, ci95 } = jackknife({ ...a, of: (kept) => a.of(kept) - b.of(kept) });
  return { difference: value, ci95 };
}

/**
 * The same over several training seeds: seeds are drawn with replacement, then prompts within each drawn seed, so that
 * both sources of spread count.
 * @param seeds one entry a training seed: both arms' measures on the same prompts and noise
 */
export function armsDifference(
  seeds: readonly { a: MeanMeasure; b: MeanMeasure }[],
  random: IntegerSource,
): MetricDifference {
  const groups = seeds.map(({ a, b }) => pairRows(a, b));
  const difference: Statistic = (totals) => shareOf(0)(totals) - shareOf(2)(totals);
  const wins = shareOf(4);
  const overSeeds = (statistic: Statistic) => orNull(mean(groups.map((rows) => statistic(totalsOf(rows)))));
  const [ci95 = null, winRateCi95 = null] = bootstrap(groups, random, [difference, wins]);
  return { difference: overSeeds(difference), ci95, winRate: overSeeds(wins), winRateCi95 };
}

/** Sums over a prompt's pictures: pairs of (sum of values, how many counted). */
type Row = readonly number[];
type Statistic = (totals: ArrayLike<number>) => number;

/** The mean behind the pair of columns that begins at `column`. */
const shareOf =
  (column: number): Statistic =>
  (totals) =>
    totals[column]! / totals[column + 1]!;

const orNull = (value: number) => (Number.isFinite(value) ? value : null);

function sumAndCount(values: readonly (number | null)[]): [sum: number, count: number] {
  const counted = values.filter((value) => value !== null);
  return [counted.reduce((sum, value) => sum + value, 0), counted.length];
}

/** Of each prompt: the first arm's pair of columns, the second's, that of the wins. */
function pairRows(a: MeanMeasure, b: MeanMeasure): Row[] {
  if (a.values.length !== b.values.length) {
    throw new InternalError(
      `differenceOf: ${a.values.length} prompts in one arm, ${b.values.length} in the other — arms are paired`,
    );
  }
  return a.values.map((row, prompt) => {
    const other = b.values[prompt]!;
    const wins = row.map((value, picture) => {
      const against = other[picture] ?? null;
      if (value === null || against === null) return null;
      return value > against ? 1 : value === against ? 0.5 : 0;
    });
    return [...sumAndCount(row), ...sumAndCount(other), ...sumAndCount(wins)];
  });
}

function totalsOf(rows: readonly Row[]): number[] {
  const totals = [...(rows[0] ?? [0, 0])].fill(0);
  for (const row of rows) for (const [column, value] of row.entries()) totals[column]! += value;
  return totals;
}

/**
 * Percentile intervals of statistics of the column totals, averaged over groups (training seeds): groups are drawn with
 * replacement, then the rows (prompts) of each.
 */
function bootstrap(
  groups: readonly (readonly Row[])[],
  random: IntegerSource,
  statistics: readonly Statistic[],
): Ends[] {
  const width = groups[0]?.[0]?.length ?? 0;
  const flat = groups.map((rows) => Float64Array.from(rows.flat()));
  const values = statistics.map(() => new Float64Array(RESAMPLES));
  const totals = new Float64Array(width);
  for (let resample = 0; resample < RESAMPLES; resample++) {
    for (let draw = 0; draw < groups.length; draw++) {
      const group = random.integer(groups.length);
      const [rows, columns] = [groups[group]!.length, flat[group]!];
      totals.fill(0);
      for (let i = 0; i < rows; i++) {
        const row = random.integer(rows) * width;
        for (let column = 0; column < width; column++) totals[column]! += columns[row + column]!;
      }
      for (const [i, statistic] of statistics.entries())
        values[i]![resample]! += statistic(totals) / groups.length;
    }
  }
  return values.map(percentiles);
}

/** Resamples in which nothing counted have no value and are left out. */
function percentiles(values: Float64Array): Ends {
  const sorted = [...values.filter(Number.isFinite).sort()];
  return sorted.length === 0 ? null : [quantile(sorted, 0.025), quantile(sorted, 0.975)];
}

/** Delete-a-group jackknife (Shao & Wu 1989): a normal interval from the spread when groups of prompts are left out. */
function jackknife({ prompts, of }: SetMeasure): { value: number; ci95: Ends } {
  const all = Array.from({ length: prompts }, (_, position) => position);
  const value = of(all);
  const groups = Math.min(JACKKNIFE_GROUPS, prompts);
  if (groups < 3) return { value, ci95: null };
  const without = Array.from({ length: groups }, (_, group) =>
    of(all.filter((position) => position % groups !== group)),
  );
  const centre = mean(without);
  const variance = ((groups - 1) / groups) * without.reduce((sum, each) => sum + (each - centre) ** 2, 0);
  const half = 1.959963984540054 * Math.sqrt(variance);
  return { value, ci95: [value - half, value + half] };
}

/** Wilson's 95 % interval of `right` cases of `total`. */
export function wilson(right: number, total: number): [lo: number, hi: number] {
  const z = 1.959963984540054;
  const share = right / total;
  const centre = share + z ** 2 / (2 * total);
  const spread = z * Math.sqrt((share * (1 - share)) / total + z ** 2 / (4 * total ** 2));
  const scale = 1 + z ** 2 / total;
  return [Math.max(0, (centre - spread) / scale), Math.min(1, (centre + spread) / scale)];
}
