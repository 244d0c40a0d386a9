/**
 * What pictures of a state that was not drawn yet will pay, by what its values have paid elsewhere: the reward is taken for a
 * sum over axes. A scene that never paid is then not tried again with every noun. An extension: the paper has no such thing.
 */

import type { Grid } from '../world/environment.js';

/** Plain data, saved with the Q-table. */
export interface AxisValues {
  lengths: number[];
  /** Bounds of the reward. */
  least: number;
  most: number;
  /** By axis and value: sum of the rewards of the distinct states seen, and their number. */
  sums: number[][];
  counts: number[][];
  /** 1: this state was seen. */
  seen: number[];
}

export function newAxisValues(grid: Grid, bounds: { least: number; most: number }): AxisValues {
  const zeros = () => grid.lengths.map((length) => new Array<number>(length).fill(0));
  const seen = new Array<number>(grid.states).fill(0);
  return { lengths: [...grid.lengths], ...bounds, sums: zeros(), counts: zeros(), seen };
}

/** Takes in a state's reward; once a state. */
export function learnAxisValues(values: AxisValues, state: number, reward: number): void {
  if (values.seen[state] === 1) return;
  values.seen[state] = 1;
  eachCoordinate(values.lengths, state, (axis, value) => {
    values.sums[axis]![value]! += reward;
    values.counts[axis]![value]!++;
  });
}

/**
 * Mean reward plus what each of the state's values pays more than the mean, within the reward's bounds. Every value counts
 * as seen once more with the largest reward: optimism in face of what is not known.
 */
export function expectedReward(values: AxisValues, state: number): number {
  const { lengths, sums, counts, least, most } = values;
  const pictures = counts[0]!.reduce((total, count) => total + count, 0);
  if (pictures === 0) return most;
  const average = sums[0]!.reduce((total, sum) => total + sum, 0) / pictures;
  let expected = average;
  eachCoordinate(lengths, state, (axis, value) => {
    expected += (sums[axis]![value]! + most) / (counts[axis]![value]! + 1) - average;
  });
  return Math.min(most, Math.max(least, expected));
}

function eachCoordinate(
  lengths: readonly number[],
  state: number,
  visit: (axis: number, value: number) => void,
): void {
  for (let axis = lengths.length - 1, rest = state; axis >= 0; axis--) {
    const length = lengths[axis]!;
    visit(axis, rest % length);
    rest = Math.floor(rest / length);
  }
}
