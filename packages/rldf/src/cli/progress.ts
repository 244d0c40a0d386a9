/** One updating line on a terminal, plain lines elsewhere. */

import type { WriteStream } from 'node:tty';
import { duration } from '../base/duration.js';

/** What is written to: `process.stderr`, or a test's recorder. */
export type Output = Pick<WriteStream, 'write'> & { isTTY?: boolean; columns?: number };

/** Elsewhere than on a terminal, an update is printed at most this often. */
const plainIntervalMs = 10_000;

export class Progress {
  readonly #output: Output;
  readonly #now: () => number;
  #shown = '';
  #lastPlain = Number.NEGATIVE_INFINITY;

  constructor(output: Output = process.stderr, now: () => number = () => performance.now()) {
    this.#output = output;
    this.#now = now;
  }

  /** Shows the state of long work; each call takes the place of the last. */
  update(text: string): void {
    if (this.#output.isTTY) {
      const line = text.slice(0, Math.max(10, (this.#output.columns ?? 80) - 1));
      if (line !== this.#shown) this.#output.write(`\r\u001b[2K${line}`);
      this.#shown = line;
    } else if (this.#now() - this.#lastPlain >= plainIntervalMs) {
      this.#lastPlain = this.#now();
      this.#output.write(`${text}\n`);
    }
  }

  /** Prints a line that stays. */
  print(line: string): void {
    this.clear();
    this.#output.write(`${line}\n`);
  }

  /** Removes the updating line. */
  clear(): void {
    if (this.#shown !== '') this.#output.write('\r\u001b[2K');
    this.#shown = '';
  }
}

/** Remaining time from the pace so far. */
export class Estimate {
  readonly #now: () => number;
  readonly #start: number;
  #startShare: number | undefined;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#start = now();
  }

  /**
   * Words such as "about 2 min left"; empty while there is nothing to go by.
   * @param share of the whole work that is done, in [0, 1]
   */
  left(share: number): string {
    this.#startShare ??= share;
    const done = share - this.#startShare;
    const elapsed = (this.#now() - this.#start) / 1000;
    if (done < 0.01 || elapsed < 1) return '';
    return `about ${duration((elapsed / done) * (1 - share))} left`;
  }
}

/** `[#####.....]` */
export function bar(share: number, width = 20): string {
  const full = Math.round(Math.min(1, Math.max(0, share)) * width);
  return `[${'#'.repeat(full)}${'.'.repeat(width - full)}]`;
}
