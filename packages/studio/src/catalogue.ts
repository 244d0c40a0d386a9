/** The list of runs, searches and tables: what lies in the runs folder, read again only where something changed. */

import { createHash } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parse } from 'yaml';
import type { Alarm, RunRow, RunState, RunsAnswer } from './api.js';
import { factsOf, type RunsFolder } from './folder.js';
import { gone, notFound } from './problem.js';
import { SearchReader } from './searches.js';
import { Columns } from './series.js';
import type { Services } from './services.js';
import { TableReader } from './tables.js';
import { Tally } from './tally.js';

/** How deep runs may lie: `reproduce/TABLE/ARM`. */
const deepest = 3;
/** Folders that are part of a run, and hold none. */
const within = new Set([
  'samples',
  'checkpoints',
  'report',
  'adapters',
  'tensorboard',
  'memory',
  'node_modules',
]);
/** Runs whose whole columns are kept in memory. */
const mostColumns = 12;

export interface Recipe {
  text: string;
  value: Record<string, unknown>;
  problem: string | null;
}

interface Entry {
  path: string;
  tally: Tally;
  /** Facts of the files that the row was made from, as text. */
  key: string;
  row: RunRow | undefined;
  recipe: Recipe | undefined;
  recipeKey: string;
}

type Kind = 'run' | 'search' | 'table';

export class Catalogue {
  readonly #entries = new Map<string, Entry>();
  readonly #columns = new Map<string, Columns>();
  readonly searches: SearchReader;
  readonly tables: TableReader;
  #scan: { at: number; found: Promise<Map<string, Kind>> } | undefined;

  /** @param results folders that hold tables besides the runs folder */
  constructor(
    readonly folder: RunsFolder,
    readonly services: Services,
    results: readonly string[] = [],
  ) {
    this.searches = new SearchReader(folder, services);
    this.tables = new TableReader(folder, results);
  }

