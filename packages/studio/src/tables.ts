/** Tables of `rldf reproduce`: NAME.json beside NAME.md, and a folder NAME with one small file a finished (arm, seed). */

import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Estimate, TableDetail, TableRow } from './api.js';
import type { RunsFolder } from './folder.js';
import { notFound } from './problem.js';

/** What of NAME.json is read. Tables of searches have other numbers; they are shown as their page. */
interface Numbers {
  table: string;
  question: string;
  paper: string;
  protocol: string;
  arms: Record<string, Record<string, Estimate>>;
  againstReference?: Record<string, Record<string, Estimate>>;
  cost?: Record<string, { pictures: number; unetForwards: number; seconds: number; cpuHours: number }>;
  fused?: Record<string, string[]>;
  missing?: string[];
}

interface ArmResult {
  arm: string;
  seed: number;
  curve: { pictures: number; validation: number | null }[];
}

export class TableReader {
  /** Folder and name of each table by id. */
  #places = new Map<string, { folder: string; name: string }>();

  /** @param results folders besides the runs folder that hold tables; given by the user, read as they are */
  constructor(
    readonly folder: RunsFolder,
    readonly results: readonly string[],
  ) {}

  /** @param inRuns ids of folders that have `results` in them, as smoke runs do */
  async ids(inRuns: readonly string[]): Promise<string[]> {
    const places = new Map<string, { folder: string; name: string }>();
    const folders = [
      ...inRuns.map((id) => ({ id, path: join(this.folder.pathOfId(id), 'results') })),
      ...this.results.map((path) => ({ id: '', path })),
    ];
    for (const { id, path } of folders) {
      for (const file of await readdir(path).catch(() => [])) {
        const name = /^([A-Za-z0-9][A-Za-z0-9._-]*)\.json$/.exec(file)?.[1];
        if (name === undefined || (await numbersOf(join(path, file))) === undefined) continue;
        const own = id === '' ? name : `${id}~${name}`;
        places.set(own, { folder: path, name });
      }
    }
    this.#places = places;
    return [...places.keys()];
  }

  async row(id: string): Promise<TableRow> {
    const { numbers, changedAt } = await this.#read(id);
    return rowOf(id, numbers, changedAt);
  }

  async detail(id: string): Promise<TableDetail> {
    const { numbers, changedAt, folder, name } = await this.#read(id);
    const markdown = await readFile(join(folder, `${name}.md`), 'utf8').catch(() => '');
    const scores = [...new Set(Object.values(numbers.arms).flatMap((row) => Object.keys(row)))];
    const curves: TableDetail['curves'] = [];
    for (const file of (await readdir(join(folder, name)).catch(() => [])).sort()) {
      if (!file.endsWith('.json')) continue;
      const armResult = await readJson<ArmResult>(join(folder, name, file));
      if (armResult?.curve === undefined) continue;
      const points = armResult.curve.flatMap(({ pictures, validation }) =>
        validation === null ? [] : [{ pictures, reward: validation }],
      );
      if (points.length > 0) curves.push({ arm: armResult.arm, seed: armResult.seed, points });
    }
    return {
      ...rowOf(id, numbers, changedAt),
      paper: numbers.paper,
      protocol: numbers.protocol,
      scores: isTrained(numbers) ? scores : [],
      rows: !isTrained(numbers)
        ? []
        : Object.entries(numbers.arms).map(([arm, change]) => ({
            arm,
            seeds: Object.values(change)[0]?.seeds ?? 0,
            change,
            againstReference: numbers.againstReference?.[arm] ?? null,
            cost: numbers.cost?.[arm] ?? null,
            sumOf: numbers.fused?.[arm] ?? [],
          })),
      curves,
      missing: numbers.missing ?? [],
      markdown,
    };
  }

  async #read(id: string) {
    if (!this.#places.has(id)) throw notFound(`${id}: no such table — it may have been removed`);
    const { folder, name } = this.#places.get(id) as { folder: string; name: string };
    const numbers = await numbersOf(join(folder, `${name}.json`));
    if (numbers === undefined) throw notFound(`${id}: its numbers are gone`);
    const { mtimeMs } = await stat(join(folder, `${name}.json`));
    return { numbers, changedAt: mtimeMs, folder, name };
  }
}

/** Whether the arms are estimates by score, as in tables of trainings. */
function isTrained({ arms }: Numbers): boolean {
  return Object.values(arms).every((row) =>
    Object.values(row).every((one) => typeof one?.mean === 'number' && 'seeds' in one),
  );
}

function rowOf(id: string, numbers: Numbers, changedAt: number): TableRow {
  const seeds = isTrained(numbers)
    ? Object.values(numbers.arms).reduce((sum, row) => sum + (Object.values(row)[0]?.seeds ?? 0), 0)
    : Object.keys(numbers.arms).length;
  const missing = numbers.missing?.length ?? 0;
  return {
    id,
    name: numbers.table,
    question: numbers.question,
    arms: Object.keys(numbers.arms).length,
    done: seeds,
    wanted: seeds + missing,
    changedAt,
  };
}

async function numbersOf(path: string): Promise<Numbers | undefined> {
  const found = await readJson<Partial<Numbers>>(path);
  const good =
    typeof found?.table === 'string' &&
    typeof found.question === 'string' &&
    found.arms !== null &&
    typeof found.arms === 'object';
  return good ? (found as Numbers) : undefined;
}

async function readJson<T>(path: string): Promise<T | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as T;
  } catch {
    return undefined;
  }
}
