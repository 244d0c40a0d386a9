/** The numbers of a metrics file as columns, and as few points of them as a page can draw. */

import type { MetricsAnswer, Series } from './api.js';
import type { RunsFolder } from './folder.js';
import { Follower, parseRow } from './lines.js';

interface Column {
  steps: number[];
  values: number[];
}

/** The columns of one metrics.jsonl, read on from where the last look ended. */
export class Columns {
  readonly #follower: Follower;
  #columns = new Map<string, Column>();
  #rows = 0;
  #badLines = 0;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(folder: RunsFolder, path: string) {
    this.#follower = new Follower(folder, path);
  }

  /** Reads what is new; one at a time. */
  refresh(): Promise<void> {
    const next = this.#turn.then(async () => {
      await this.#follower.read(
        (lines) => this.#take(lines),
        () => this.#forget(),
      );
    });
    this.#turn = next.catch(() => {});
    return next;
  }

  names(): string[] {
    return [...this.#columns.keys()];
  }

  get offset(): number {
    return this.#follower.offset;
  }

  column(name: string): Readonly<Column> | undefined {
    return this.#columns.get(name);
  }

  answer(names: readonly string[] | undefined, points: number, from: number): MetricsAnswer {
    const series: MetricsAnswer['series'] = {};
    for (const name of names ?? this.names()) {
      const column = this.#columns.get(name);
      if (column !== undefined) series[name] = thinned(column, points, from);
    }
    return { series, offset: this.offset, rows: this.#rows, badLines: this.#badLines };
  }

  #take(lines: readonly string[]): void {
    for (const line of lines) {
      const row = parseRow(line);
      if (row === undefined) {
        if (line !== '') this.#badLines++;
        continue;
      }
      this.#rows++;
      for (const [name, value] of Object.entries(row)) {
        if (name === 'step') continue;
        const number = numberOf(value);
        if (number !== undefined) add(this.#columnNamed(name), row.step, number);
      }
    }
  }

  #columnNamed(name: string): Column {
    let column = this.#columns.get(name);
    if (column === undefined) {
      column = { steps: [], values: [] };
      this.#columns.set(name, column);
    }
    return column;
  }

  #forget(): void {
    this.#columns = new Map();
    this.#rows = 0;
    this.#badLines = 0;
  }
}

/** A step that stands there twice counts as it was written last. */
function add({ steps, values }: Column, step: number, value: number): void {
  const last = steps.length - 1;
  if (last >= 0 && (steps[last] as number) >= step) {
    const at = steps.lastIndexOf(step);
    if (at >= 0) values[at] = value;
    return;
  }
  steps.push(step);
  values.push(value);
}

/** Numbers, also those that JSON has no word for; undefined for all else. */
export function numberOf(value: unknown): number | undefined {
  if (typeof value === 'number') return value;
  if (value === 'NaN' || value === 'Infinity' || value === '-Infinity') return Number(value);
  return undefined;
}

const finite = (value: number) => (Number.isFinite(value) ? value : null);

/**
 * At most `points` points from step `from` on: buckets of equally many rows, each with its mean, least and greatest. What is not
 * finite counts in none of them; a bucket of nothing else is null.
 */
export function thinned({ steps, values }: Readonly<Column>, points: number, from = 0): Series {
  let begin = 0;
  if (from > 0) while (begin < steps.length && (steps[begin] as number) < from) begin++;
  const rows = steps.length - begin;
  if (rows <= points) {
    return { steps: steps.slice(begin), values: values.slice(begin).map(finite), rows };
  }
  const series = {
    steps: [] as number[],
    values: [] as (number | null)[],
    low: [] as (number | null)[],
    high: [] as (number | null)[],
    rows,
  };
  for (let bucket = 0; bucket < points; bucket++) {
    const first = begin + Math.floor((bucket * rows) / points);
    const end = begin + Math.floor(((bucket + 1) * rows) / points);
    let count = 0;
    let sum = 0;
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (let row = first; row < end; row++) {
      const value = values[row] as number;
      if (!Number.isFinite(value)) continue;
      count++;
      sum += value;
      if (value < low) low = value;
      if (value > high) high = value;
    }
    series.steps.push(steps[end - 1] as number);
    series.values.push(count === 0 ? null : sum / count);
    series.low.push(count === 0 ? null : low);
    series.high.push(count === 0 ? null : high);
  }
  return series;
}
