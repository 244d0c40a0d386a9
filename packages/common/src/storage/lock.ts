/**
 * One process a run folder. `lock.json` says who: made whole and then linked, which is atomic on network file systems too. A
 * killed process leaves it behind, so it counts only while its process lives. That is looked up where processes can be seen; for
 * another machine's or container's, the holder rewrites the file every few seconds, and silence means that it has ended.
 */

import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, readlinkSync, rmSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { UserError } from '@rldf/torch/errors';
import { fileOperation, linkOnce, readTextIfThere, writeFileDurably } from '../base/files.js';

export const lockName = 'lock.json';
/** A holder that cannot be seen has ended when it was silent for so long. */
export const silenceMs = 120_000;
const signOfLifeMs = 10_000;
/** Nobody needs longer to remove the lock of a dead process. */
const removalMs = 30_000;

export interface Holder {
  id: string;
  host: string;
  pid: number;
  /** When the process started, in clock ticks since boot: tells it from a later one of the same number. */
  started: string | null;
  /** The kernel's: a machine that was started again is another. */
  boot: string | null;
  /** Process numbers mean something within one namespace (container) only. */
  namespace: string | null;
  since: string;
}

export interface RunLock {
  /** @throws UserError when another process has taken the run over, as after a long sleep of this machine */
  assertHeld(): void;
  release(): void;
}

/** Ids of the locks that this process holds. */
const held = new Set<string>();

/**
 * Takes a run folder for this process.
 * @throws UserError naming the process that has it
 */
export function lockRun(folder: string, self: Holder = describeSelf()): RunLock {
  const path = join(folder, lockName);
  const text = `${JSON.stringify(self)}\n`;
  const temporary = `${path}.${self.id}`;
  try {
    writeFileDurably(temporary, text);
    while (!linkOnce(temporary, path)) {
      const found = readTextIfThere(path);
      if (found === undefined) continue; // released meanwhile
      const holder = holderOf(found);
      const silent = statSync(temporary).mtimeMs - mtimeOf(path); // both by the clock of the file system
      if (isAlive(holder, self, silent)) throw new UserError(refusal(folder, holder, self, silent));
      removeDead(path, found);
    }
  } finally {
    rmSync(temporary, { force: true });
  }
  held.add(self.id);
  const stop = giveSignsOfLife(path, text);
  return {
    assertHeld() {
      const found = readTextIfThere(path);
      if (found === undefined || found === text) return;
      throw new UserError(
        `${folder}: another process has taken the run over — this one gave no sign of life for ${silenceMs / 1000} s, as in a machine's sleep. What it did since the last checkpoint is not kept; let the other go on`,
      );
    },
    release() {
      stop();
      if (!held.delete(self.id)) return;
      try {
        if (readTextIfThere(path) === text)
          fileOperation('remove', path, () => rmSync(path, { force: true }));
        rmSync(join(folder, 'stop-asked.json'), { force: true });
      } catch {
        // The disk is gone. What is left is known to be dead: by the process, or because this one holds it no more.
      }
    },
  };
}

/** Who works in a folder now, and whether it runs on this machine, where it can be seen and signalled; looks only. */
export function holderOfFolder(folder: string): { holder: Holder; here: boolean } | undefined {
  const path = join(folder, lockName);
  const holder = holderOf(tryTo(() => readTextIfThere(path)) ?? '');
  if (holder === undefined) return undefined;
  const self = describeSelf();
  if (!isAlive(holder, self, Date.now() - mtimeOf(path))) return undefined;
  return { holder, here: isSeen(holder, self) };
}

/**
 * Asks the process that works in a folder to save and end, as Ctrl-C does: that very process, told from a later one of its number by
 * host, boot, container and start. Once only, since a second signal would end it at once.
 * @returns its number
 * @throws UserError when nobody works there, or it cannot be told or reached from here
 */
export function askToStop(folder: string): number {
  const found = holderOfFolder(folder);
  if (found === undefined)
    throw new UserError(
      `${folder}: no process works here — it has ended already. Reload, or go on with \`rldf resume\``,
    );
  const { holder, here } = found;
  const by = `process ${holder.pid} on ${holder.host}`;
  if (!here)
    throw new UserError(
      `${folder}: ${by} works here, which cannot be seen from this machine or container — it is signalled where it runs. Use \`kill -INT ${holder.pid}\` there`,
    );
  if (holder.pid === process.pid || holder.started === null || startOf(holder.pid) !== holder.started)
    throw new UserError(
      `${folder}: ${by} cannot be told from another process of its number — a wrong one must not be ended. Use Ctrl-C where it runs`,
    );
  const asked = join(folder, 'stop-asked.json');
  if (tryTo(() => (JSON.parse(readFileSync(asked, 'utf8')) as { id?: unknown }).id) === holder.id)
    return holder.pid;
  writeFileDurably(asked, `${JSON.stringify({ id: holder.id, at: new Date().toISOString() })}\n`);
  process.kill(holder.pid, 'SIGINT');
  return holder.pid;
}