  async list(): Promise<RunsAnswer> {
    const found = await this.#found();
    const ids = (kind: Kind) => [...found].flatMap(([id, one]) => (one === kind ? [id] : []));
    const runs = await settled(ids('run'), (id) => this.row(id));
    for (const id of this.#entries.keys()) if (!found.has(id)) this.#entries.delete(id);
    const searches = await settled(ids('search'), (id) => this.searches.row(id));
    const tables = await settled(await this.tables.ids(ids('table')), (id) => this.tables.row(id));
    type Dated = { changedAt: number; id: string };
    const newest = (a: Dated, b: Dated) => b.changedAt - a.changedAt || (a.id < b.id ? -1 : 1);
    const answer = { runs: runs.sort(newest), searches: searches.sort(newest), tables: tables.sort(newest) };
    return { ...answer, version: hash(JSON.stringify(answer)) };
  }

  /** One line of the list. @throws Problem when there is no such run, or no more */
  async row(id: string): Promise<RunRow> {
    const entry = await this.#entry(id);
    const { path, tally } = entry;
    const files = ['recipe.yaml', 'metrics.jsonl', 'report/report.json', 'environment.json', 'lock.json'];
    const facts = await Promise.all(files.map((file) => factsOf(join(path, file))));
    if (facts[0] === undefined) {
      this.#entries.delete(id);
      throw gone(`${id}: the run is gone — its folder was removed, moved or renamed`);
    }
    const holder = facts[4] === undefined ? undefined : this.services.holderOf(path);
    const key = JSON.stringify([facts.map((one) => [one?.size, one?.changed, one?.ino]), holder?.pid]);
    if (entry.row !== undefined && entry.key === key) return entry.row;
    await tally.refresh();
    const recipe = await this.recipe(id);
    const state: RunState =
      recipe.problem !== null
        ? 'damaged'
        : holder
          ? 'running'
          : facts[2] === undefined
            ? 'stopped'
            : 'finished';
    const report =
      state === 'finished'
        ? await this.folder.json<{ unit?: unknown }>(join(path, files[2] as string))
        : undefined;
    const environment = await this.folder.json<{ started?: unknown }>(join(path, files[3] as string));
    const started = typeof environment?.started === 'string' ? Date.parse(environment.started) : Number.NaN;
    const steps = recipe.problem === null ? this.services.stepsOf(recipe.value) : null;
    const left = steps === null || tally.pace === null ? null : Math.max(0, steps - tally.step) * tally.pace;
    entry.row = {
      id,
      name: id.split('~').at(-1) as string,
      state,
      problem: recipe.problem,
      method: textAt(recipe.value, 'method'),
      model: textAt(recipe.value, 'model'),
      device: textAt(recipe.value, 'device') || 'cpu',
      seed: numberAt(recipe.value, 'seed'),
      reward: rewardName(recipe.value.reward),
      unit: typeof report?.unit === 'string' ? report.unit : unitOf(recipe.value.reward),
      rewardStart: tally.rewardStart,
      rewardNow: tally.rewardNow,
      rewardBest: tally.best?.value ?? null,
      bestStep: tally.best?.step ?? null,
      trainingReward: tally.trainingReward,
      step: tally.step,
      steps,
      pictures: tally.pictures,
      seconds: tally.seconds,
      etaSeconds: state === 'running' ? left : null,
      startedAt: Number.isFinite(started) ? started : null,
      changedAt: facts[1]?.changed ?? facts[0].changed,
      alarm: await this.#alarm(path, tally),
      spark: [...tally.spark],
      group: groupOf(recipe.value),
    };
    entry.key = key;
    return entry.row;
  }

  async recipe(id: string): Promise<Recipe> {
    const entry = await this.#entry(id);
    const file = join(entry.path, 'recipe.yaml');
    const facts = await factsOf(file);
    const key = `${facts?.size} ${facts?.changed} ${facts?.ino}`;
    if (entry.recipe === undefined || entry.recipeKey !== key) {
      entry.recipe = readRecipe((await this.folder.text(file)) ?? '');
      entry.recipeKey = key;
    }
    return entry.recipe;
  }

  /** The folder of a run that is there. @throws Problem */
  async pathOf(id: string): Promise<string> {
    return (await this.#entry(id)).path;
  }

  /** The run's columns, up to date. */
  async columns(id: string): Promise<Columns> {
    const path = await this.pathOf(id);
    const columns = this.#columns.get(id) ?? new Columns(this.folder, join(path, 'metrics.jsonl'));
    this.#columns.delete(id);
    this.#columns.set(id, columns); // the newest last
    for (const oldest of this.#columns.keys()) {
      if (this.#columns.size <= mostColumns) break;
      this.#columns.delete(oldest);
    }
    await columns.refresh();
    return columns;
  }

  /** Forget where folders are, after one was made. */
  changed(): void {
    this.#scan = undefined;
  }

  async #entry(id: string): Promise<Entry> {
    const path = this.folder.pathOfId(id);
    const known = this.#entries.get(id);
    if (known !== undefined) return known;
    if ((await factsOf(join(path, 'recipe.yaml'))) === undefined)
      throw notFound(`${id}: no such run — it may have been removed`);
    await this.folder.inside(path);
    const tally = new Tally(this.folder, join(path, 'metrics.jsonl'));
    const entry: Entry = { path, tally, key: '', row: undefined, recipe: undefined, recipeKey: '' };
    this.#entries.set(id, entry);
    return entry;
  }

  async #alarm(path: string, { alarm }: Tally): Promise<Alarm | null> {
    if (alarm === null) return null;
    const kept = await checkpointSteps(path);
    return {
      step: alarm.step,
      lastCleanStep: alarm.lastCleanStep,
      cleanCheckpoint: kept.filter((step) => step <= alarm.lastCleanStep).at(-1) ?? null,
      symptoms: alarm.symptoms.map(({ name, rose }) => ({
        name,
        meaning: this.services.symptom(name, rose),
      })),
    };
  }

  /** What lies in the runs folder, looked up at most once a second. */
  #found(): Promise<Map<string, Kind>> {
    if (this.#scan === undefined || Date.now() - this.#scan.at > 1000)
      this.#scan = { at: Date.now(), found: this.#search() };
    return this.#scan.found;
  }

  async #search(): Promise<Map<string, Kind>> {
    const found = new Map<string, Kind>();
    const visit = async (path: string, depth: number): Promise<void> => {
      const entries = await readdir(path, { withFileTypes: true }).catch(() => []);
      await Promise.all(
        entries.map(async (entry) => {
          if (
            !entry.isDirectory() ||
            !/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(entry.name) ||
            within.has(entry.name)
          )
            return;
          const child = join(path, entry.name);
          const has = async (file: string) => (await factsOf(join(child, file))) !== undefined;
          const id = this.folder.idOf(child);
          if (await has('recipe.yaml')) found.set(id, 'run');
          else if ((await has('agent.json')) || (await has('search.json'))) found.set(id, 'search');
          else {
            if (await has('results')) found.set(id, 'table');
            if (depth < deepest) await visit(child, depth + 1);
          }
        }),
      );
    };
    await visit(this.folder.path, 1);
    return found;
  }
}

