/** The run that this process is training, so that whatever ends it can say how to go on. One at a time. */

import { resolve } from 'node:path';

interface Underway {
  name: string;
  folder: string;
  checkpoint?: { step: number; path: string };
}

let current: Underway | undefined;

export function beginRun({ name, folder }: { name: string; folder: string }): void {
  current = { name, folder };
}

/** A checkpoint was saved, or the run continues from it. */
export function noteCheckpoint(checkpoint: { step: number; path: string }): void {
  if (current !== undefined) current.checkpoint = checkpoint;
}

export function endRun(): void {
  current = undefined;
}

/** How to go on behind the last checkpoint, in words that follow "then"; empty when no run is underway. */
export function howToContinue(): string {
  if (current === undefined) return '';
  const { checkpoint } = current;
  return checkpoint === undefined
    ? howToResume()
    : `${howToResume()}: the last checkpoint is ${checkpoint.path}`;
}

/** The same where the last step will still be saved. */
export function howToResume(): string {
  if (current === undefined) return '';
  const { checkpoint, name, folder } = current;
  if (checkpoint === undefined) return `remove ${folder} and train again: nothing was saved yet`;
  return `continue with \`${resumeCommandOf(name, folder)}\``;
}

/** The command that continues a run, as it can be typed where we are. */
export function resumeCommandOf(name: string, folder: string): string {
  return `rldf resume ${resolve('runs', name) === resolve(folder) ? name : folder}`;
}
