/** Exact solutions of small environments (Bellman's optimality equation, paper section 3): what the agents are held against. */

import type { Environment } from '../world/environment.js';
import { greedyAction } from './tabular.js';

/** Action values, [states x actions] row by row; -Infinity for actions that leave the grid, 0 at the goal. */
export type ActionValues = number[];

/** Every state's reward, in order. Draws what was not drawn yet. */
export async function allRewards(environment: Environment): Promise<number[]> {
  const rewards: number[] = [];
  for (let state = 0; state < environment.states; state++) rewards.push(await environment.reward(state));
  return rewards;
}

/**
 * q* by value iteration.
 * @param rewards of entering each state, the goal's bonus included
 * @param tolerance largest error of any value
 */
export function valueIteration(
  environment: Environment,
  rewards: readonly number[],
  tolerance = 1e-9,
): ActionValues {
  return fixedPoint(environment, rewards, tolerance, (q, state) => {
    const row = state * environment.actions;
    return Math.max(...environment.allowed(state).map((action) => q[row + action]!));
  });
}

/** The values of the ε-soft policy that is greedy in its own values: where SARSA with this ε settles. */
export function softValueIteration(
  environment: Environment,
  rewards: readonly number[],
  epsilon: number,
  tolerance = 1e-9,
): ActionValues {
  return fixedPoint(environment, rewards, tolerance, (q, state) => softValue(environment, q, state, epsilon));
}

/** Evaluates the ε-soft policy that is greedy in `policy`, exactly: its own action values. */
export function evaluateSoftPolicy(
  environment: Environment,
  rewards: readonly number[],
  policy: readonly number[],
  epsilon: number,
  tolerance = 1e-9,
): ActionValues {
  return fixedPoint(environment, rewards, tolerance, (q, state) =>
    softValue(environment, q, state, epsilon, greedyAction(environment, policy, state)),
  );
}

function softValue(
  environment: Environment,
  q: readonly number[],
  state: number,
  epsilon: number,
  best = greedyAction(environment, q, state),
): number {
  const row = state * environment.actions;
  const allowed = environment.allowed(state);
  const average = allowed.reduce((sum, action) => sum + q[row + action]!, 0) / allowed.length;
  return (1 - epsilon) * q[row + best]! + epsilon * average;
}

function fixedPoint(
  environment: Environment,
  rewards: readonly number[],
  tolerance: number,
  stateValue: (q: readonly number[], state: number) => number,
): ActionValues {
  const { states, actions, goal, gamma } = environment;
  const q: ActionValues = new Array<number>(states * actions).fill(Number.NEGATIVE_INFINITY);
  for (let state = 0; state < states; state++)
    for (const action of environment.allowed(state)) q[state * actions + action] = 0;
  for (;;) {
    let change = 0;
    for (let state = 0; state < states; state++) {
      if (state === goal) continue;
      for (const action of environment.allowed(state)) {
        const next = environment.move(state, action);
        const value = rewards[next]! + (next === goal ? 0 : gamma * stateValue(q, next));
        change = Math.max(change, Math.abs(value - q[state * actions + action]!));
        q[state * actions + action] = value;
      }
    }
    if (change * gamma <= tolerance * (1 - gamma)) return q;
  }
}

/** Share of the states from which the greedy policy of `q` reaches the goal: 1, or some policy loiters. */
export function shareThatReaches(environment: Environment, q: ActionValues): number {
  const { states, goal } = environment;
  const reaches: (boolean | undefined)[] = [];
  reaches[goal] = true;
  for (let start = 0; start < states; start++) {
    const path: number[] = [];
    let state = start;
    for (
      ;
      reaches[state] === undefined;
      state = environment.move(state, greedyAction(environment, q, state))
    ) {
      reaches[state] = false; // a state met again before an answer is a loop
      path.push(state);
    }
    for (const passed of path) reaches[passed] = reaches[state]!;
  }
  return reaches.filter((reached) => reached).length / states;
}
