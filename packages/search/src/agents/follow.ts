/** Any agent in a world as one stream of looks at pictures, and the trace that tables and reports are made of. */

import { standardDeviation } from '@rldf/common/base/stats';
import { noiseKey, Random } from '@rldf/torch';
import { InternalError, UserError } from '@rldf/torch/errors';
import type { SearchWorld } from '../world/search-world.js';
import { newAxisValues } from './axis-values.js';
import { noisyDiffusionGradient } from './noisy-diffusion-gradient.js';
import { climbHill, enumerate } from './reference.js';
import { exploration, stepSize } from './schedules.js';
import {
  learn,
  newTable,
  policyPath,
  type TableKind,
  type TabularAgent,
  type TabularOptions,
  type TabularState,
  tablePolicy,
  tabularAgents,
} from './tabular.js';

export const agentNames = [
  ...tabularAgents,
  'enumeration',
  'hill-climber',
  'gradient',
  'gradient-spsa',
] as const;
export type AgentName = (typeof agentNames)[number];

/**
 * Q before the first step. `random`: uniform in [0, 1), as Algorithm 1 may be read; `zero`; `optimistic`: uniform in
 * [v, v + 1) with v = r_max/(1 - γ). No walk that misses the goal is worth more than v, so whatever was not tried yet looks
 * better than any loop, and the agent never settles for one (Sutton & Barto 2018, section 2.6: optimistic initial values).
 * `axes`, ours: the same, but the first reward on the way is not taken for the largest; it is what the state's values have
 * paid in other pictures (axis-values.ts). For tables of afterstates.
 */
export const initialQs = ['random', 'zero', 'optimistic', 'axes'] as const;
export type InitialQ = (typeof initialQs)[number];

export interface FollowOptions {
  agent: AgentName;
  /** Of the agent's choices; pictures have their own. */
  seed: number;
  /** Most steps of the whole search. */
  steps: number;
  /** State of the first look: given, or drawn by the seed among all but the goal. */
  start?: number;
  /** Q-learning and SARSA: every episode begins there, instead of at a state of its own. Default true. */
  sameStart?: boolean;
  /** ε and α as `exploration` and `stepSize` read them. Defaults 1-0.5/1000 and 0.5; the paper's ε is 0.1 or 0.01. */
  epsilon?: string;
  alpha?: string;
  episodeSteps?: number;
  /** Default `actions`. */
  table?: TableKind;
  /** Default `random`. */
  initialQ?: InitialQ;
  /** η of the noisy diffusion gradient, default 1. */
  rate?: number;
  /** The goal ends no episode; up to `steps` (paper, figure 10). */
  continueAfterGoal?: boolean;
  /** Learners begin episode after episode up to `steps`, even when they know the way: equal budgets for comparisons. */
  allSteps?: boolean;
}

/** What happened, look by look. Plain data: saved with the Q-table. */
export interface Trace {
  /** The state looked at, the first one included. */
  states: number[];
  /** Its picture's reward, without the goal's bonus. */
  rewards: number[];
  /** Distinct states so far. */
  distinct: number[];
  /** Index of the first look at the goal, which is also the number of steps to it; -1: not yet. */
  firstHit: number;
  /** Index of the look with the best picture; the earliest of several. The goal is above all. */
  best: number;
  /** Where episodes began, as indices into `states`. */
  episodes: number[];
  /** nDg: steps that led nowhere. */
  plateaus: number;
}

export interface Followed {
  trace: Trace;
  /** Of Q-learning, SARSA and random. */
  table?: TabularState;
}

export function isTabular(agent: AgentName): agent is TabularAgent {
  return (tabularAgents as readonly string[]).includes(agent);
}

/** The state that a search begins at. */
export function startState(world: SearchWorld, seed: number): number {
  const drawn = new Random(noiseKey(seed, 'search-first')).integer(world.states - 1);
  return drawn < world.goal ? drawn : drawn + 1;
}

/**
 * Runs an agent until it has found the goal for good, or `steps` are over. Learners go on after the first hit until their
 * greedy path from the start reaches the goal. Yields after every look; `followed` is whole at any time, also when a
 * picture cannot be had: given again, the search goes on from there.
 */
export async function* follow(
  world: SearchWorld,
  options: FollowOptions,
  followed: Followed = newSearch(world, options),
): AsyncGenerator<Followed, Followed> {
  const { agent, seed, steps, continueAfterGoal = false } = options;
  const { trace } = followed;
  const start = options.start ?? startState(world, seed);
  const look = async (state: number, begins = false) =>
    record(world, trace, state, await world.pictureReward(state), begins);
  if (agent === 'enumeration' || agent === 'hill-climber') {
    Object.assign(trace, emptyTrace()); // these keep no state: what they saw before is remembered, not drawn
    const events =
      agent === 'enumeration'
        ? enumerate(world, { seed })
        : climbHill(world, { seed, start, steps: steps + 1 });
    for await (const { state, reward } of events) {
      record(world, trace, state, reward - bonusAt(world, state), trace.states.length === 0);
      yield followed;
      if (trace.states.length > steps) break;
    }
    return followed;
  }
  if (!isTabular(agent)) {
    Object.assign(trace, emptyTrace());
    yield* followGradient(world, options, followed, start, look);
    return followed;
  }
  const settings: TabularOptions = {
    agent,
    seed,
    epsilon: exploration(options.epsilon ?? '1-0.5/1000'),
    alpha: stepSize(options.alpha ?? '0.5'),
    episodeSteps: options.episodeSteps ?? 20 * world.grid.diameter,
    table: options.table ?? 'actions',
    continueAfterGoal,
    ...(options.sameStart === false ? {} : { start }),
  };
  const table = followed.table;
  if (table === undefined) throw new InternalError('follow: a search of a learner without its table');
  const found = () =>
    options.allSteps !== true &&
    !continueAfterGoal &&
    trace.firstHit >= 0 &&
    (agent === 'random' || policyPath(world, tablePolicy(world, table), start).at(-1) === world.goal);
  if (table.step >= steps || (table.position < 0 && found())) return followed;
  for await (const { episode, state, next, reward, ended } of learn(world, settings, table)) {
    if (episode > trace.episodes.length) await look(state, true);
    record(world, trace, next, reward - bonusAt(world, next));
    yield followed;
    if (table.step >= steps || (ended && found())) break;
  }
  return followed;
}

