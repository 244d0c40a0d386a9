/** Many searches in one world: agents, rewards, exploration and seeds over pictures that are drawn once for all. */

import { type Observation, type RewardName, semanticHits } from '../world/rewards.js';
import type { SearchWorld } from '../world/search-world.js';
import {
  type FollowOptions,
  follow,
  measureTrace,
  newSearch,
  startState,
  type TraceMeasures,
} from './follow.js';
import { policyPath, tablePolicy } from './tabular.js';

/** One row's settings: Table 3 of the paper crosses three agents, three rewards and two ε. */
export type SearchArm = { reward: RewardName; epsilon: string } & Pick<FollowOptions, 'agent'> &
  Pick<FollowOptions, 'table' | 'alpha' | 'initialQ' | 'sameStart' | 'continueAfterGoal'>;

export type SearchRow = SearchArm & {
  /** Of the agent; with it its start state, the same for all arms. */
  seed: number;
  /** Steps from the start to the goal. */
  startDistance: number;
  /** The paper's columns. */
  measures: TraceMeasures;
  /** Whether the learned policy leads from the start to the goal; null for agents that learn none. */
  learned: boolean | null;
  /** Steps of the learned policy's way to the goal; null if it does not lead there. */
  path: number | null;
  /** After the first look at the goal: mean distance from it; null if it was not reached or ended the search. */
  distanceAfterGoal: number | null;
  /** Noisy diffusion gradient: steps that led nowhere. */
  plateaus: number;
  /** Steps from the goal at each look: the traces of figure 6. */
  distances: number[];
};

export type SweepOptions = Omit<FollowOptions, 'seed' | 'start' | keyof SearchArm> & {
  arms: readonly SearchArm[];
  seeds: readonly number[];
  signal?: AbortSignal;
};

/**
 * Rows as they are done, arm by arm.
 * @param worldOf an unvisited world for an arm and seed; those of one input share the memory of what was drawn
 * @param input what is recognised in the input picture
 */
export async function* sweep(
  worldOf: (arm: SearchArm, seed: number) => SearchWorld,
  input: Observation,
  options: SweepOptions,
): AsyncGenerator<SearchRow, void> {
  const { arms, seeds, signal } = options;
  for (const arm of arms) {
    for (const seed of seeds) {
      const world = worldOf(arm, seed);
      const start = startState(world, seed);
      const settings = { ...options, ...arm, seed, start };
      const followed = newSearch(world, settings);
      for await (const _ of follow(world, settings, followed)) signal?.throwIfAborted();
      const { trace, table } = followed;
      const scenes = world.encoding.axes.filter(({ role }) => role === 'scene').map(({ name }) => name);
      const hits = semanticHits(input, scenes);
      const seen = new Map<number, ReturnType<typeof hits>>();
      for (const state of new Set(trace.states)) seen.set(state, hits(await world.observe(state)));
      const distances = trace.states.map((state) => world.grid.distance(state, world.goal));
      const path =
        table === undefined || arm.agent === 'random'
          ? undefined
          : policyPath(world, tablePolicy(world, table), start);
      const learned = path === undefined ? null : path.at(-1) === world.goal;
      const after = trace.firstHit < 0 ? [] : distances.slice(trace.firstHit + 1);
      yield {
        ...arm,
        seed,
        startDistance: world.grid.distance(start, world.goal),
        measures: measureTrace(world, trace, (state) => seen.get(state)!),
        learned,
        path: learned === true ? path!.length - 1 : null,
        distanceAfterGoal:
          after.length === 0 ? null : after.reduce((sum, distance) => sum + distance, 0) / after.length,
        plateaus: trace.plateaus,
        distances,
      };
    }
  }
}
