// Methods on a model in half precision, block by block: what learns stays float32, and a resumed run ends as the straight one.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findModel } from '@rldf/common/instruments/models';
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

test('ddpo in half precision: a ratio off by rounding alone stops the run where it would be clipped, and not where there is no ratio', async () => {
  const ddpo = (train: object) =>
    ({
      ...minimalRecipe('ddpo', { model: 'emoji', epochs: 1, precision: 'bfloat16', explore: null }),
      train: { ...minimalRecipe('ddpo').train, batchSize: 1, updatesPerEpoch: 1, ...train },
    }) as Recipe;
  const learn = async (recipe: Recipe) => {
    const training = methodOf(recipe).create(recipe, emoji(recipe), context);
    for await (const event of training.run(0)) if (event.kind === 'step') return event.metrics;
    return undefined;
  };
  const emoji = (recipe: Recipe) => {
    const pipeline = loadPipeline(findModel('emoji').path, loadOptionsOf(recipe));
    settle(pipeline, recipe);
    return pipeline;
  };
  await expect(learn(ddpo({ clipNats: 0.01 }))).rejects.toThrow(
    /^ddpo: before the first update of epoch 1 the ratio differs from 1 by [\d.e-]+, most likely by the rounding of bfloat16; the clip is at [\d.e-]+ — what is clipped teaches nothing/,
  );
  const metrics = await learn(ddpo({ clipNats: undefined, estimator: 'sf' }));
  expect(metrics?.['policy/firstRatioError']).toBeGreaterThan(0.01 / 2048);
});
