/**
 * Metrics for the trackers that people have. `metrics.jsonl` is the truth; a tracker that fails is told of once and never ends a
 * training.
 *
 * - `tensorboard`: event files with scalars and validation pictures.
 * - `wandb`: `wandb/wandb-history.jsonl`, `config.json` and `wandb-summary.json` in W&B's names. Where its npm package `@wandb/sdk` is
 *   installed and `WANDB_MODE` is not `offline`, also to its server. That package (0.5.1) keeps nothing when it is offline,
 *   and knows no pictures; `wandb sync` of W&B's Python package uploads the TensorBoard files.
 * - `trackio`: `trackio.jsonl`. Where `TRACKIO_SERVER_URL` names a server, also there, by the request of its own clients. There is no
 *   npm package of it.
 */

import { closeSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseYaml } from '@rldf/common/base/exact';
import { append, makeFolder, openForAppend, readTextIfThere, replaceFile } from '@rldf/common/base/files';
import type { Picture } from '@rldf/common/base/picture';
import { UserError } from '@rldf/torch/errors';
import type { trackerNames } from '../config/fields.js';
import type { Run } from './run.js';
import { TensorBoardWriter } from './tensorboard.js';

export type TrackerName = (typeof trackerNames)[number];
type Values = Record<string, unknown>;

/** One of them. */
interface Tracker {
  write(step: number, values: Values): void;
  writePictures?(
    step: number,
    files: readonly Buffer[],
    pictures: readonly Picture[],
    prompts: readonly string[],
  ): void;
  /** Sends what is left. */
  close(): void | Promise<void>;
}

/** All of a run's. */
export interface Trackers extends Required<Tracker> {
  /** What went wrong since it was looked at last. */
  readonly notices: string[];
}

/** Rows that are sent to a server at once, and how long it is waited for. */
const batch = 20;
const patienceMs = 10_000;

/** @param step what a resumed run has not done yet goes; -1: all */
export async function openTrackers(names: readonly TrackerName[], run: Run, step: number): Promise<Trackers> {
  const notices: string[] = [];
  const told = new Set<string>();
  const tell = (name: string, error: unknown) => {
    if (told.has(name)) return;
    told.add(name);
    notices.push(
      `log: ${name}: ${(error as Error).message} — the training goes on, its metrics are in ${run.metricsPath}`,
    );
  };
  const open: Tracker[] = [];
  for (const name of new Set(names)) {
    if (name === 'tensorboard') open.push(tensorBoard(run));
    if (name === 'wandb') open.push(await wandb(run, step, (error) => tell(name, error)));
    if (name === 'trackio') open.push(trackio(run, step, (error) => tell(name, error)));
  }
  return {
    notices,
    write: (at, values) => {
      for (const tracker of open) tracker.write(at, values);
    },
    writePictures: (...all) => {
      for (const tracker of open) tracker.writePictures?.(...all);
    },
    close: async () => {
      for (const tracker of open) await tracker.close();
    },
  };
}

function tensorBoard(run: Run): Tracker {
  const writer = new TensorBoardWriter(run.tensorBoardFolder);
  return {
    write: (step, values) => writer.write(step, values),
    writePictures: (step, files, pictures, prompts) =>
      writer.writePictures(
        step,
        files.map((png, i) => {
          const { width, height } = pictures[i] as Picture;
          return { tag: `validation/${String(i).padStart(2, '0')} ${prompts[i]}`, width, height, png };
        }),
      ),
    close: () => writer.close(),
  };
}

/** What of the npm package is used. */
interface WandbRun {
  log(values: Values, step: number): void;
  finish(): Promise<void>;
}
type WandbPackage = { default: { init(options: Values): Promise<WandbRun> } };

async function wandb(run: Run, step: number, failed: (error: unknown) => void): Promise<Tracker> {
  const folder = join(run.folder, 'wandb');
  makeFolder(folder);
  const recipe = parseYaml(readFileSync(run.recipePath, 'utf8'));
  const json = (value: unknown) => `${JSON.stringify(value, spelled, 1)}\n`;
  replaceFile(join(folder, 'config.json'), json(recipe));
  const lines = new Lines(join(folder, 'wandb-history.jsonl'), step, '_step');
  const online = isOffline() ? undefined : await wandbRun(run, recipe, failed);
  let summary: Values = {};
  return {
    write(at, values) {
      const row = { ...values, _step: at, _timestamp: Date.now() / 1000 };
      lines.write(row);
      summary = { ...summary, ...row };
      try {
        online?.log(finiteOnly(values), at);
      } catch (error) {
        failed(error);
      }
    },
    async close() {
      lines.close();
      replaceFile(join(folder, 'wandb-summary.json'), json(summary));
      if (online !== undefined) await inTime(online.finish()).catch(failed);
    },
  };
}

/**
 * Whether the trackers can be told, before anything is trained.
 * @throws UserError when W&B's package or key is missing
 */
