/**
 * Checkpoints of a run: `checkpoints/step-N/` with a whole state tree. Each is written under a hidden name, flushed and
 * renamed, so that what is called `step-N` is complete; one with a NaN in it is refused and the last good one stays.
 */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { StateTree } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import {
  fileOperation,
  listFolder,
  makeFolder,
  readTextIfThere,
  remove,
  renameDurably,
  writeFileDurably,
} from '../base/files.js';
import {
  checkSameTensors,
  firstNonFinite,
  readStateTree,
  tensorFile,
  treeFile,
  writeStateTree,
} from './state-tree.js';

const formatVersion = 1;
const infoFile = 'checkpoint.json';

export interface CheckpointInfo {
  /** Units of work done when it was written (for DDPO: epochs), from 0. */
  step: number;
  /** Validation score, higher is better; null when none was measured. */
  score: number | null;
  path: string;
}

export interface SaveOptions {
  /** How many of the newest to keep, at least 1. The best by score is kept besides. */
  keep?: number;
  /** Validation score of this state, higher is better. */
  score?: number | null;
}

export interface LoadOptions {
  /** Which step; the newest when left out. */
  step?: number;
  /** Go on to older checkpoints when the newest is damaged. Off unless the user asked for it. */
  fallback?: boolean;
  /** A state of the same run's shape: the checkpoint must have all of its tensors with equal shapes and dtypes. */
  like?: StateTree;
}

export interface LoadedCheckpoint extends CheckpointInfo {
  /** Tensors belong to the caller. */
  state: StateTree;
  /** One message for each newer checkpoint that was passed over (`fallback` only). */
  skipped: string[];
}

/**
 * Writes `step-N` and removes those that retention no longer keeps.
 * @throws UserError when the state holds a NaN or an infinity, or the disk is full; earlier checkpoints stay as they are
 */
export function saveCheckpoint(
  folder: string,
  step: number,
  state: StateTree,
  { keep = 2, score = null }: SaveOptions = {},
): CheckpointInfo {
  const bad = firstNonFinite(state);
  if (bad !== undefined) {
    const last = listCheckpoints(folder).at(-1);
    throw new UserError(
      `checkpoint of step ${step}: ${bad} holds a NaN or an infinity — such a state is never saved. ` +
        `${last ? `The last good one is ${last.path}. ` : ''}` +
        'Start a new run with a lower train.learningRate or train.maxGradNorm',
    );
  }
  makeFolder(folder);
  const path = join(folder, `step-${step}`);
  const temporary = join(folder, `.writing-step-${step}`);
  remove(temporary);
  try {
    makeFolder(temporary);
    writeStateTree(temporary, state);
    const files = Object.fromEntries(
      [tensorFile, treeFile].map((name) => {
        const path = join(temporary, name);
        return [name, fileOperation('read', path, () => digest(path))];
      }),
    );
    const info = { formatVersion, step, score, files };
    writeFileDurably(join(temporary, infoFile), `${JSON.stringify(info, null, 1)}\n`);
  } catch (error) {
    tidy(temporary);
    throw error;
  }
  setAside(path);
  renameDurably(temporary, path);
  pruneCheckpoints(folder, keep);
  return { step, score, path };
}

/** The finished checkpoints of a folder, oldest first. */
export function listCheckpoints(folder: string): CheckpointInfo[] {
  const found: CheckpointInfo[] = [];
  for (const name of listFolder(folder)) {
    const step = /^step-(\d+)$/.exec(name)?.[1];
    if (step === undefined) continue;
    const path = join(folder, name);
    found.push({ step: Number(step), score: readScore(path), path });
  }
  return found.sort((a, b) => a.step - b.step);
}

/**
 * Removes half-written and half-removed checkpoints; call it when a run is opened for writing. A kill between the two
 * renames that replace a checkpoint of the same step leaves both under hidden names: the new, complete one is kept.
 */
export function removeLeftovers(folder: string): void {
  const names = listFolder(folder);
  for (const name of names) {
    const step = /^\.removing-step-(\d+)$/.exec(name)?.[1];
    const replacement = join(folder, `.writing-step-${step}`);
    if (step !== undefined && !names.includes(`step-${step}`) && listFolder(replacement).includes(infoFile)) {
      renameDurably(replacement, join(folder, `step-${step}`));
    }
  }
  for (const name of listFolder(folder)) {
    if (name.startsWith('.writing-') || name.startsWith('.removing-')) remove(join(folder, name));
  }
}

/** The checkpoint with the highest validation score; the newest of those with no score at all. */
export function bestCheckpoint(folder: string): CheckpointInfo | undefined {
  const all = listCheckpoints(folder);
  return bestOf(all) ?? all.at(-1);
}

/**
 * Reads a checkpoint and checks it: complete, unchanged since it was written, finite, and of the right shapes.
 * @throws UserError naming what is wrong; with `fallback` only when no good one is left
 */
