import { mean } from '@rldf/common/base/stats';
import { noiseKey, Random } from '@rldf/torch';
import { describe, expect, test } from 'vitest';
import { type Environment, Grid, tabularEnvironment } from '../world/environment.js';
import { goalBonus } from '../world/rewards.js';
import { expectedReward, learnAxisValues, newAxisValues } from './axis-values.js';
import { noisyDiffusionGradient } from './noisy-diffusion-gradient.js';
import { climbHill, enumerate } from './reference.js';
import { exploration, stepSize } from './schedules.js';
import {
  actionValues,
  greedyAction,
  learn,
  newTable,
  policyPath,
  type StepEvent,
  type TabularOptions,
  type TabularState,
  tablePolicy,
} from './tabular.js';
import {
  allRewards,
  evaluateSoftPolicy,
  shareThatReaches,
  softValueIteration,
  valueIteration,
} from './value-iteration.js';

const lengths = [2, 3, 2];
const rewards = [0.5, -1, 1, 0, 0.2, -0.3, 1, 1, 0, -1, 0.7, 0.1];
const small = tabularEnvironment(lengths, 11, rewards, { gamma: 0.6, bonus: 4 });

const options: TabularOptions = {
  agent: 'q',
  epsilon: exploration('1'),
  alpha: stepSize('1/n^0.6'),
  seed: 3,
  episodeSteps: 50,
};

/** Learns `steps` steps; gives the table and what happened. */
async function run(
  environment: Environment,
  settings: TabularOptions,
  steps: number,
  table = newTable(environment, settings),
): Promise<{ table: TabularState; events: StepEvent[] }> {
  const events: StepEvent[] = [];
  for await (const event of learn(environment, settings, table)) {
    events.push(event);
    if (events.length === steps) break;
  }
  return { table, events };
}

/** Largest difference over the entries that exist: those of allowed actions, the goal's row left out. */
function largestError(environment: Environment, a: readonly number[], b: readonly number[]): number {
  const errors = a.map((value, i) => {
    const state = Math.floor(i / environment.actions);
    const exists = state !== environment.goal && environment.allowed(state).includes(i % environment.actions);
    return exists ? Math.abs(value - b[i]!) : 0;
  });
  return Math.max(...errors);
}

describe('value iteration', () => {
  test('two states, by hand', async () => {
    // 0 - 1 - 2, the goal; rewards of entering 1, -1 and 3 + 2
    const line = tabularEnvironment([3], 2, [1, -1, 3], { gamma: 0.5, bonus: 2 });
    const q = valueIteration(line, await allRewards(line));
    // from 1: down = 1 + .5 v(0), up = 5. From 0: up = -1 + .5 v(1) = 1.5
    expect(q[1]).toBeCloseTo(1.5, 8);
    expect(q[2]).toBeCloseTo(1 + 0.5 * 1.5, 8);
    expect(q[3]).toBeCloseTo(5, 8);
    expect(shareThatReaches(line, q)).toBe(1);
  });

  test('satisfies Bellman’s equation everywhere', async () => {
    const all = await allRewards(small);
    const q = valueIteration(small, all);
    for (let state = 0; state < small.states; state++) {
      if (state === small.goal) continue;
      for (const action of small.allowed(state)) {
        const next = small.move(state, action);
        const best = Math.max(...small.allowed(next).map((a) => q[next * small.actions + a]!));
        const value = all[next]! + (next === small.goal ? 0 : 0.6 * best);
        expect(q[state * small.actions + action]).toBeCloseTo(value, 7);
      }
    }
  });
});

test('Q-learning under a decaying step equals value iteration to 1e-3', async () => {
  const exact = valueIteration(small, await allRewards(small));
  const { table } = await run(small, options, 60_000);
  expect(largestError(small, table.q, exact)).toBeLessThan(1e-3);
  const early = await run(small, options, 300);
  expect(largestError(small, early.table.q, exact)).toBeGreaterThan(1e-2);
});

test('a table of afterstates holds the same values in fewer entries', async () => {
  const exact = valueIteration(small, await allRewards(small));
  const { table } = await run(small, { ...options, table: 'afterstates' }, 60_000);
  expect(table.q).toHaveLength(small.states);
  expect(largestError(small, actionValues(small, table), exact)).toBeLessThan(1e-3);
  const policy = tablePolicy(small, table);
  for (let state = 0; state < small.states; state++)
    if (state !== small.goal) expect(policy(state)).toBe(greedyAction(small, exact, state));
});

