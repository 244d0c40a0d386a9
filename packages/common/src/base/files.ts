/**
 * Every file operation of a run goes through this module: that is what makes "kill it anywhere, then resume" testable.
 *
 * `RLDF_KILL_AT_FILE_OP=n` ends the process with SIGKILL just before its n-th operation (counted from 1);
 * `RLDF_KILL_AT_STEP=n` does so in `reachedStep(n)`. Both exist for the kill tests only.
 */

import {
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, resolve } from 'node:path';
import { UserError } from '@rldf/torch/errors';
import { howToContinue } from './underway.js';

/** Called before each operation with its name and path; may throw (a test's full disk). */
export type FileHook = (operation: string, path: string) => void;

let hook: FileHook | undefined;
let operations = 0;

/** Large files are written in pieces of this size, each an operation of its own, so that kills also tear files. */
const pieceBytes = 1 << 20;

/** Installs a hook for tests and returns the function that removes it. */
export function setFileHook(next: FileHook): () => void {
  hook = next;
  return () => {
    hook = undefined;
  };
}

/** How many file operations this process has done: lets a kill test choose a count inside the run. */
export function fileOperations(): number {
  return operations;
}

/**
 * Runs one file operation: counts it, gives the hooks their chance and turns a full disk, a missing right or a
 * read-only disk into a UserError. Use it directly for writers of other packages (`writeSafetensors`, sharp).
 */
export function fileOperation<T>(operation: string, path: string, run: () => T): T {
  operations++;
  if (operations === Number(process.env.RLDF_KILL_AT_FILE_OP)) process.kill(process.pid, 'SIGKILL');
  try {
    hook?.(operation, path);
    return run();
  } catch (error) {
    throw explained(error, operation, path);
  }
}

/** To be called by training loops when step `step` (counted from 1) has begun. */
export function reachedStep(step: number): void {
  if (step === Number(process.env.RLDF_KILL_AT_STEP)) process.kill(process.pid, 'SIGKILL');
}

export function makeFolder(path: string): void {
  fileOperation('make folder', path, () => {
    try {
      mkdirSync(path, { recursive: true });
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error;
      // Node says so of every missing folder on a read-only disk: ask for the first alone, which names the reason.
      let first = resolve(path);
      while (!existsSync(dirname(first))) first = dirname(first);
      mkdirSync(first);
      mkdirSync(path, { recursive: true });
    }
  });
}

/** Writes a whole file and flushes it to the disk. Not atomic: see `replaceFile`. */
export function writeFileDurably(path: string, data: string | Uint8Array): void {
  const descriptor = writtenFile(path, data);
  try {
    fileOperation('flush', path, () => fsyncSync(descriptor));
  } finally {
    closeSync(descriptor);
  }
}

