// Methods on a model in half precision, block by block: what learns stays float32, and a resumed run ends as the straight one.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tensorsOf } from '@rldf/common/storage/state-tree';
import { loadPipeline, type Pipeline, savePipeline, tinyXlPipeline } from '@rldf/models';
import { type StateTree, setThreads } from '@rldf/torch';
import { afterAll, expect, test } from 'vitest';
import { loadOptionsOf } from '../config/precision.js';
import type { Recipe } from '../recipe/recipe.js';
import { settle } from '../sampling/model-settings.js';
import { methodOf } from './index.js';
import { brightness as context, minimalRecipe } from './minimal-recipes.fixture.js';
import { copied, words } from './states.fixture.js';

setThreads(1);
const folder = mkdtempSync(join(tmpdir(), 'rldf-precision-'));
const model = join(folder, 'tiny-xl');
savePipeline(tinyXlPipeline(1), model);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function opened(recipe: Recipe): Pipeline {
  const pipeline = loadPipeline(model, loadOptionsOf(recipe));
  settle(pipeline, recipe);
  return pipeline;
}

async function run(recipe: Recipe, from = 0, state?: StateTree) {
  const pipeline = opened(recipe);
  const training = methodOf(recipe).create(recipe, pipeline, context);
  if (state !== undefined) training.load(state);
  const states: StateTree[] = [];
  const rows: Record<string, number>[] = [];
  for await (const event of training.run(from)) {
    if (event.kind !== 'step') continue;
    states.push(copied(training.state()));
    rows.push(event.metrics);
  }
  for (const [path, tensor] of tensorsOf(training.state()))
    if (!path.startsWith('pictures')) expect(`${path} ${tensor.dtype}`).toMatch(/float32$/);
  const last = words(training.state());
  training.free();
  return { states, last, rows };
}

test.each([
  ['ddpo', 'bfloat16', 'lora'],
  ['alignprop', 'float16', 'lora'],
  ['ip-rldf', 'bfloat16', 'lora'],
  ['rwr', 'bfloat16', 'full'],
] as const)('%s in %s, %s: learns, and resumes bit for bit', async (method, precision, unet) => {
  const { train } = minimalRecipe(method);
  const recipe = {
    ...minimalRecipe(method),
    ...(method !== 'ip-rldf' && { epochs: 2 }),
    precision,
    train: { ...train, unet, checkpointing: true, batchSize: 2 },
  } as Recipe;
  const straight = await run(recipe);
  const [first] = straight.states as [StateTree];
  expect(straight.last).not.toBe(words(first));
  for (const row of straight.rows) for (const value of Object.values(row)) expect(value).not.toBeNaN();
  expect((await run(recipe, 1, first)).last === straight.last).toBe(true);
});