test('an optimistic agent settles for no loop: it looks at every state before it stays with one', async () => {
  // two good states side by side at the start, the goal in the far corner, nothing on the way
  const paid = Array.from({ length: 5 * 5 }, (_, state) => (state < 2 ? 1 : -1));
  const world = tabularEnvironment([5, 5], 24, paid, { gamma: 0.5, bonus: 1 });
  const settings = {
    ...options,
    table: 'afterstates',
    epsilon: () => 0,
    alpha: () => 1,
    start: 0,
    episodeSteps: 1000,
  } as const;
  const hit = async (least: number) => {
    const { events } = await run(world, { ...settings, initialQ: { least, most: least + 1 } }, 400);
    return events.findIndex(({ reachedGoal }) => reachedGoal);
  };
  expect(await hit(1 / (1 - 0.5))).toBeGreaterThan(0); // v = r_max / (1 - γ)
  expect(await hit(0)).toBe(-1); // as printed: it loiters
});

test('values by axis: the mean, what each value pays more, and one look with the best reward on trust', () => {
  const values = newAxisValues(new Grid([2, 3]), { least: -1, most: 1 });
  expect(expectedReward(values, 5)).toBe(1);
  learnAxisValues(values, 0, 1); // (0, 0)
  learnAxisValues(values, 4, -1); // (1, 1)
  learnAxisValues(values, 4, 1); // the same state: does not count again
  // mean 0; first axis: (1 + 1) / 2 and (-1 + 1) / 2; second: (1 + 1) / 2, (-1 + 1) / 2, 1 / 1
  expect(expectedReward(values, 0)).toBe(1); // 0 + 1 + 1, within the bounds
  expect(expectedReward(values, 4)).toBe(0);
  expect(expectedReward(values, 5)).toBe(1); // 0 + 0 + 1
  expect(expectedReward(values, 1)).toBe(1);
});

test('SARSA settles at the values of its own ε-soft policy, which are not the optimal ones', async () => {
  const epsilon = 0.4;
  const all = await allRewards(small);
  const settings = {
    ...options,
    agent: 'sarsa',
    epsilon: exploration(`${epsilon}`),
    alpha: stepSize('1/n^0.9'),
  } as const;
  const { table } = await run(small, settings, 300_000);
  const own = evaluateSoftPolicy(small, all, table.q, epsilon);
  expect(largestError(small, table.q, own)).toBeLessThan(0.05);
  expect(largestError(small, own, softValueIteration(small, all, epsilon))).toBeLessThan(1e-6);
  expect(largestError(small, own, valueIteration(small, all))).toBeGreaterThan(0.3);
});

test('the random agent learns nothing and takes every action equally often', async () => {
  const { table, events } = await run(
    small,
    { ...options, agent: 'random', initialQ: { least: 0, most: 0 } },
    12_000,
  );
  expect(table.q.every((value) => value === 0)).toBe(true);
  const corner = events.filter(({ state }) => state === 0);
  for (const action of small.allowed(0)) {
    const share = corner.filter((event) => event.action === action).length / corner.length;
    expect(Math.abs(share - 1 / 3)).toBeLessThan(0.05);
  }
});

test.each(['q', 'sarsa', 'random'] as const)(
  '%s: a table saved and resumed goes on as if it had not been',
  async (agent) => {
    const settings = { ...options, agent, epsilon: exploration('0.3-0.1/400') };
    const straight = await run(small, settings, 1000);
    const first = await run(small, settings, 517);
    const saved = JSON.parse(JSON.stringify(first.table)) as TabularState;
    const second = await run(small, settings, 1000 - 517, saved);
    expect([...first.events, ...second.events]).toEqual(straight.events);
    expect(second.table).toEqual(straight.table);
  },
);

test('a table that values unseen states by their axes is saved with what it knows of them', async () => {
  const settings = {
    ...options,
    agent: 'q',
    table: 'afterstates',
    epsilon: exploration('0.2'),
    axes: newAxisValues(small.grid, { least: -1, most: 1 }),
  } as const;
  const copy = () => ({ ...settings, axes: structuredClone(settings.axes) });
  const straight = await run(small, copy(), 60);
  const first = await run(small, copy(), 23);
  const second = await run(small, copy(), 60 - 23, JSON.parse(JSON.stringify(first.table)) as TabularState);
  expect([...first.events, ...second.events]).toEqual(straight.events);
  expect(second.table).toEqual(straight.table);
  expect(straight.table.axes!.counts[0]!.reduce((sum, count) => sum + count)).toBeGreaterThan(5);
});

