/**
 * `metrics.jsonl`: one JSON object a line, each with the `step` it belongs to. The file may be tailed while it grows
 * and survives a crash: a torn last line is dropped, and resuming cuts it back to the checkpoint's step.
 *
 * Names have a namespace (`reward/mean`, `loss/ratio`). Those under `time/` and `memory/` differ between two runs of
 * the same recipe; everything else must not.
 */

import { closeSync } from 'node:fs';
import { append, openForAppend, readTextIfThere, replaceFile } from '@rldf/common/base/files';

export type MetricValue = number | string | boolean | null | MetricValue[];
export interface MetricsRow {
  /** Unit of work the row belongs to; never decreases down the file. */
  step: number;
  [name: string]: MetricValue;
}

/** Appends rows; each is with the operating system when `write` returns. */
export class MetricsWriter {
  #descriptor: number | undefined;

  constructor(readonly path: string) {
    this.#descriptor = openForAppend(path);
  }

  write(row: MetricsRow): void {
    if (this.#descriptor === undefined) return;
    append(this.#descriptor, this.path, `${JSON.stringify(row, spellOutNonFinite)}\n`);
  }

  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }
}

/** Reads all whole rows; lines that are not JSON objects with a step (a torn last line) are left out. */
export function readMetrics(path: string): MetricsRow[] {
  const rows: MetricsRow[] = [];
  for (const line of (readTextIfThere(path) ?? '').split('\n')) {
    const row = parseRow(line);
    if (row !== undefined) rows.push(row);
  }
  return rows;
}

/** Drops every row after `step` and a torn last line; lines that stay keep their bytes. */
export function truncateMetrics(path: string, step: number): void {
  const text = readTextIfThere(path);
  if (text === undefined) return;
  const kept = text.split('\n').filter((line) => {
    const row = parseRow(line);
    return row !== undefined && row.step <= step;
  });
  replaceFile(path, kept.map((line) => `${line}\n`).join(''));
}

/** A row without what may differ between two equal runs: time and memory. */
export function comparableRow(row: MetricsRow): MetricsRow {
  const entries = Object.entries(row).filter(([name]) => !/^(time|memory)\//.test(name));
  return Object.fromEntries(entries) as MetricsRow;
}

function parseRow(line: string): MetricsRow | undefined {
  if (line === '') return undefined;
  try {
    const row: unknown = JSON.parse(line);
    return row !== null && typeof row === 'object' && typeof (row as MetricsRow).step === 'number'
      ? (row as MetricsRow)
      : undefined;
  } catch {
    return undefined;
  }
}

/** JSON knows no NaN: without this it would silently become null. */
function spellOutNonFinite(_key: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isFinite(value) ? `${value}` : value;
}
