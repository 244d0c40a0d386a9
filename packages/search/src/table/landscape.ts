/** What the rewards of a world look like, and what could be had in it at best: no agent takes part. */

import { correlation, mean } from '@rldf/common/base/stats';
import { shareThatReaches, valueIteration } from '../agents/value-iteration.js';
import { RecordedWorld, recordedRewards } from '../world/recorded-world.js';
import { type RewardName, semanticHits, semanticReward } from '../world/rewards.js';
import { type Scenery, sceneAxes } from './runs.js';

export interface Landscape {
  reward: RewardName;
  world: string;
  input: number;
  pictureSeed: number;
  /** States, the goal aside, whose neighbours all pay less. */
  peaks: number;
  /** Share of states whose neighbours all pay the same as they do: no slope to follow. */
  flat: number;
  /** Share of states from which always stepping to the best-paid neighbour, as long as it pays more, ends at the goal. */
  climbs: number;
  /** Rank correlation of reward and nearness to the goal. */
  guidance: number;
  /** Whether no state pays more than the goal. */
  goalPaysMost: boolean;
  /** Share of states from which value iteration's policy reaches the goal. */
  optimumReaches: number;
  /** Mean steps of its ways, which are the shortest. */
  optimumSteps: number;
  /** Whether the goal's own picture shows the input's objects and scene: drawing the recognised sentence at once. */
  zeroSearch: boolean;
}

/** Means over the inputs and picture seeds of a world; shares where a landscape has yes or no. */
export type MeanLandscape = { reward: RewardName; world: string } & Record<
  Exclude<keyof Landscape, 'reward' | 'world' | 'input' | 'pictureSeed'>,
  number
>;

export function meanLandscapes(landscapes: readonly Landscape[]): MeanLandscape[] {
  const groups = new Map<string, Landscape[]>();
  for (const one of landscapes) {
    const key = `${one.world} ${one.reward}`;
    groups.set(key, [...(groups.get(key) ?? []), one]);
  }
  return [...groups.values()].map((here) => {
    const { reward, world } = here[0]!;
    const average = (value: (one: Landscape) => number | boolean) =>
      mean(here.map((one) => Number(value(one))));
    return {
      reward,
      world,
      peaks: average(({ peaks }) => peaks),
      flat: average(({ flat }) => flat),
      climbs: average(({ climbs }) => climbs),
      guidance: average(({ guidance }) => guidance),
      goalPaysMost: average(({ goalPaysMost }) => goalPaysMost),
      optimumReaches: average(({ optimumReaches }) => optimumReaches),
      optimumSteps: average(({ optimumSteps }) => optimumSteps),
      zeroSearch: average(({ zeroSearch }) => zeroSearch),
    };
  });
}

/** @param gamma of value iteration */
export function landscapeOf(scenery: Scenery, name: RewardName, gamma: number): Landscape {
  const { recording, seen, world, input, pictureSeed } = scenery;
  const { encoding, goal, pictures } = recording;
  const scenes = sceneAxes(encoding);
  const reward = semanticReward(name, seen, { scenes });
  const values = recordedRewards(recording, reward);
  const paid = values.map(([first]) => first!);
  const grid = new RecordedWorld(recording, { reward, rewards: values, gamma });
  const states = paid.map((_, state) => state);
  const neighbours = states.map((state) => grid.grid.neighbours(state));
  const others = states.filter((state) => state !== goal);
  const isPeak = (state: number) => neighbours[state]!.every((near) => paid[near]! < paid[state]!);
  const isFlat = (state: number) => neighbours[state]!.every((near) => paid[near]! === paid[state]!);
  const distances = states.map((state) => grid.grid.distance(state, goal));
  const q = valueIteration(
    grid,
    paid.map((one, state) => one + (state === goal ? grid.bonus : 0)),
  );
  const { fine, coarse } = semanticHits(seen, scenes)(pictures[goal]![0]!);
  return {
    ...{ reward: name, world, input, pictureSeed: pictureSeed! },
    peaks: others.filter(isPeak).length,
    flat: others.filter(isFlat).length / others.length,
    climbs: mean(others.map((state) => Number(climb(state, neighbours, paid) === goal))),
    guidance: correlation(ranks(paid), ranks(distances.map((distance) => -distance))),
    goalPaysMost: paid.every((one) => one <= paid[goal]!),
    optimumReaches: shareThatReaches(grid, q),
    optimumSteps: mean(others.map((state) => distances[state]!)),
    zeroSearch: fine && coarse,
  };
}

function climb(from: number, neighbours: readonly (readonly number[])[], paid: readonly number[]): number {
  for (let state = from; ; ) {
    const best = neighbours[state]!.reduce((most, near) => (paid[near]! > paid[most]! ? near : most), state);
    if (best === state) return state;
    state = best;
  }
}

/** Ranks from 1; equal values share the mean of theirs. */
export function ranks(values: readonly number[]): number[] {
  const order = values.map((_, i) => i).sort((a, b) => values[a]! - values[b]!);
  const found = new Array<number>(values.length);
  for (let start = 0; start < order.length; ) {
    let end = start;
    while (end < order.length && values[order[end]!] === values[order[start]!]) end++;
    for (let i = start; i < end; i++) found[order[i]!] = (start + end + 1) / 2;
    start = end;
  }
  return found;
}
