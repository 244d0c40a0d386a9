// Resume equals the straight run, for every method of the registry: weights, optimiser and metrics bit for bit.
import { type Pipeline, tinyPipeline, tinyXlPipeline } from '@rldf/models';
import { type StateTree, setThreads } from '@rldf/torch';
import { expect, test } from 'vitest';
import type { Recipe } from '../recipe/recipe.js';
import { comparableRow } from '../run/metrics.js';
import { methodOf, methods } from './index.js';
import { brightness as context, minimalRecipe } from './minimal-recipes.fixture.js';
import { copied, words } from './states.fixture.js';

setThreads(1);

/** Runs to the end, from a state saved after step `from`. */
async function run(recipe: Recipe, pipeline: Pipeline, from = 0, state?: StateTree) {
  const training = methodOf(recipe).create(recipe, pipeline, context);
  if (state !== undefined) training.load(state);
  const rows: unknown[] = [];
  const states: StateTree[] = [];
  for await (const event of training.run(from)) {
    if (event.kind !== 'step') continue;
    rows.push(comparableRow({ step: event.step, pictures: event.pictures, ...event.metrics }));
    states.push(copied(training.state()));
  }
  const last = words(training.state());
  training.free();
  return { rows, states, last };
}

const kinds = { 'Stable Diffusion 1.x': tinyPipeline, XL: tinyXlPipeline };
const cases = Object.keys(methods).flatMap((method) =>
  (Object.keys(kinds) as (keyof typeof kinds)[]).map((kind) => [method, kind] as const),
);

test.each(cases)('%s on %s: what is resumed ends as the straight run, bit for bit', async (method, kind) => {
  const { train, ...recipe } = minimalRecipe(method);
  const text = kind === 'XL' ? { textEncoder: 'lora', textEncoder2: 'lora' } : {}; // all three networks learn
  const whole = { ...recipe, train: { ...train, ...text } } as Recipe;
  const straight = await run(whole, kinds[kind](1));
  expect(straight.rows.length).toBeGreaterThan(1);
  expect(straight.last).not.toBe(words(straight.states[0] as StateTree));
  const resumed = await run(whole, kinds[kind](1), 1, straight.states[0]);
  expect(resumed.rows).toEqual(straight.rows.slice(1));
  expect(resumed.last === straight.last).toBe(true);
});