/** Writes a whole file, not flushed yet. @returns its descriptor, open */
function writtenFile(path: string, data: string | Uint8Array): number {
  const bytes = typeof data === 'string' ? Buffer.from(data) : data;
  const descriptor = fileOperation('open', path, () => openSync(path, 'w'));
  try {
    for (let start = 0; start < bytes.length; start += pieceBytes) {
      const piece = bytes.subarray(start, start + pieceBytes);
      fileOperation('write', path, () => writeFully(descriptor, piece));
    }
    return descriptor;
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

/** Writes a file under a temporary name, flushes and renames it: readers see the old or the new one, never half. */
export function replaceFile(path: string, data: string | Uint8Array): void {
  const temporary = `${path}.tmp-${process.pid}`;
  try {
    writeFileDurably(temporary, data);
    renameDurably(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/**
 * `replaceFile` of many in one folder: all are written before the first is flushed, which then flushes them all. One at a time
 * waits for the disk for each.
 */
export function replaceFiles(files: readonly { path: string; data: Uint8Array }[]): void {
  const begun: { path: string; temporary: string; descriptor: number }[] = [];
  try {
    try {
      for (const { path, data } of files) {
        const temporary = `${path}.tmp-${process.pid}`;
        begun.push({ path, temporary, descriptor: writtenFile(temporary, data) });
      }
      for (const { path, descriptor } of begun) fileOperation('flush', path, () => fsyncSync(descriptor));
    } finally {
      for (const { descriptor } of begun) closeSync(descriptor);
    }
    for (const { path, temporary } of begun) fileOperation('rename', path, () => renameSync(temporary, path));
  } catch (error) {
    for (const { path } of files) rmSync(`${path}.tmp-${process.pid}`, { force: true });
    throw error;
  }
  if (begun[0] !== undefined) flushFolder(dirname(begun[0].path));
}

/**
 * Gives a whole, written file its name, unless that is taken: of several processes one succeeds, on network file systems too.
 * @returns whether it did
 */
export function linkOnce(temporary: string, path: string): boolean {
  return fileOperation('make', path, () => {
    try {
      linkSync(temporary, path);
      return true;
    } catch (error) {
      const code = codeOf(error) ?? '';
      // The first answer of a network file system may get lost, and its second is that the name is taken.
      if (code === 'EEXIST') return readFileSync(path).equals(readFileSync(temporary));
      if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'].includes(code)) throw error;
      return isCreated(path, readFileSync(temporary)); // a file system without links
    }
  });
}

function isCreated(path: string, data: Uint8Array): boolean {
  try {
    writeFileSync(path, data, { flag: 'wx' });
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  }
}

/** Renames and flushes the folder, so that the new name survives a power cut. */
export function renameDurably(from: string, to: string): void {
  fileOperation('rename', to, () => renameSync(from, to));
  flushFolder(dirname(to));
}

/** Removes a file or folder; a folder gets a hidden name first, so that no half of it can pass for a whole one. */
export function remove(path: string): void {
  fileOperation('remove', path, () => rmSync(path, { recursive: true, force: true }));
}

/** Opens a file for appending (created if missing). */
export function openForAppend(path: string): number {
  return fileOperation('open', path, () => openSync(path, 'a'));
}

/** Appends to an open file; the bytes are with the operating system when this returns. */
export function append(descriptor: number, path: string, data: string | Uint8Array): void {
  const bytes = typeof data === 'string' ? Buffer.from(data) : data;
  fileOperation('append', path, () => writeFully(descriptor, bytes));
}

/** Reads a text file; undefined if it does not exist. */
export function readTextIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw explained(error, 'read', path);
  }
}

/** Names in a folder, sorted; empty if the folder does not exist. */
export function listFolder(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [];
    throw explained(error, 'list', path);
  }
}

/** Flushes a folder's entries to the disk, where the platform can do that. */
export function flushFolder(path: string): void {
  fileOperation('flush', path, () => {
    try {
      const descriptor = openSync(path, 'r');
      try {
        fsyncSync(descriptor);
      } finally {
        closeSync(descriptor);
      }
    } catch (error) {
      if (!['EISDIR', 'EPERM', 'EINVAL', 'EACCES'].includes(codeOf(error) ?? '')) throw error;
    }
  });
}

function writeFully(descriptor: number, bytes: Uint8Array): void {
  let written = 0;
  while (written < bytes.length) written += writeSync(descriptor, bytes, written);
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
}

/** What a file operation's error code means to the user, and what helps. */
const reasons: Readonly<Record<string, string>> = {
  EACCES: 'no permission. Choose a folder you may write to, or change its rights',
  EPERM: 'no permission. Choose a folder you may write to, or change its rights',
  EROFS: 'the disk is read-only. Choose another folder',
  ENOENT: 'there is no such folder, or it was removed meanwhile. Make it, or choose another path',
  ENOTDIR: 'a part of the path is a file, not a folder. Choose another path',
  EEXIST: 'there is a file of this name. Choose another path',
  EISDIR: 'it is a folder, not a file. Choose another path',
  ENAMETOOLONG: 'the name is too long for this file system. Choose a shorter one',
  ELOOP: 'its links lead in a circle. Mend them, or choose another path',
  EMFILE: 'too many files are open. Raise the limit (`ulimit -n`), or close other programs',
  ENFILE: 'too many files are open on this machine. Close other programs',
  EFBIG: 'the file would be larger than this file system allows. Choose another disk',
  EBUSY: 'it is in use. Close what uses it',
  EIO: 'the disk does not answer rightly. Check it (`dmesg`), or choose another',
  ESTALE: 'the network disk has lost it. Mount it again',
};

/** A system's error as a UserError that says what it means; any other error as it is. */
export function explained(error: unknown, operation: string, path: string): unknown {
  const code = codeOf(error) ?? '';
  const reason =
    code === 'ENOSPC' || code === 'EDQUOT'
      ? `the disk is full. Free some space, then ${howToContinue() || 'try again'}`
      : reasons[code];
  if (reason === undefined) return error;
  return new UserError(`${path}: cannot ${operation} — ${reason}`, { cause: error });
}
