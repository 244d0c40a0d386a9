/**
 * Algorithm 1 of the RLDF paper (Marathe 2023): Q-learning, SARSA and random selection on the grid of encodings. One loop;
 * the three differ in what they learn from a step. docs/methods/rldf.md
 */

import { noiseKey, Random } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import type { Environment } from '../world/environment.js';
import { type AxisValues, expectedReward, learnAxisValues } from './axis-values.js';
import type { Exploration, StepSize } from './schedules.js';

export const tabularAgents = ['q', 'sarsa', 'random'] as const;
export type TabularAgent = (typeof tabularAgents)[number];

/**
 * What the table has entries for. `actions`: for Q(v, a), as Algorithm 1. `afterstates`: for the state v' that a leads to
 * (Sutton & Barto 2018, section 6.8). Actions that lead to the same state have the same value R(v') + γ max Q(v', b), so
 * nothing is lost, and what is learned on one way counts on all.
 */
export const tableKinds = ['actions', 'afterstates'] as const;
export type TableKind = (typeof tableKinds)[number];

export interface TabularOptions {
  agent: TabularAgent;
  /** Default `actions`. */
  table?: TableKind;
  epsilon: Exploration;
  alpha: StepSize;
  /** Of the agent: its Q-table, its actions and its start states. */
  seed: number;
  /** Start of every episode; default: drawn anew for each, uniformly among all states but the goal. */
  start?: number;
  /** Steps after which an episode ends without the goal. */
  episodeSteps: number;
  /** Q at the beginning: uniform in [least, most). Default [0, 1); the paper says only: at random. */
  initialQ?: { least: number; most: number };
  /** Adds the reward expected by axis to entries that were not updated yet; `afterstates` only. */
  axes?: AxisValues;
  /** The goal ends no episode: the agent goes on seeking rewards (paper, figure 10). The bonus is then paid at each entry. */
  continueAfterGoal?: boolean;
}

/** Everything that an agent knows; saving it after any step and going on from it changes nothing. */
export interface TabularState {
  agent: TabularAgent;
  states: number;
  actions: number;
  table: TableKind;
  /** [states x actions], row by row; of afterstates [states]. */
  q: number[];
  axes?: AxisValues;
  /** Updates of each entry, in the same order. */
  visits: number[];
  /** Steps done. */
  step: number;
  /** Episodes begun. */
  episode: number;
  /** Steps done in this episode. */
  episodeStep: number;
  /** Where the agent stands; -1: the next step begins an episode. */
  position: number;
  /** SARSA's A', chosen already; -1: none. */
  nextAction: number;
}

export interface StepEvent {
  /** Counted from 1. */
  step: number;
  episode: number;
  state: number;
  action: number;
  reward: number;
  next: number;
  /** Whether this step ended the episode at the goal. */
  reachedGoal: boolean;
  /** Whether this step ended the episode. */
  ended: boolean;
}

/** Q(v, a) at the beginning. */
export function newTable(
  environment: Environment,
  options: Pick<TabularOptions, 'agent' | 'table' | 'seed' | 'initialQ' | 'axes'>,
): TabularState {
  const { states, actions } = environment;
  const random = new Random(noiseKey(options.seed, 'search-table'));
  const { table = 'actions', axes, initialQ: { least, most } = { least: 0, most: 1 } } = options;
  const entries = table === 'actions' ? states * actions : states;
  const q = Array.from({ length: entries }, () => least + (most - least) * random.uniform());
  return {
    agent: options.agent,
    states,
    actions,
    table,
    q,
    ...(axes === undefined ? {} : { axes }),
    visits: new Array<number>(q.length).fill(0),
    step: 0,
    episode: 0,
    episodeStep: 0,
    position: -1,
    nextAction: -1,
  };
}

/** The best allowed action; of several equal ones the first. */
export function greedyAction(environment: Environment, q: readonly number[], state: number): number {
  const row = state * environment.actions;
  return environment
    .allowed(state)
    .reduce((best, action) => (q[row + action]! > q[row + best]! ? action : best));
}

/** Which entry holds Q(v, a). */
function entryOf(environment: Environment, { table, actions }: TabularState, state: number, action: number) {
  return table === 'actions' ? state * actions + action : environment.move(state, action);
}

function entryValue({ q, visits, axes }: TabularState, entry: number): number {
  return axes === undefined || visits[entry]! > 0 ? q[entry]! : q[entry]! + expectedReward(axes, entry);
}

