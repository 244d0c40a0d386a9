/**
 * A run is a folder that explains itself:
 * `recipe.yaml` (resolved), `environment.json`, `metrics.jsonl`, `samples/`, `checkpoints/step-N/`, `report/`.
 */

import { existsSync, rmSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { linkOnce, listFolder, makeFolder, replaceFile, writeFileDurably } from '@rldf/common/base/files';
import {
  type CheckpointInfo,
  type LoadedCheckpoint,
  type LoadOptions,
  listCheckpoints,
  loadCheckpoint,
  removeLeftovers,
  type SaveOptions,
  saveCheckpoint,
} from '@rldf/common/storage/checkpoint';
import { lockRun, type RunLock } from '@rldf/common/storage/lock';
import { UserError } from '@rldf/torch/errors';
import { stringify } from 'yaml';
import { describeEnvironment } from './environment.js';
import type { RunInputs } from './inputs.js';
import { MetricsWriter, truncateMetrics } from './metrics.js';

/** File systems allow 255 bytes. */
const longestName = 200;

/** The paths of a run and what is done with them. */
export class Run {
  readonly name: string;
  readonly recipePath: string;
  readonly environmentPath: string;
  readonly metricsPath: string;
  readonly samplesFolder: string;
  readonly checkpointsFolder: string;
  readonly reportFolder: string;
  /** Where adapters are exported to. */
  readonly adaptersFolder: string;
  readonly tensorBoardFolder: string;
  /** What the run is made from, and under which licences. */
  readonly licencesPath: string;
  #lock: RunLock | undefined;
  #taken = 0;

  constructor(readonly folder: string) {
    this.name = basename(folder);
    this.recipePath = join(folder, 'recipe.yaml');
    this.environmentPath = join(folder, 'environment.json');
    this.metricsPath = join(folder, 'metrics.jsonl');
    this.samplesFolder = join(folder, 'samples');
    this.checkpointsFolder = join(folder, 'checkpoints');
    this.reportFolder = join(folder, 'report');
    this.adaptersFolder = join(folder, 'adapters');
    this.tensorBoardFolder = join(folder, 'tensorboard');
    this.licencesPath = join(folder, 'licences.json');
  }

  /** @throws UserError when the folder was removed or moved while the run was using it, or another process took it over */
  assertThere(): void {
    if (!existsSync(this.recipePath)) {
      throw new UserError(
        `${this.folder}: the run's folder is gone — it was removed or moved while the run was using it. Move it back and continue with \`rldf resume\`, or train again`,
      );
    }
    this.#lock?.assertHeld();
  }

  /**
   * Takes the folder for this process, which then writes in it, until as many `release` as `take`.
   * @throws UserError when another process has it
   */
  take(): void {
    if (this.#lock === undefined) {
      this.#lock = lockRun(this.folder);
      removeLeftovers(this.checkpointsFolder);
    }
    this.#taken++;
  }

  release(): void {
    if (--this.#taken > 0) return;
    this.#lock?.release();
    this.#lock = undefined;
  }

  checkpoints(): CheckpointInfo[] {
    return listCheckpoints(this.checkpointsFolder);
  }

  saveCheckpoint(
    step: number,
    state: Parameters<typeof saveCheckpoint>[2],
    options?: SaveOptions,
  ): CheckpointInfo {
    return saveCheckpoint(this.checkpointsFolder, step, state, options);
  }

  loadCheckpoint(options?: LoadOptions): LoadedCheckpoint {
    return loadCheckpoint(this.checkpointsFolder, options);
  }

  /** Opens `metrics.jsonl` for appending, cut back first to `step` (what a resumed run has not done yet goes). */
  metrics(step: number): MetricsWriter {
    truncateMetrics(this.metricsPath, step);
    return new MetricsWriter(this.metricsPath);
  }
}

export interface CreateOptions {
  /** Folder of all runs. */
  root?: string;
  /** Name of the run's folder: letters, digits, `.`, `_` and `-`. */
  name: string;
  /** The resolved recipe, as written to `recipe.yaml`. */
  recipe: Record<string, unknown>;
  /** What it reads from outside, kept in `environment.json`. */
  inputs?: RunInputs;
}

/**
 * Makes a new run folder with its recipe and environment.
 * @throws UserError when the name is not usable or the folder already holds a run
 */
export function createRun({ root = 'runs', name, recipe, inputs }: CreateOptions): Run {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name)) {
    throw new UserError(
      `run name "${name}": only letters, digits, ".", "_" and "-", beginning with a letter or digit. Choose another with --name`,
    );
  }
  if (name.length > longestName)
    throw new UserError(
      `run name of ${name.length} letters: at most ${longestName}. Choose a shorter one with --name`,
    );
  const run = new Run(resolve(root, name));
  const taken = () =>
    new UserError(
      `${run.folder}: there is already a run of this name — runs are never overwritten. ` +
        `Continue it with \`rldf resume ${name}\`, choose another name with --name, or remove the folder`,
    );
  if (existsSync(run.recipePath)) throw taken();
  for (const folder of [run.folder, run.samplesFolder, run.checkpointsFolder]) makeFolder(folder);
  const environment = { ...describeEnvironment(), inputs };
  replaceFile(run.environmentPath, `${JSON.stringify(environment, null, 2)}\n`);
  const temporary = `${run.recipePath}.tmp-${process.pid}`;
  try {
    writeFileDurably(temporary, stringify(recipe));
    if (!linkOnce(temporary, run.recipePath)) throw taken(); // by another process, just now
  } finally {
    rmSync(temporary, { force: true });
  }
  return run;
}

/**
 * Opens an existing run by folder or by name below `root`.
 * @throws UserError when there is none; names the runs that are there
 */
export function openRun(pathOrName: string, root = 'runs'): Run {
  for (const folder of [resolve(pathOrName), resolve(root, pathOrName)]) {
    const run = new Run(folder);
    if (existsSync(run.recipePath)) return run;
  }
  const names = listRuns(root).map((run) => run.name);
  throw new UserError(
    `${pathOrName}: no run there — a run is a folder with a recipe.yaml. ${
      names.length > 0
        ? `Runs in ${root}: ${names.join(', ')}`
        : `There are none in ${root} yet; start one with \`rldf train\``
    }`,
  );
}

/** The runs below `root`, the one changed last first. */
export function listRuns(root = 'runs'): Run[] {
  const runs = listFolder(root)
    .map((name) => new Run(resolve(root, name)))
    .filter((run) => existsSync(run.recipePath));
  const changed = (run: Run) =>
    statSync(existsSync(run.metricsPath) ? run.metricsPath : run.recipePath).mtimeMs;
  return runs.sort((a, b) => changed(b) - changed(a));
}