/** Before the first look. */
export function newSearch(world: SearchWorld, options: FollowOptions): Followed {
  const { agent, seed, table = 'actions', initialQ = 'random' } = options;
  if (!isTabular(agent)) return { trace: emptyTrace() };
  if (initialQ === 'axes' && table !== 'afterstates')
    throw new UserError(
      `--initial-q axes: with a table of ${table} — it values states by their axes. Give --table afterstates`,
    );
  const { gamma, grid, leastReward: least, mostReward: most } = world;
  const from = { random: 0, zero: 0, optimistic: most / (1 - gamma), axes: (gamma * most) / (1 - gamma) }[
    initialQ
  ];
  const settings = {
    agent,
    table,
    seed,
    initialQ: { least: from, most: initialQ === 'zero' ? from : from + 1 },
    ...(initialQ === 'axes' ? { axes: newAxisValues(grid, { least, most }) } : {}),
  };
  return { trace: emptyTrace(), table: newTable(world, settings) };
}

async function* followGradient(
  world: SearchWorld,
  options: FollowOptions,
  followed: Followed,
  start: number,
  look: (state: number, begins?: boolean) => Promise<void>,
): AsyncGenerator<Followed, void> {
  const { encoding } = world;
  const { trace } = followed;
  const goal = encoding.stateOf(world.goal);
  const distanceOf = (state: readonly number[]) =>
    state.reduce((sum, value, axis) => sum + Math.abs(value - goal[axis]!), 0);
  await look(start, true);
  yield followed;
  const steps = noisyDiffusionGradient({
    lengths: encoding.axes.map(({ order }) => order.length),
    start: encoding.stateOf(start),
    goal,
    objective: async (point) => {
      const state = encoding.indexOf(point);
      return distanceOf(encoding.encode((await world.observe(state)).meanings));
    },
    estimator: options.agent === 'gradient' ? 'central' : 'spsa',
    rate: options.rate ?? 1,
    steps: options.steps,
    seed: options.seed,
    continueAfterGoal: options.continueAfterGoal ?? false,
  });
  for await (const { point, plateau } of steps) {
    if (plateau) trace.plateaus++;
    await look(encoding.indexOf(point));
    yield followed;
    // central differences at the same point are the same: it stays for good
    if (plateau && options.agent === 'gradient') return;
  }
}

function emptyTrace(): Trace {
  return { states: [], rewards: [], distinct: [], firstHit: -1, best: 0, episodes: [], plateaus: 0 };
}

function bonusAt(world: SearchWorld, state: number): number {
  return state === world.goal ? world.bonus : 0;
}

function record(world: SearchWorld, trace: Trace, state: number, reward: number, begins = false): void {
  const index = trace.states.length;
  if (begins) trace.episodes.push(index);
  trace.states.push(state);
  trace.rewards.push(reward);
  trace.distinct.push(world.visited.size);
  if (state === world.goal && trace.firstHit < 0) trace.firstHit = index;
  const better = reward > trace.rewards[trace.best]!;
  const bestIsGoal = trace.states[trace.best] === world.goal;
  if (state === world.goal ? !bestIsGoal : better && !bestIsGoal) trace.best = index;
}

/** The columns of the paper's Table 3 for one search. Distances are numbers of actions; ours is not the paper's Euclidean one. */
export interface TraceMeasures {
  finalDistance: number;
  largestDistance: number;
  smallestDistance: number;
  distanceDeviation: number;
  distanceVariance: number;
  converged: boolean;
  /** Looks at pictures that show every object of the input, and at pictures with its scene. */
  fineHits: number;
  coarseHits: number;
  /** Steps to the first look at the goal; null: never. */
  firstHit: number | null;
  /** Distinct pictures up to the first hit, or in all. */
  distinctPictures: number;
  steps: number;
}

/** @param matches whether a state's picture has the input's objects and scene */
export function measureTrace(
  world: SearchWorld,
  trace: Trace,
  matches: (state: number) => { fine: boolean; coarse: boolean },
): TraceMeasures {
  const distances = trace.states.map((state) => world.grid.distance(state, world.goal));
  const deviation = distances.length < 2 ? 0 : standardDeviation(distances);
  const seen = trace.states.map(matches);
  const last = trace.states.length - 1;
  const until = trace.firstHit < 0 ? last : trace.firstHit;
  /** Looks at the start of an episode are no steps. */
  const stepsTo = (look: number) => look + 1 - trace.episodes.filter((start) => start <= look).length;
  return {
    finalDistance: distances.at(-1)!,
    largestDistance: distances.reduce((most, distance) => Math.max(most, distance)),
    smallestDistance: distances.reduce((least, distance) => Math.min(least, distance)),
    distanceDeviation: deviation,
    distanceVariance: deviation ** 2,
    converged: trace.firstHit >= 0,
    fineHits: seen.filter(({ fine }) => fine).length,
    coarseHits: seen.filter(({ coarse }) => coarse).length,
    firstHit: trace.firstHit < 0 ? null : stepsTo(until),
    distinctPictures: trace.distinct[until]!,
    steps: stepsTo(last),
  };
}