/** Steps of the kept checkpoints, ascending. */
export async function checkpointSteps(path: string): Promise<number[]> {
  const names = await readdir(join(path, 'checkpoints')).catch(() => []);
  return names
    .flatMap((name) => (/^step-\d+$/.test(name) ? [Number(name.slice(5))] : []))
    .sort((a, b) => a - b);
}

export function readRecipe(text: string): Recipe {
  try {
    const value: unknown = parse(text);
    if (value !== null && typeof value === 'object' && !Array.isArray(value))
      return { text, value: value as Record<string, unknown>, problem: null };
    return { text, value: {}, problem: 'recipe.yaml is empty or no mapping' };
  } catch (error) {
    return { text, value: {}, problem: `recipe.yaml: ${(error as Error).message.split('\n')[0]}` };
  }
}

/** "jpeg-compressibility", or the parts of a weighted sum. */
export function rewardName(reward: unknown): string {
  if (typeof reward === 'string') return reward;
  if (Array.isArray(reward)) return reward.map((part) => rewardName(part)).join(' + ');
  if (reward === null || typeof reward !== 'object') return '';
  const fields = reward as Record<string, unknown>;
  if (typeof fields.name === 'string') return fields.name;
  if (Array.isArray(fields.sum)) return rewardName(fields.sum);
  if (fields.reward !== undefined) return rewardName(fields.reward);
  const [kind, value] = Object.entries(fields)[0] ?? [];
  if (kind === 'module' && typeof value === 'string')
    return (value.split(/[/\\]/).at(-1) as string).replace(/\.[^.]*$/, '');
  return kind ?? '';
}

/** JPEG size is the one built-in reward with a unit that can be told before the report. */
const unitOf = (reward: unknown) => (typeof reward === 'string' && reward.startsWith('jpeg-') ? 'kB' : '');

/** Recipes that differ in nothing but seed and name. */
function groupOf({ seed: _seed, name: _name, ...rest }: Record<string, unknown>): string {
  return hash(JSON.stringify(rest));
}

const hash = (text: string) => createHash('sha256').update(text).digest('base64url').slice(0, 12);

function textAt(value: Record<string, unknown>, key: string): string {
  const found = value[key];
  return typeof found === 'string'
    ? found
    : found === undefined || found === null
      ? ''
      : JSON.stringify(found);
}

function numberAt(value: Record<string, unknown>, key: string): number | null {
  const found = value[key];
  return typeof found === 'number' && Number.isFinite(found) ? found : null;
}

/** What could be read; a folder that vanished meanwhile is left out. A few at a time. */
async function settled<T>(ids: readonly string[], read: (id: string) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (let start = 0; start < ids.length; start += 16) {
    const part = await Promise.allSettled(ids.slice(start, start + 16).map(read));
    for (const one of part) if (one.status === 'fulfilled') results.push(one.value);
  }
  return results;
}