test('a reward that cannot be had leaves the table as it was, and the next try goes on', async () => {
  const straight = await run(small, options, 40);
  let asked = 0;
  const failing: Environment = {
    ...small,
    reward: async (state) => {
      if (++asked === 23 || asked === 30) throw new Error('endpoint');
      return small.reward(state);
    },
  };
  const table = newTable(failing, options);
  const events: StepEvent[] = [];
  const further = async () => {
    for await (const event of learn(failing, options, table)) if (events.push(event) === 40) return;
  };
  await expect(further()).rejects.toThrow('endpoint');
  await expect(further()).rejects.toThrow('endpoint');
  await further();
  expect(events).toEqual(straight.events);
});

test('a table of another world is refused', async () => {
  const other = tabularEnvironment([4], 3, [0, 0, 0, 0], { gamma: 0.5, bonus: 1 });
  await expect(run(other, options, 1, newTable(small, options))).rejects.toThrow(
    /this search is of q over actions with 4 and 2/,
  );
});

test('the goal ends an episode, unless the agent is to go on', async () => {
  const ended = await run(small, options, 500);
  const hit = ended.events.findIndex(({ next }) => next === small.goal);
  expect(ended.events[hit]).toMatchObject({ reachedGoal: true, ended: true });
  expect(ended.events[hit + 1]).toMatchObject({ episode: ended.events[hit]!.episode + 1 });
  const further = await run(small, { ...options, continueAfterGoal: true, episodeSteps: 500 }, 500);
  const passed = further.events.findIndex(({ next }) => next === small.goal);
  expect(further.events[passed + 1]).toMatchObject({ state: small.goal, episode: 1 });
});

test('enumeration finds the goal after half of the states on average', async () => {
  const line = tabularEnvironment([480], 77, new Array(480).fill(0), { gamma: 0.9, bonus: 1 });
  const needed: number[] = [];
  for (let seed = 0; seed < 400; seed++) {
    const seen = new Set<number>();
    for await (const { state } of enumerate(line, { seed })) seen.add(state);
    expect(seen.has(77)).toBe(true);
    needed.push(seen.size);
  }
  // (480 + 1)/2 with standard error 480/sqrt(12)/20 = 6.9
  expect(Math.abs(mean(needed) - 240.5)).toBeLessThan(3 * 6.9);
});

test('the hill-climber goes straight up a slope, and begins anew on a peak', async () => {
  const slope = tabularEnvironment([10], 9, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], { gamma: 0.9, bonus: 0 });
  const climb = async (environment: Environment) => {
    const states: number[] = [];
    for await (const { state } of climbHill(environment, { seed: 1, start: 3, steps: 500 }))
      states.push(state);
    return states;
  };
  expect((await climb(slope)).length).toBeLessThanOrEqual(1 + 2 * 6);
  const peak = tabularEnvironment([10], 9, [0, 1, 2, 3, 2, 1, 0, 0, 0, 0], { gamma: 0.9, bonus: 1 });
  expect((await climb(peak)).at(-1)).toBe(9);
});

