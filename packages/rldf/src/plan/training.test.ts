import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { savePipeline, tinyPipeline } from '@rldf/models';
import { UserError } from '@rldf/torch/errors';
import { afterAll, expect, test } from 'vitest';
import { minimalRecipe } from '../methods/minimal-recipes.fixture.js';
import { checkRecipe } from '../recipe/load.js';
import { plan, processBytes } from './plan.js';
import { checkTraining, roughly } from './training.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-training-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const model = join(folder, 'tiny');
const pipeline = tinyPipeline();
savePipeline(pipeline, model);
for (const parameters of Object.values(pipeline.parameters)) parameters.free();

const recipeOf = (sample: object = {}) =>
  checkRecipe({
    method: 'ddpo',
    model,
    prompts: ['a cat', 'a dog'],
    reward: 'jpeg-compressibility',
    epochs: 2,
    sample: { steps: 4, promptsPerEpoch: 2, picturesPerPrompt: 4, batchSize: 8, ...sample },
    train: { clipNats: 2, batchSize: 4, rank: 4 },
  });
const words = (recipe: ReturnType<typeof recipeOf>, check: Parameters<typeof checkTraining>[1]) =>
  checkTraining(recipe, check).then(String, (error: Error) => error.message);

test('what is small for the machine is not asked about, nor what a GPU computes', async () => {
  const recipe = recipeOf();
  expect(await words(recipe, { memory: 2 * roughly(recipe) })).toBe('undefined');
  expect(await words({ ...recipe, device: 'cuda' }, { memory: 1 })).toBe('undefined');
});

test('beyond the memory it is refused: with batches that fit, with a change that does, or with neither', async () => {
  const recipe = recipeOf();
  const { memory, askedMemory } = await plan(recipe, { calibration: 0 });
  expect(roughly(recipe)).toBeGreaterThan(processBytes + memory.peak); // or it would begin and be killed
  // a little less than what is needed: as planned, the same is learned from smaller batches
  const tight = { memory: processBytes + Math.round(askedMemory.peak * 0.9) };
  const fitting = await words(recipe, tight);
  expect(fitting).toContain('ddpo on tiny: about ');
  expect(fitting).toMatch(/, and this machine has [\d.]+ MB — what does not fit is killed\. Use --set /);
  expect(fitting).toMatch(/--set \w+\.batchSize=[1-4]; what is learned stays the same$/);
  expect(await words(recipe, { ...tight, begun: true })).toMatch(
    /killed\. Continue it where there is more memory$/,
  );
  const none = await checkTraining(recipe, { memory: 1 }).catch((error) => error);
  expect(none).toBeInstanceOf(UserError);
  expect(none.message).toMatch(
    /Even one picture at a time takes .*: draw fewer pictures an epoch, or take a smaller model or a larger machine$/,
  );
});

test('pictures of an epoch count, however small the batches', async () => {
  const many = recipeOf({ promptsPerEpoch: 2, picturesPerPrompt: 500_000 });
  expect(await words(many, { memory: 2e9 })).toMatch(
    / --set sample\.promptsPerEpoch=1 or .* --set sample\.picturesPerPrompt=250000, which learns something else$/,
  );
});

test.each(['alignprop'])('%s: the rough number is above the plan', async (method) => {
  const recipe = { ...minimalRecipe(method), model };
  const { peak } = (await plan(recipe, { calibration: 0 })).memory;
  expect(roughly(recipe)).toBeGreaterThan(processBytes + peak);
});
