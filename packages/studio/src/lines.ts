/** Reading a file of JSON lines that another process is writing: whole lines only, from a byte offset on, in pieces. */

import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import type { RunsFolder } from './folder.js';

const pieceBytes = 1 << 20;
/** A line longer than this is none of ours. */
const mostLineBytes = 16 << 20;
const newline = 0x0a;

export interface Piece {
  /** Whole lines, without their ends. */
  lines: string[];
  /** Byte offset behind each of them. */
  ends: number[];
  /** Behind the last of them. */
  offset: number;
}

/** Whole lines from `offset` on, piece by piece, up to the end that the file has now. A half-written last line is left for the next time. */
export async function* wholeLines(handle: FileHandle, offset: number): AsyncGenerator<Piece> {
  let rest = Buffer.alloc(0);
  let at = offset;
  for (;;) {
    const buffer = Buffer.allocUnsafe(pieceBytes);
    const { bytesRead } = await handle.read(buffer, 0, pieceBytes, at + rest.length);
    if (bytesRead === 0) return;
    const bytes =
      rest.length === 0
        ? buffer.subarray(0, bytesRead)
        : Buffer.concat([rest, buffer.subarray(0, bytesRead)]);
    const end = bytes.lastIndexOf(newline) + 1;
    if (end === 0 && bytes.length > mostLineBytes) return;
    if (end > 0) {
      const lines: string[] = [];
      const ends: number[] = [];
      for (let start = 0; start < end; ) {
        const stop = bytes.indexOf(newline, start);
        lines.push(bytes.toString('utf8', start, stop));
        start = stop + 1;
        ends.push(at + start);
      }
      at += end;
      yield { lines, ends, offset: at };
    }
    rest = bytes.subarray(end);
  }
}

export type Row = { step: number } & Record<string, number | string | boolean | null | unknown[]>;

/** A line of metrics; undefined for one that is none: torn by a crash, or something else. */
export function parseRow(line: string): Row | undefined {
  try {
    const row: unknown = JSON.parse(line);
    return row !== null && typeof row === 'object' && typeof (row as Row).step === 'number'
      ? (row as Row)
      : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Follows one file: each call of `read` gives what was added. A file that became shorter or another one (a resumed run cuts its
 * metrics back by replacing the file) is read anew, and `onReset` is called first.
 */
export class Follower {
  offset = 0;
  #ino = -1;
  /** Of the bytes before the offset: tells a file that was replaced by an equal one from another. */
  #mark = '';

  constructor(
    readonly folder: RunsFolder,
    readonly path: string,
  ) {}

  /** @returns false when the file is not there */
  async read(onLines: (lines: string[]) => void, onReset: () => void): Promise<boolean> {
    const opened = await this.folder.open(this.path).catch(() => undefined);
    if (opened === undefined) {
      if (this.offset > 0) onReset();
      this.offset = 0;
      this.#ino = -1;
      return false;
    }
    const { handle, info } = opened;
    try {
      const same = info.ino === this.#ino && info.size >= this.offset;
      if (!same && this.offset > 0 && (await markAt(handle, this.offset)) !== this.#mark) {
        onReset();
        this.offset = 0;
      }
      this.#ino = info.ino;
      if (info.size === this.offset) return true;
      const before = this.offset;
      for await (const { lines, offset } of wholeLines(handle, this.offset)) {
        onLines(lines);
        this.offset = offset;
      }
      if (this.offset !== before) this.#mark = await markAt(handle, this.offset);
      return true;
    } finally {
      await handle.close();
    }
  }
}

/** A short hash of up to 256 bytes before an offset; '' when the file is shorter. */
export async function markAt(handle: FileHandle, offset: number): Promise<string> {
  const length = Math.min(256, offset);
  const { bytesRead, buffer } = await handle.read(Buffer.alloc(length), 0, length, offset - length);
  if (bytesRead < length || (length > 0 && buffer[length - 1] !== newline)) return '';
  return createHash('sha256').update(buffer).digest('base64url').slice(0, 8);
}
