/** What an agent can search: a grid of sentences, and what is seen in their pictures. */

import type { Encoding } from './encoding.js';
import type { Environment, Grid } from './environment.js';
import { goalBonus, type Observation, type SemanticReward } from './rewards.js';

export interface SearchWorldOptions {
  encoding: Encoding;
  grid: Grid;
  goal: number;
  gamma: number;
  reward: Pick<SemanticReward, 'least' | 'most'>;
  /** Added to the goal's reward; default: `goalBonus`, which makes reaching it optimal. */
  bonus?: number;
}

export abstract class SearchWorld implements Environment {
  readonly encoding: Encoding;
  readonly grid: Grid;
  readonly states: number;
  readonly actions: number;
  readonly goal: number;
  readonly gamma: number;
  /** Added to the goal's reward. */
  readonly bonus: number;
  /** Bounds of a picture's reward. */
  readonly leastReward: number;
  readonly mostReward: number;
  /** Distinct states whose reward was asked for: what a search that looks at one picture after the other pays. */
  readonly visited = new Set<number>();

  constructor({ encoding, grid, goal, gamma, reward, bonus }: SearchWorldOptions) {
    this.encoding = encoding;
    this.grid = grid;
    this.states = grid.states;
    this.actions = grid.actions;
    this.goal = goal;
    this.gamma = gamma;
    this.bonus = bonus ?? goalBonus(reward, gamma, grid.diameter);
    this.leastReward = reward.least;
    this.mostReward = reward.most;
  }

  allowed(state: number): readonly number[] {
    return this.grid.allowed(state);
  }

  move(state: number, action: number): number {
    return this.grid.move(state, action);
  }

  /** The picture's own reward, without the bonus. */
  async pictureReward(state: number): Promise<number> {
    return (await this.reward(state)) - (state === this.goal ? this.bonus : 0);
  }

  abstract reward(state: number): number | Promise<number>;

  /** What is recognised in a state's picture. */
  abstract observe(state: number): Promise<Observation>;
}
