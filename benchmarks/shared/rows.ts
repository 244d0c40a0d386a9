import { mean, tInterval } from 'rldf';

/** One measured case. `ratio` is above 1 where we are better. */
export interface Row {
  case: string;
  ours: number | null;
  peer: number | null;
  peerName: string;
  unit: string;
  ratio: number | null;
  /** Interval of the ratio. */
  ci95?: [low: number, high: number];
  /** Largest difference of the two outputs, relative to the largest value. */
  difference?: number;
  /** Why there are no numbers. */
  skipped?: string;
}

/** Rows beside a peer, or anything else with its own text. */
export type Result = Row[] | { data: unknown; text: string };

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

/**
 * How many times as long the peer took, over repetitions taken in turns: the geometric mean of the pairs' ratios, and
 * Student's 95 % interval of it (of the mean logarithm).
 */
export function speedRatio(ours: readonly number[], peer: readonly number[]): Pick<Row, 'ratio' | 'ci95'> {
  const logs = ours.map((seconds, i) => Math.log((peer[i] as number) / seconds));
  if (logs.length < 2) return { ratio: Math.exp(mean(logs)) };
  const { mean: centre, interval } = tInterval(logs);
  return { ratio: Math.exp(centre), ci95: [Math.exp(interval[0]), Math.exp(interval[1])] };
}

export function table(rows: readonly Row[]): string {
  const digits = (value: number | null) => (value === null ? '-' : value.toPrecision(4));
  const cells = rows.map((row) => [
    row.case,
    digits(row.ours),
    digits(row.peer),
    row.unit,
    row.ratio === null ? '-' : row.ratio.toFixed(3),
    row.ci95 === undefined ? '' : `[${row.ci95.map((end) => end.toFixed(3)).join(', ')}]`,
    row.difference === undefined ? '' : row.difference.toExponential(1),
    row.skipped === undefined ? row.peerName : `skipped: ${row.skipped}`,
  ]);
  const all = [['case', 'ours', 'peer', 'unit', 'ratio', '95 %', 'difference', 'peer is'], ...cells];
  const widths = all[0]?.map((_, i) =>
    Math.max(...all.map((line) => (line[i] as string).length)),
  ) as number[];
  return all
    .map(
      (line) =>
        `${line
          .map((cell, i) => cell.padEnd(widths[i] as number))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}