/** Greedy in a table as it is at each call; of several equal actions the first. */
export function tablePolicy(environment: Environment, table: TabularState): (state: number) => number {
  return (state) => {
    let best = -1;
    let most = Number.NEGATIVE_INFINITY;
    for (const action of environment.allowed(state)) {
      const worth = entryValue(table, entryOf(environment, table, state, action));
      if (worth > most) {
        best = action;
        most = worth;
      }
    }
    return best;
  };
}

/** Q(v, a) of all allowed actions as the table has it now, [states x actions]; -Infinity for the others. */
export function actionValues(environment: Environment, table: TabularState): readonly number[] {
  if (table.table === 'actions') return table.q;
  const { states, actions } = environment;
  const values = new Array<number>(states * actions).fill(Number.NEGATIVE_INFINITY);
  for (let state = 0; state < states; state++)
    for (const action of environment.allowed(state))
      values[state * actions + action] = entryValue(table, environment.move(state, action));
  return values;
}

/**
 * Learns without end; the caller stops. `table` is changed in place, and whole between two steps.
 * Yields after every step. All choices are keyed by (seed, step or episode), so that a table that was saved goes on as if
 * it had not been.
 */
export async function* learn(
  environment: Environment,
  options: TabularOptions,
  table: TabularState,
): AsyncGenerator<StepEvent, never> {
  const { agent, epsilon, alpha, seed, episodeSteps, continueAfterGoal = false } = options;
  const { q, visits, axes } = table;
  const { actions, goal, gamma } = environment;
  const kind = options.table ?? 'actions';
  if (
    table.states !== environment.states ||
    table.actions !== actions ||
    table.agent !== agent ||
    table.table !== kind
  ) {
    throw new UserError(
      `Q-table: of agent ${table.agent} over ${table.table} with ${table.states} states and ${table.actions} actions — this search is of ${agent} over ${kind} with ${environment.states} and ${actions}. Give the same grammar, agent and table, or begin anew`,
    );
  }
  const value = (state: number, action: number) =>
    entryValue(table, entryOf(environment, table, state, action));
  const greedy = tablePolicy(environment, table);
  const choose = (state: number, step: number): number => {
    const random = new Random(noiseKey(seed, 'search-action', step));
    const allowed = environment.allowed(state);
    if (agent === 'random' || random.uniform() < epsilon(step)) return random.choice(allowed);
    return greedy(state);
  };
  const startOf = (episode: number): number => {
    if (options.start !== undefined) return options.start;
    const drawn = new Random(noiseKey(seed, 'search-start', episode)).integer(environment.states - 1);
    return drawn < goal ? drawn : drawn + 1;
  };
  for (;;) {
    if (table.position < 0) {
      const start = startOf(table.episode);
      const seen = await environment.reward(start); // an agent sees the picture it begins at
      if (axes !== undefined) learnAxisValues(axes, start, seen);
      table.position = start;
      table.episode++;
      table.episodeStep = 0;
      table.nextAction = -1;
    }
    const { step, position: state } = table;
    const action = table.nextAction >= 0 ? table.nextAction : choose(state, step);
    const next = environment.move(state, action);
    const reward = await environment.reward(next);

    const reachedGoal = next === goal && !continueAfterGoal;
    const ended = reachedGoal || table.episodeStep + 1 >= episodeSteps;
    const nextAction = agent === 'sarsa' && !reachedGoal ? choose(next, step + 1) : -1;
    if (agent !== 'random') {
      // R + γ max_a Q(Υ', a), or R + γ Q(Υ', A'); the goal's own value is 0. An episode that was cut off goes on in thought.
      const following = reachedGoal ? 0 : value(next, agent === 'sarsa' ? nextAction : greedy(next));
      const entry = entryOf(environment, table, state, action);
      const before = entryValue(table, entry);
      q[entry] = before + alpha(++visits[entry]!) * (reward + gamma * following - before);
      if (axes !== undefined && next !== goal) learnAxisValues(axes, next, reward);
    }
    table.step = step + 1;
    table.episodeStep++;
    table.position = ended ? -1 : next;
    table.nextAction = ended ? -1 : nextAction;
    yield { step: table.step, episode: table.episode, state, action, reward, next, reachedGoal, ended };
  }
}

/** States from `start` along a policy, up to the goal or the first state that is met twice. */
export function policyPath(
  environment: Environment,
  act: (state: number) => number,
  start: number,
): number[] {
  const path = [start];
  const seen = new Set(path);
  for (let state = start; state !== environment.goal; ) {
    state = environment.move(state, act(state));
    path.push(state);
    if (seen.has(state)) break;
    seen.add(state);
  }
  return path;
}
