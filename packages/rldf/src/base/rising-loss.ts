/** Whether a training loss rises: a training that falls apart need not diverge, and nobody looks at a noisy curve for long. */

import { quantile } from '@rldf/common/base/stats';

const BLOCKS = 8;
/** Pairs of blocks in order less those out of order, of 28: a list in random order has as many once in 1,100 times (Kendall 1955). */
const ORDERED = 24;
/** Least rise: a share of where it began, and multiples of the rise's standard error. */
const SHARE = 0.1;
const ERRORS = 4;
/** Of a normal distribution: the deviation is so much of the median's absolute deviation, and a median's error so much of a mean's. */
const OF_ABSOLUTE = 1.4826;
const OF_MEDIAN = 1.2533;

export interface Rise {
  /** Medians of the first and of the last eighth. */
  from: number;
  to: number;
}

const median = (values: readonly number[]) =>
  quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  );

/**
 * Looks for a rise that goes on: medians of eight blocks must stand in order but for few exceptions (Mann 1945), and the last
 * lie above the first by a tenth, and by four times what scatter explains. Single outliers move none of it.
 * @param losses in their order; fewer than `least` are too few to tell
 */
export function risingLoss(losses: readonly number[], least = 16 * BLOCKS): Rise | undefined {
  if (losses.length < Math.max(least, BLOCKS)) return undefined;
  const edge = (i: number) => Math.floor((losses.length * i) / BLOCKS);
  const blocks = Array.from({ length: BLOCKS }, (_, i) => losses.slice(edge(i), edge(i + 1)));
  const medians = blocks.map(median);
  let ordered = 0;
  for (let a = 0; a < BLOCKS; a++) {
    for (let b = a + 1; b < BLOCKS; b++)
      ordered += Math.sign((medians[b] as number) - (medians[a] as number));
  }
  const [from, to] = [medians[0] as number, medians[BLOCKS - 1] as number];
  const variances = [0, BLOCKS - 1].map((i) => {
    const block = blocks[i] as number[];
    const scatter = median(block.map((value) => Math.abs(value - (medians[i] as number))));
    return (OF_MEDIAN * OF_ABSOLUTE * scatter) ** 2 / block.length;
  });
  const error = Math.sqrt((variances[0] as number) + (variances[1] as number));
  const rises = ordered >= ORDERED && to - from > Math.max(SHARE * Math.abs(from), ERRORS * error);
  return rises ? { from, to } : undefined;
}

/** Watches a training as it goes: once every `every` updates, at the last `window` of them. Says a rise once. */
export class LossWatch {
  readonly #losses: number[] = [];
  #updates = 0;

  constructor(
    readonly window = 400,
    readonly every = 50,
  ) {}

  /** @returns the rise over the last `window` updates, when one is seen; the watch then begins anew */
  seen(loss: number): Rise | undefined {
    this.#losses.push(loss);
    if (this.#losses.length > this.window) this.#losses.shift();
    if (++this.#updates % this.every !== 0 || this.#losses.length < this.window) return undefined;
    const rise = risingLoss(this.#losses);
    if (rise !== undefined) this.#losses.length = 0;
    return rise;
  }
}