describe('the goal’s bonus', () => {
  /** A world of the default grammar's size whose rewards lie between the bounds, the worst around the goal. */
  const world = (gamma: number, bonus: number, least: number, most: number, seed: number) => {
    const sizes = [2, 5, 2, 3, 8];
    const random = new Random(noiseKey(seed, 'worlds'));
    const goal = random.integer(480);
    const plain = tabularEnvironment(sizes, goal, [], { gamma, bonus });
    const table = Array.from({ length: 480 }, (_, state) => {
      const distance = plain.grid.distance(state, goal);
      return distance > 8 ? most : distance === 0 ? least : random.uniform() < 0.3 ? most : least;
    });
    return tabularEnvironment(sizes, goal, table, { gamma, bonus });
  };
  const bounds = { multi: [-1, 3], partial: [-1, 1], clip: [-1, 1] } as const;

  test.each(Object.entries(bounds))(
    '%s: the optimal policy reaches the goal from everywhere',
    async (_, [least, most]) => {
      for (const gamma of [0.8, 0.95]) {
        for (let seed = 0; seed < 2; seed++) {
          const environment = world(gamma, goalBonus({ least, most }, gamma, 15), least, most, seed);
          const q = valueIteration(environment, await allRewards(environment), 1e-6);
          expect(shareThatReaches(environment, q)).toBe(1);
        }
      }
    },
  );

  test.each(Object.entries(bounds))(
    '%s: a bonus too small makes loitering optimal',
    async (_, [least, most]) => {
      const environment = world(0.8, most, least, most, 0);
      const q = valueIteration(environment, await allRewards(environment), 1e-6);
      expect(shareThatReaches(environment, q)).toBeLessThan(0.9);
      const loop = policyPath(
        environment,
        (state) => greedyAction(environment, q, state),
        environment.goal === 0 ? 479 : 0,
      );
      expect(loop.length).toBeGreaterThan(1);
    },
  );

  test('is exactly enough for the worst world: a line whose far end pays and whose way costs', async () => {
    const [gamma, length] = [0.7, 6];
    const enough = goalBonus({ least: -1, most: 2 }, gamma, length - 1);
    // at the far end two states pay 2 for ever; the rest costs 1
    const line = (bonus: number) =>
      tabularEnvironment([length], length - 1, [2, 2, -1, -1, -1, -1], { gamma, bonus });
    const reaches = async (bonus: number) =>
      shareThatReaches(line(bonus), valueIteration(line(bonus), await allRewards(line(bonus))));
    expect(await reaches(enough)).toBe(1);
    expect(await reaches(enough / 2)).toBeLessThan(1);
  });
});

describe('noisy diffusion gradient', () => {
  const base = {
    lengths: [2, 5, 8],
    start: [0, 0, 0],
    goal: [1, 3, 6],
    rate: 1,
    steps: 60,
    seed: 0,
  } as const;
  const distance = (point: readonly number[]) =>
    point.reduce((sum, value, axis) => sum + Math.abs(value - base.goal[axis]!), 0);
  const follow = async (settings: Partial<Parameters<typeof noisyDiffusionGradient>[0]>) => {
    let looks = 0;
    const objective = (point: readonly number[]) => {
      looks++;
      for (const [axis, value] of point.entries())
        expect(value >= 0 && value < base.lengths[axis]!).toBe(true);
      return distance(point);
    };
    const steps = [];
    for await (const step of noisyDiffusionGradient({
      ...base,
      objective,
      estimator: 'central',
      ...settings,
    }))
      steps.push(step);
    return { steps, looks };
  };

  test('central differences walk down a clean slope one step an axis, at 2 n pictures a step', async () => {
    const { steps, looks } = await follow({});
    expect(steps.at(-1)).toMatchObject({ reachedGoal: true, point: [1, 3, 6] });
    expect(looks).toBe(steps.length * 6);
    expect(steps.length).toBeLessThanOrEqual(8);
  });

  test('SPSA needs 2 pictures a step and finds the goal too', async () => {
    const { steps, looks } = await follow({ estimator: 'spsa', rate: 0.5, steps: 300 });
    expect(looks).toBe(steps.length * 2);
    expect(steps.at(-1)!.reachedGoal).toBe(true);
  });

  test('without a slope it stays where it is, and says so', async () => {
    const { steps } = await follow({ objective: () => 3, steps: 5 });
    expect(steps).toHaveLength(5);
    expect(steps.every(({ plateau, reachedGoal }) => plateau && !reachedGoal)).toBe(true);
  });
});

describe('schedules', () => {
  test('constant, falling, Robbins-Monro', () => {
    expect(exploration('0.1')(10_000)).toBe(0.1);
    expect(exploration('0.5-0.1/100')(50)).toBeCloseTo(0.3);
    expect(exploration('0.5-0.1/100')(1e6)).toBeCloseTo(0.1);
    expect(exploration('1/n')(3)).toBe(0.25);
    expect(stepSize('0.5')(99)).toBe(0.5);
    expect(stepSize('1/n')(4)).toBe(0.25);
    expect(stepSize('1/n^0.6')(32)).toBeCloseTo(1 / 8);
  });

  test.each(['', '-1', '2', 'x', '0.5-2/10', '0.1/0'])('ε %j is refused', (text) => {
    expect(() => exploration(text)).toThrow(/--epsilon/);
  });

  test.each(['', '0', '1.5', '1/n^0.5', '1/n^2', 'fast'])('α %j is refused', (text) => {
    expect(() => stepSize(text)).toThrow(/--alpha/);
  });
});
