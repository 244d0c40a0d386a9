import { expect, test } from 'vitest';
import { grammarFile } from '../recipes.fixture.js';
import { Encoding } from '../world/encoding.js';
import { Grid } from '../world/environment.js';
import { readGrammar } from '../world/grammar.js';
import type { Observation } from '../world/rewards.js';
import { SearchWorld } from '../world/search-world.js';
import { defaultLearner } from './default-learner.js';
import { type FollowOptions, follow, newSearch } from './follow.js';

/** A clone's world: 123 nouns in a row; every picture shows the right scene, a few seem to show the object too. */
class Nouns extends SearchWorld {
  constructor(goal: number) {
    const encoding = new Encoding(readGrammar(grammarFile('objects')));
    const grid = new Grid(encoding.axes.map(({ order }) => order.length));
    super({ encoding, grid, goal, gamma: 0.9, reward: { least: -1, most: 2 } });
  }
  reward(state: number): number {
    this.visited.add(state);
    if (state === this.goal) return 2 + this.bonus;
    return state % 17 === 0 ? 2 : 1;
  }
  observe(): Promise<Observation> {
    throw new Error('nobody looks');
  }
}

const found = async (goal: number, learner: Partial<FollowOptions>) => {
  const world = new Nouns(goal);
  const options = { ...learner, agent: 'q', seed: 0, steps: 5000 } as const;
  const followed = newSearch(world, options);
  for await (const _ of follow(world, options, followed));
  return { reached: followed.trace.states[followed.trace.best] === goal, pictures: world.visited.size };
};

test('it finds every noun of a clone’s world; Algorithm 1 as printed does not', async () => {
  const goals = [3, 41, 77, 115];
  const tuned = await Promise.all(goals.map((goal) => found(goal, defaultLearner)));
  expect(tuned.every(({ reached }) => reached)).toBe(true);
  const printed = await Promise.all(goals.map((goal) => found(goal, { epsilon: '0.1' })));
  expect(printed.filter(({ reached }) => reached).length).toBeLessThan(goals.length);
});
