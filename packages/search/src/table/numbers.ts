/** The numbers of a table of searches, from its rows alone. Each measure is defined once, here. */

import { bootstrapMean, bootstrapSeedsAndPrompts, mean, quantile } from '@rldf/common/base/stats';
import { noiseKey, Random } from '@rldf/torch';
import type { TableRow } from './runs.js';

/** A mean with its 95 % interval; null for one world only. */
export interface Estimate {
  mean: number;
  ci95: [lo: number, hi: number] | null;
}

/** One arm in one world. Means are over all searches. */
export interface ArmNumbers {
  arm: string;
  world: string;
  /** Most steps of a search: the world's states. */
  cap: number;
  searches: number;
  /** Share that looked at the goal within the cap. */
  reached: Estimate;
  /** Minus that of random selection, paired. */
  reachedMinusRandom: Estimate | null;
  /** Steps to the first look at the goal; null: most searches did not get there. */
  firstHit: { best: number | null; lowerQuartile: number | null; median: number | null };
  /** Distinct pictures until then, or in all. */
  pictures: number;
  picturesMinusRandom: Estimate | null;
  /** Share whose greedy path, after training, leads from the start to the goal; null: learns none. */
  learned: Estimate | null;
  /** Mean steps of these paths, and of the shortest ones from the same starts. */
  path: { learned: number; shortest: number } | null;
  /** The columns of the paper's Table 3, means: in steps of the grid over all looks. */
  final: number;
  largest: number;
  smallest: number;
  deviation: number;
  variance: number;
  fineHits: number;
  coarseHits: number;
  /** Gradients: mean distance after the goal was first looked at, and steps that led nowhere. */
  afterGoal: number | null;
  plateaus: number;
}

/** Rows of one arm in one world, by scenery (input and picture seed). */
export type ByScenery = Map<string, TableRow[]>;

export function groupRows(rows: readonly TableRow[]): Map<string, ByScenery> {
  const groups = new Map<string, ByScenery>();
  for (const row of rows) {
    const key = groupKey(row.arm, row.world);
    const sceneries = groups.get(key) ?? new Map<string, TableRow[]>();
    groups.set(key, sceneries);
    const scenery = `${row.input} ${row.pictureSeed}`;
    sceneries.set(scenery, [...(sceneries.get(scenery) ?? []), row]);
  }
  return groups;
}

export const groupKey = (arm: string, world: string) => `${world}: ${arm}`;

export const reached = ({ measures }: TableRow) => Number(measures.firstHit !== null);
export const pictures = ({ measures }: TableRow) => measures.distinctPictures;

/** Mean of a value of each search, with an interval over sceneries and over the searches within each. */
export function estimate(
  sceneries: ByScenery,
  value: (row: TableRow) => number,
  purpose: string,
  resamples = 2000,
): Estimate {
  return estimateOf(
    [...sceneries.values()].map((rows) => rows.map(value)),
    purpose,
    resamples,
  );
}

/** @param rows one a scenery */
export function estimateOf(
  rows: readonly (readonly number[])[],
  purpose: string,
  resamples = 2000,
): Estimate {
  const random = new Random(noiseKey(0, `table ${purpose}`));
  if (rows.length < 2) return { mean: mean(rows.map(mean)), ci95: null };
  const found = bootstrapSeedsAndPrompts(rows, { random, resamples });
  return { mean: found.mean, ci95: found.interval };
}

/** Mean of one number a scenery. */
export function estimateMeans(values: readonly number[], purpose: string): Estimate {
  if (values.length < 2) return { mean: mean(values), ci95: null };
  const random = new Random(noiseKey(0, `table ${purpose}`));
  return { mean: mean(values), ci95: bootstrapMean(values, { random }).interval };
}

/** Value of `ours` minus that of `others`, paired by scenery and agent seed; undefined where nothing pairs. */
export function paired(
  ours: ByScenery | undefined,
  others: ByScenery | undefined,
  value: (row: TableRow) => number,
  purpose: string,
  resamples = 2000,
): Estimate | null {
  if (ours === undefined || others === undefined) return null;
  const rows = [...ours].flatMap(([scenery, mine]) => {
    const theirs = new Map((others.get(scenery) ?? []).map((row) => [row.agentSeed, row]));
    const differences = mine.flatMap((row) => {
      const other = theirs.get(row.agentSeed);
      return other === undefined ? [] : [value(row) - value(other)];
    });
    return differences.length === 0 ? [] : [differences];
  });
  return rows.length === 0 ? null : estimateOf(rows, purpose, resamples);
}

export function armNumbers(
  arm: string,
  world: string,
  groups: ReadonlyMap<string, ByScenery>,
): ArmNumbers | null {
  const sceneries = groups.get(groupKey(arm, world));
  if (sceneries === undefined) return null;
  const rows = [...sceneries.values()].flat();
  const random = arm === 'random' ? undefined : groups.get(groupKey('random', world));
  const hits = rows
    .map(({ measures }) => measures.firstHit ?? Number.POSITIVE_INFINITY)
    .sort((a, b) => a - b);
  const average = (value: (row: TableRow) => number) => mean(rows.map(value));
  const learners = rows.filter(({ learned }) => learned !== null);
  const paths = rows.filter(({ path }) => path !== null);
  const after = rows.flatMap(({ distanceAfterGoal }) => distanceAfterGoal ?? []);
  return {
    arm,
    world,
    cap: rows[0]!.cap,
    searches: rows.length,
    reached: estimate(sceneries, reached, `${world} ${arm} reached`),
    reachedMinusRandom: paired(sceneries, random, reached, `${world} ${arm} reached random`),
    firstHit: {
      best: finite(hits[0]!),
      lowerQuartile: finite(quantileOf(hits, 0.25)),
      median: finite(quantileOf(hits, 0.5)),
    },
    pictures: average(pictures),
    picturesMinusRandom: paired(sceneries, random, pictures, `${world} ${arm} pictures random`),
    learned:
      learners.length === 0
        ? null
        : estimate(sceneries, ({ learned }) => Number(learned), `${world} ${arm} learned`),
    path:
      paths.length === 0
        ? null
        : {
            learned: mean(paths.map(({ path }) => path!)),
            shortest: mean(paths.map(({ startDistance }) => startDistance)),
          },
    final: average(({ measures }) => measures.finalDistance),
    largest: average(({ measures }) => measures.largestDistance),
    smallest: average(({ measures }) => measures.smallestDistance),
    deviation: average(({ measures }) => measures.distanceDeviation),
    variance: average(({ measures }) => measures.distanceVariance),
    fineHits: average(({ measures }) => measures.fineHits),
    coarseHits: average(({ measures }) => measures.coarseHits),
    afterGoal: after.length === 0 ? null : mean(after),
    plateaus: average(({ plateaus }) => plateaus),
  };
}

/** A search that did not get there took infinitely many steps: the lower of two neighbours, never their mean. */
export function quantileOf(sorted: readonly number[], probability: number): number {
  return sorted.every(Number.isFinite)
    ? quantile(sorted, probability)
    : sorted[Math.floor(probability * (sorted.length - 1))]!;
}

export const finite = (value: number) => (Number.isFinite(value) ? value : null);

/** Share of the searches of an arm that have looked at the goal after so many steps. */
export function reachedBy(rows: readonly TableRow[], steps: number): number {
  return mean(rows.map(({ measures }) => Number((measures.firstHit ?? Number.POSITIVE_INFINITY) <= steps)));
}
