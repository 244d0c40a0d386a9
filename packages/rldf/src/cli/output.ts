/**
 * Standard output belongs to the program: what a user's module, a library or one of their child processes prints goes to standard
 * error once `claimOutput` was called. Without it (tests, other programs that call commands) `print` is a plain write.
 */

import { writeSync } from 'node:fs';
import { UserError } from '@rldf/torch/errors';

/** Where `print` writes; undefined while nothing is claimed. */
let descriptor: number | undefined;
/** The reader has gone (`rldf ... | head`): no error, but nothing more is written. */
let closed = false;

/** Writes to standard output. @throws UserError when it cannot be written, such as to a full disk */
export function print(text: string): void {
  if (descriptor === undefined) process.stdout.write(text);
  else if (!closed) writeAll(descriptor, Buffer.from(text));
}

/** From now on only `print` reaches standard output. */
export function claimOutput(): void {
  descriptor = 1;
  process.stdout.write = process.stderr.write.bind(process.stderr) as typeof process.stdout.write;
  // Standard error that nobody reads any more ends no work.
  process.stderr.on('error', () => {});
}

/** Moves standard output, once. @param move gives its descriptor elsewhere, or -1 */
export function moveOutput(move: () => number): void {
  if (descriptor !== 1) return;
  const moved = move();
  if (moved >= 0) descriptor = moved;
}

function writeAll(to: number, bytes: Uint8Array): void {
  for (let written = 0; written < bytes.length; ) {
    try {
      written += writeSync(to, bytes, written);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'EAGAIN') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
      else if (code === 'EPIPE') {
        closed = true;
        return;
      } else
        throw new UserError(
          `standard output: cannot be written (${code === 'ENOSPC' ? 'its disk is full' : message}) — the work itself is done. Print to another place`,
          { cause: error },
        );
    }
  }
}