export function loadCheckpoint(
  folder: string,
  { step, fallback = false, like }: LoadOptions = {},
): LoadedCheckpoint {
  const all = listCheckpoints(folder);
  const candidates = (step === undefined ? all : all.filter((info) => info.step <= step)).reverse();
  const first = candidates[0];
  if (first === undefined || (step !== undefined && first.step !== step)) {
    const steps = all.map((info) => info.step).join(', ');
    throw new UserError(
      `${folder}: no checkpoint${step === undefined ? '' : ` of step ${step}`} — ${
        steps === ''
          ? 'nothing was saved here yet. Start with `rldf train`'
          : `there are those of step ${steps}`
      }`,
    );
  }
  const skipped: string[] = [];
  for (const info of fallback ? candidates : [first]) {
    try {
      return { ...info, state: readChecked(info.path, like), skipped };
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      if (!fallback)
        throw new UserError(`${error.message}${adviceAfter(info, candidates)}`, { cause: error });
      skipped.push(error.message);
    }
  }
  throw new UserError(`${folder}: no readable checkpoint is left —\n  ${skipped.join('\n  ')}`);
}

function readChecked(path: string, like: StateTree | undefined): StateTree {
  const infoPath = join(path, infoFile);
  const text = readTextIfThere(infoPath);
  if (text === undefined) throw new UserError(`${infoPath}: missing — the checkpoint is incomplete`);
  let info: { formatVersion?: number; files?: Record<string, { bytes: number; sha256: string }> };
  try {
    info = JSON.parse(text);
  } catch {
    throw new UserError(`${infoPath}: not readable as JSON — it is cut off or damaged`);
  }
  if (info.formatVersion !== formatVersion) {
    throw new UserError(
      `${infoPath}: format version ${info.formatVersion} — this version of rldf reads version ${formatVersion}`,
    );
  }
  for (const [name, expected] of Object.entries(info.files ?? {})) {
    const found = digestIfThere(join(path, name));
    if (found === undefined)
      throw new UserError(`${join(path, name)}: missing — the checkpoint is incomplete`);
    if (found.bytes !== expected.bytes) {
      throw new UserError(
        `${join(path, name)}: ${found.bytes} bytes, expected ${expected.bytes} — the file is cut off or damaged`,
      );
    }
    if (found.sha256 !== expected.sha256) {
      throw new UserError(
        `${join(path, name)}: its content changed since it was written — the file is damaged`,
      );
    }
  }
  const state = readStateTree(path);
  const bad = firstNonFinite(state);
  if (bad !== undefined)
    throw new UserError(`${path}: ${bad} holds a NaN or an infinity — it cannot be continued`);
  if (like !== undefined) checkSameTensors(path, state, like);
  return state;
}

function adviceAfter(damaged: CheckpointInfo, candidates: CheckpointInfo[]): string {
  const older = candidates.find((info) => info.step < damaged.step);
  return older === undefined
    ? '. There is no older checkpoint; start again with `rldf train`'
    : `. Continue from step ${older.step} instead with \`rldf resume --fallback\``;
}

/** Removes those that retention no longer keeps, and leftovers. A kill behind a saving leaves one too many. */
export function pruneCheckpoints(folder: string, keep: number): void {
  const all = listCheckpoints(folder);
  const best = bestOf(all);
  for (const info of all.slice(0, Math.max(0, all.length - Math.max(1, keep)))) {
    if (info.step !== best?.step) setAside(info.path);
  }
  removeLeftovers(folder);
}

/** The earliest of the highest scores. */
function bestOf(all: CheckpointInfo[]): CheckpointInfo | undefined {
  let best: CheckpointInfo | undefined;
  for (const info of all) {
    if (info.score !== null && (best === undefined || info.score > best.score!)) best = info;
  }
  return best;
}

/** Gives a checkpoint a hidden name first, so that a kill while it is removed leaves no half `step-N`. */
function setAside(path: string): void {
  if (listFolder(path).length === 0) return;
  const hidden = path.replace(/step-(\d+)$/, `.removing-step-$1`);
  remove(hidden);
  renameDurably(path, hidden);
}

function tidy(path: string): void {
  try {
    remove(path);
  } catch {
    // The first error is the one to report.
  }
}

function readScore(path: string): number | null {
  try {
    const score: unknown = JSON.parse(readTextIfThere(join(path, infoFile)) ?? 'null')?.score;
    return typeof score === 'number' ? score : null;
  } catch {
    return null;
  }
}

function digest(path: string): { bytes: number; sha256: string } {
  const data = readFileSync(path);
  return { bytes: data.length, sha256: createHash('sha256').update(data).digest('hex') };
}

function digestIfThere(path: string): { bytes: number; sha256: string } | undefined {
  try {
    return digest(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