export async function checkTrackers(names: readonly TrackerName[]): Promise<void> {
  if (!names.includes('wandb') || isOffline()) return;
  if ((process.env.WANDB_API_KEY ?? '') === '')
    throw new UserError(
      'log: wandb: WANDB_API_KEY is not set — Weights & Biases knows you by it. Set it, or WANDB_MODE=offline to write files only',
    );
  await wandbPackage();
}

const isOffline = () => /^(offline|disabled|dryrun)$/.test(process.env.WANDB_MODE ?? '');

async function wandbPackage(): Promise<WandbPackage> {
  const name = '@wandb/sdk';
  try {
    return (await import(name)) as WandbPackage;
  } catch (error) {
    if (!/(Cannot find|Could not resolve).*@wandb/.test((error as Error).message)) throw error;
    throw new UserError(
      `log: wandb: the package ${name} is not installed — Weights & Biases is reached by it. Install it (\`npm install ${name}\`), or set WANDB_MODE=offline to write files only`,
      { cause: error },
    );
  }
}

/** A run on W&B's server; nothing when it cannot be reached. */
async function wandbRun(
  run: Run,
  config: unknown,
  failed: (error: unknown) => void,
): Promise<WandbRun | undefined> {
  const signals = ['SIGINT', 'SIGTERM', 'beforeExit'] as const;
  const before = signals.map((signal) => process.listeners(signal as 'SIGINT'));
  try {
    const { default: sdk } = await wandbPackage();
    const options = {
      project: process.env.WANDB_PROJECT ?? 'rldf',
      name: run.name,
      config,
      settings: { silent: true },
    };
    return await inTime(sdk.init(options));
  } catch (error) {
    failed(error);
    return undefined;
  } finally {
    // The package ends the process at Ctrl-C, where a training saves.
    signals.forEach((signal, i) => {
      for (const listener of process.listeners(signal as 'SIGINT'))
        if (!before[i]?.includes(listener)) process.off(signal, listener);
    });
  }
}

function trackio(run: Run, step: number, failed: (error: unknown) => void): Tracker {
  const lines = new Lines(join(run.folder, 'trackio.jsonl'), step, 'step');
  const server = process.env.TRACKIO_SERVER_URL;
  const project = process.env.TRACKIO_PROJECT ?? 'rldf';
  let waiting: { metrics: Values; step: number; timestamp: string }[] = [];
  let sending: Promise<void> = Promise.resolve();
  const send = () => {
    if (server === undefined || waiting.length === 0) return;
    const rows = waiting;
    waiting = [];
    sending = sending.then(() => post(server, project, run.name, rows)).catch(failed);
  };
  return {
    write(at, values) {
      const row = { step: at, timestamp: new Date().toISOString(), metrics: values };
      lines.write({ project, run: run.name, ...row });
      waiting.push({ ...row, metrics: finiteOnly(values) });
      if (waiting.length >= batch) send();
    },
    async close() {
      lines.close();
      send();
      await sending;
    },
  };
}

async function post(
  server: string,
  project: string,
  run: string,
  rows: readonly { metrics: Values; step: number; timestamp: string }[],
): Promise<void> {
  const token = process.env.TRACKIO_WRITE_TOKEN;
  const response = await fetch(`${server.replace(/\/+$/, '')}/api/bulk_log`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      ...(token === undefined ? {} : { 'x-trackio-write-token': token }),
    },
    body: JSON.stringify({
      project,
      run,
      metrics_list: rows.map(({ metrics }) => metrics),
      steps: rows.map(({ step }) => step),
      timestamps: rows.map(({ timestamp }) => timestamp),
    }),
    signal: AbortSignal.timeout(patienceMs),
  });
  if (!response.ok) throw new UserError(`${server} answers ${response.status}`);
}

/** A file of JSON lines that a resumed run cuts back first. */
class Lines {
  readonly #descriptor: number;

  constructor(
    readonly path: string,
    step: number,
    stepName: string,
  ) {
    const kept = (readTextIfThere(path) ?? '').split('\n').filter((line) => {
      try {
        return Number((JSON.parse(line) as Values)[stepName]) <= step;
      } catch {
        return false;
      }
    });
    replaceFile(path, kept.map((line) => `${line}\n`).join(''));
    this.#descriptor = openForAppend(path);
  }

  write(row: Values): void {
    append(this.#descriptor, this.path, `${JSON.stringify(row, spelled)}\n`);
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}

const inTime = <T>(promise: Promise<T>): Promise<T> =>
  Promise.race([
    promise,
    new Promise<never>((_, reject) => {
      setTimeout(() => reject(new UserError(`no answer within ${patienceMs / 1000} s`)), patienceMs).unref();
    }),
  ]);

const finiteOnly = (values: Values): Values =>
  Object.fromEntries(
    Object.entries(values).filter(([, value]) => typeof value === 'number' && Number.isFinite(value)),
  );

/** JSON knows no NaN and no BigInt. */
function spelled(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return `${value}`;
  return typeof value === 'number' && !Number.isFinite(value) ? `${value}` : value;
}
