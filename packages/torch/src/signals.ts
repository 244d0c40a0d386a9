/** What a process does about signals while an operator computes, and JavaScript is not served. */

import { native } from './native.js';

const resolved = (name: string) => {
  try {
    return native.resolve(`rldf::${name}`, '');
  } catch {
    return undefined; // without libtorch's own processes (RLDF_TORCH=shapes) nothing computes for long
  }
};
const op = {
  watch: resolved('watch_signals'),
  unwatch: resolved('unwatch_signals'),
  moveOutput: resolved('move_stdout'),
};

/**
 * From now on a second SIGINT or SIGTERM ends the process at once, and a first SIGTERM five seconds later. Handlers of Node's
 * that were there before are told of the first; set them before, and remove them after `unwatchSignals`.
 *
 * @param stoppable nothing is to be saved between two operators: the first signal makes the next one throw an error with code
 * `ERR_INTERRUPTED`, and SIGTERM ends the process at once
 */
export function watchSignals(stoppable: boolean): void {
  if (op.watch !== undefined) native.call(op.watch, stoppable);
}

export function unwatchSignals(): void {
  if (op.unwatch !== undefined) native.call(op.unwatch);
}

/** Whether an error is that of an operator which a signal stopped. */
export const isInterruption = (error: unknown): boolean =>
  (error as NodeJS.ErrnoException | null)?.code === 'ERR_INTERRUPTED';

/**
 * Lets all that writes to standard output, native code and child processes too, write to standard error.
 * @returns the descriptor of standard output now; -1 if it could not be moved
 */
export function moveStandardOutput(): number {
  return op.moveOutput === undefined ? -1 : native.call(op.moveOutput);
}