/** Removes a lock whose process is dead. One contender at a time does, and only the lock that it has judged. */
function removeDead(path: string, judged: string): void {
  const turn = `${path}.removing`;
  if (!isMyTurn(turn)) return;
  try {
    if (readTextIfThere(path) === judged) fileOperation('remove', path, () => rmSync(path, { force: true }));
  } finally {
    rmSync(turn, { recursive: true, force: true });
  }
}

function isMyTurn(turn: string): boolean {
  return fileOperation('lock', turn, () => {
    try {
      mkdirSync(turn);
      return true;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      const killed = Math.abs(Date.now() - mtimeOf(turn)) > removalMs;
      if (killed) rmSync(turn, { recursive: true, force: true });
      else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
      return false;
    }
  });
}

/** @param silent milliseconds since the holder's last sign of life */
function isAlive(holder: Holder | undefined, self: Holder, silent: number): boolean {
  if (holder === undefined || !isSeen(holder, self)) return silent < silenceMs;
  const { pid, started } = holder;
  if (pid === self.pid && started === self.started) return held.has(holder.id);
  const found = startOf(pid);
  return found === null ? answers(pid) : found === started;
}

const isSeen = (holder: Holder, self: Holder) =>
  (['host', 'boot', 'namespace'] as const).every((key) => holder[key] === self[key]);

function answers(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'; // somebody else's
  }
}

function refusal(folder: string, holder: Holder | undefined, self: Holder, silent: number): string {
  const who = holder === undefined ? 'another process' : `process ${holder.pid} on ${holder.host}`;
  const since = holder === undefined ? '' : ` since ${holder.since}`;
  const seen = holder !== undefined && isSeen(holder, self);
  const sign = seen ? '' : `, with a sign of life ${Math.max(0, Math.round(silent / 1000))} s ago`;
  const fix = seen
    ? `Wait for it, or end it (\`kill -INT ${holder.pid}\` lets it save)`
    : `Wait for it; if it was killed, it is forgotten after ${silenceMs / 1000} s of silence`;
  return `${folder}: ${who} works here${since}${sign} — one process a folder, or they would write over each other. ${fix}`;
}

/** While the lock is held, from a thread of its own: the main one may be in an operator for minutes. */
export function giveSignsOfLife(path: string, text: string, every = signOfLifeMs): () => void {
  let worker: Worker | undefined;
  const timer = setTimeout(() => {
    const workerData = { path, text, every };
    worker = new Worker(signs, { eval: true, workerData, execArgv: [] });
    worker.on('error', () => {}); // without signs, whoever cannot see this process may take the run; assertHeld tells
    worker.unref();
  }, every / 2).unref();
  return () => {
    clearTimeout(timer);
    void worker?.terminate();
  };
}

/** Writing, unlike setting its time, dates a file by the file system's clock. */
const signs = `
const fs = require('node:fs');
const { path, text, every } = require('node:worker_threads').workerData;
setInterval(() => {
  try {
    if (fs.readFileSync(path, 'utf8') !== text) return;
    const descriptor = fs.openSync(path, 'r+');
    fs.writeSync(descriptor, text, 0);
    fs.closeSync(descriptor);
  } catch {}
}, every);`;

export function describeSelf(): Holder {
  return {
    id: randomBytes(8).toString('hex'),
    host: hostname(),
    pid: process.pid,
    started: startOf(process.pid),
    boot: tryTo(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()) ?? null,
    namespace: tryTo(() => readlinkSync('/proc/self/ns/pid')) ?? null,
    since: new Date().toISOString(),
  };
}

/** The 22nd field of a process's state; the second may hold spaces. Nothing where the system does not say. */
export const startOf = (pid: number): string | null =>
  tryTo(
    () =>
      readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /s, '')
        .split(' ')[19],
  ) ?? null;

function holderOf(text: string): Holder | undefined {
  const holder = tryTo(() => JSON.parse(text) as Holder | null);
  return typeof holder?.pid === 'number' && typeof holder.id === 'string' ? holder : undefined;
}

const mtimeOf = (path: string) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

function tryTo<Value>(get: () => Value): Value | undefined {
  try {
    return get();
  } catch {
    return undefined;
  }
}
