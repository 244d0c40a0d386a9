import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findModel } from '@rldf/common/instruments/models';
import { loadPipeline, savePipeline, tinyPipeline, tinyXlPipeline } from '@rldf/models';
import { setThreads } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { afterAll, expect, test } from 'vitest';
import { minimalRecipe } from '../methods/minimal-recipes.fixture.js';
import { checkRecipe } from '../recipe/load.js';
import { parseBytes } from './bytes.js';
import type { Fitted } from './fit.js';
import { fit } from './fit.js';
import type { MemoryPrediction } from './miniature.js';
import { configNames, findConfigs } from './model-configs.js';
import { plan } from './plan.js';
import { mostInvolved } from './small-recipe.js';

setThreads(1);
const folder = mkdtempSync(join(tmpdir(), 'rldf-plan-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const recipeOf = (more: object = {}) =>
  checkRecipe({
    method: 'ddpo',
    prompts: ['a cat', 'a dog'],
    reward: 'jpeg-compressibility',
    epochs: 2,
    sample: { steps: 4, promptsPerEpoch: 2, picturesPerPrompt: 4, batchSize: 8 },
    train: { clipNats: 2, batchSize: 4, rank: 4 },
    ...more,
  });

test('parameters of the shipped model and of Stable Diffusion, as published', async () => {
  const pipeline = loadPipeline(findModel('emoji').path);
  const expected = Object.fromEntries(
    Object.entries(pipeline.parameters).map(([name, { count }]) => [name, count]),
  );
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  const one = recipeOf({
    sample: { steps: 2, promptsPerEpoch: 1, picturesPerPrompt: 2, batchSize: 1 },
    train: { clipNats: 2, batchSize: 1, rank: 4 },
    evaluate: { maxPrompts: 1 },
    report: { maxPrompts: 1 },
  });
  const [emoji, sd15, sd21] = await Promise.all(
    ['emoji', 'sd-1.5', 'somebody/stable-diffusion-2-1'].map((model) => plan(one, { model, calibration: 0 })),
  );
  expect(emoji!.memory.parameters).toMatchObject(expected);
  expect(sd15!.memory.parameters).toMatchObject({
    unet: 859_520_964,
    textEncoder: 123_060_480,
    vae: 83_653_863,
    trained: 797_184,
  });
  expect(sd21!.memory.parameters).toMatchObject({
    unet: 865_910_724,
    textEncoder: 340_387_840,
    vae: 83_653_863,
  });
  const { peak, phases, parts } = emoji!.memory;
  expect(peak).toBe(Math.max(...Object.values(phases)));
  expect(Object.values(parts).reduce((sum, bytes) => sum + bytes, 0)).toBeCloseTo(phases.learning, 0);
  for (const bytes of Object.values(parts)) expect(bytes).toBeGreaterThanOrEqual(0);
});

test('a tiny model: memory chosen by halving; the batch that the algorithm sees stays', async () => {
  const model = join(folder, 'tiny');
  savePipeline(tinyPipeline(), model);
  const free = await plan(recipeOf(), { model, calibration: 0 });
  expect(free).toMatchObject({ chosen: { sample: 8, train: 4 }, fits: true, limit: null, seconds: null });
  expect(free.arithmetic.pictures).toBe(16);
});

// One of each kind; a process each, so not all.
test.each(['raft', 'alignprop'])('%s: its training runs on shapes alone', async (method) => {
  const model = join(folder, `tiny-${method}`);
  savePipeline(tinyPipeline(), model);
  const { arithmetic, memory } = await plan(minimalRecipe(method), { model, calibration: 0 });
  expect(arithmetic.pictures).toBeGreaterThan(0);
  const { drawing, learning } = memory.phases;
  expect(Math.max(drawing, learning)).toBeGreaterThan(memory.parts.weights);
  expect(memory.parameters.trained).toBeGreaterThan(0);
  for (const bytes of Object.values(memory.parts)) expect(bytes).toBeGreaterThanOrEqual(0);
});

test('ip-rldf: the pictures that it keeps count, in memory and in each checkpoint; on a GPU that is not here', async () => {
  const model = join(folder, 'tiny-kept');
  savePipeline(tinyPipeline(), model);
  const pictures = {
    sample: { steps: 3, promptsPerEpoch: 50, picturesPerPrompt: 4, batchSize: 4, picturesPerStep: 40 },
  };
  const many = Array.from({ length: 1000 }, (_, i) => `a cat ${i}`);
  const more = { ...pictures, prompts: many.slice(0, 50), device: 'cuda', evaluate: { maxPrompts: 2 } };
  const of = (extra: object) =>
    plan(minimalRecipe('ip-rldf', { ...more, ...extra }), { model, calibration: 0 });
  const [alone, anchored] = await Promise.all([of({}), of({ base: { prompts: many, ratio: 20 } })]);
  const store = 20 * 200 * 4 * 4 * 4 * 2; // base pictures in half precision
  expect(anchored!.disk.checkpoint - alone!.disk.checkpoint).toBe(store);
  expect(anchored!.disk.checkpoints).toBe(4 * anchored!.disk.checkpoint); // two are kept by default
  for (const phase of ['drawing', 'learning', 'evaluation'] as const)
    expect(anchored!.memory.phases[phase] - alone!.memory.phases[phase]).toBeCloseTo(store, -3);
  expect(anchored!.memory.phases.loading - alone!.memory.phases.loading).toBe(2 * store);
  expect(alone!.memory.parts.trajectories).toBe(200 * 4 * 4 * 4 * 2);
});

test('a GPU: no weights in another order, no reordered operands; no time where there is none', async () => {
  const one = { sample: { steps: 2, promptsPerEpoch: 1, picturesPerPrompt: 2, batchSize: 1 } };
  const of = (device: string) =>
    plan(recipeOf({ ...one, device, evaluate: { maxPrompts: 1 }, report: { maxPrompts: 1 } }), {
      model: 'sd-1.5',
      calibration: device === 'cpu' ? 0 : 5,
    });
  const [cpu, cuda] = await Promise.all([of('cpu'), of('cuda:63')]);
  expect(cuda!.seconds).toBeNull();
  expect(cuda!.memory.parts.temporary).toBeLessThan(cpu!.memory.parts.temporary);
  expect(cuda!.memory.phases.drawing).toBeLessThan(cpu!.memory.phases.drawing);
});

/** Memory that grows with the batches, so that the choice can be reckoned by hand. */
const measured = (learning: number, drawing: number): MemoryPrediction => ({
  peak: Math.max(learning, drawing),
  phases: { learning, drawing, evaluation: 0, loading: 0 },
  parts: {
    weights: 0,
    adapters: 0,
    optimiser: 0,
    gradients: 0,
    trajectories: 0,
    activations: 0,
    temporary: 0,
  },
  parameters: { unet: 0, vae: 0, textEncoder: 0, trained: 0 },
  checkpoint: 0,
});
const work = { drawing: [], learning: [], decoding: [], drawnSteps: 1, learnedSteps: 1, pictures: 1 };
const byHand = (limit: number | undefined, recipe = recipeOf()): Promise<Fitted> =>
  fit(recipe, limit, async ({ sample, train }) => ({
    memory: measured((train.unet === 'full' ? 1000 : 100) + 10 * train.batchSize, 100 + 5 * sample.batchSize),
    work,
  }));

test('each batch is halved only while its own phase does not fit', async () => {
  expect(await byHand(undefined)).toMatchObject({ chosen: { sample: 8, train: 4 }, fits: true });
  expect(await byHand(140)).toMatchObject({ chosen: { sample: 8, train: 4 }, fits: true });
  expect(await byHand(125)).toMatchObject({ chosen: { sample: 4, train: 2 }, fits: true });
  expect(await byHand(109)).toMatchObject({ chosen: { sample: 1, train: 1 }, fits: false });
});

test('what cannot fit says what would: first what learns the same, each beside those before it', async () => {
  const full = recipeOf({ train: { clipNats: 2, unet: 'full', batchSize: 4 } });
  const found = await byHand(120, full);
  expect(found.fits).toBe(false);
  const first = '--set train.checkpointing=true';
  const same = `${first} --set precision=bfloat16`;
  const rows = found.wayOut.map(({ settings, peak, fits, learns }) => [settings, peak, fits, learns]);
  expect(rows).toEqual([
    [first, 1010, false, 'the same but for rounding'],
    [same, 1010, false, 'the same but for rounding'],
    [`${same} --set train.unet=lora`, 110, true, 'something else'],
    [`${same} --set sample.promptsPerEpoch=${full.sample.promptsPerEpoch / 2}`, 1010, false, 'something else'],
    [`${same} --set sample.picturesPerPrompt=${full.sample.picturesPerPrompt / 2}`, 1010, false, 'something else'],
  ]); // biome-ignore format: one a line
  const halved = await fit(full, 600, async ({ precision }) => ({
    memory: measured(precision === 'bfloat16' ? 500 : 1000, 100),
    work,
  }));
  expect(halved.wayOut.map(({ settings, fits }) => [settings, fits])).toEqual([[first, false], [same, true]]); // biome-ignore format: one thought
});

test('pictures that learn from one step: all without a fraction, else by the largest of binomial numbers', () => {
  expect(mostInvolved(recipeOf(), 4)).toBe(4);
  const half = recipeOf({
    epochs: 10,
    sample: { steps: 10, promptsPerEpoch: 16, picturesPerPrompt: 4 },
    train: { clipNats: 2, timestepFraction: 0.5, updatesPerEpoch: 2 },
  });
  expect(mostInvolved(half, 32)).toBe(16 + Math.ceil(Math.sqrt(2 * Math.log(200)) * Math.sqrt(8)));
});

test('sizes and names, and what is wrong with them', async () => {
  expect(['12GB', '1.5 MB', '16GiB', '2g', '300'].map(parseBytes)).toEqual([
    12e9,
    1.5e6,
    16 * 2 ** 30,
    2e9,
    300,
  ]);
  for (const wrong of ['', 'many', '12 XB', '0GB', '-3GB'])
    expect(() => parseBytes(wrong)).toThrow(UserError);
  expect(configNames()).toEqual(['gligen-text-box', 'sd-1.5', 'sd-2.1', 'sd-2.1-base', 'sdxl-base-1.0']);
  expect(findConfigs('runwayml/stable-diffusion-v1-5')?.unet.cross_attention_dim).toBe(768);
  await expect(plan(recipeOf(), { model: 'sd-9' })).rejects.toThrow(
    /neither here nor known by its configurations.*sd-1\.5/,
  );
  await expect(plan(recipeOf(), { memory: 1e6 })).rejects.toThrow(UserError);
});

test('half precision, checkpointing and what lies off a GPU are planned: by the bytes of their weights', async () => {
  const model = join(folder, 'tiny-xl');
  savePipeline(tinyXlPipeline(), model);
  const planned = async (more: object) => (await plan(recipeOf(more), { model, calibration: 0 })).memory;
  const train = { clipNats: 2, batchSize: 4, rank: 4 };
  const gpu = { device: 'cuda' };
  const [wide, mixed, again] = await Promise.all([
    planned(gpu),
    planned({ ...gpu, precision: { unet: 'float16' }, offload: true }),
    planned({ ...gpu, precision: 'bfloat16', train: { ...train, checkpointing: true } }),
  ]);
  const { unet, vae, textEncoder, textEncoder2 = 0 } = wide.parameters;
  const all = unet + vae + textEncoder + textEncoder2;
  expect(wide.parts.weights).toBe(4 * all);
  expect(mixed.parts.weights).toBe(2 * unet);
  expect(again.parts.weights).toBe(2 * all);
  for (const { parts } of [mixed, again]) expect(parts.optimiser).toBe(wide.parts.optimiser); // float32
  expect(mixed.parts.activations).toBeLessThan(0.75 * wide.parts.activations);
  expect(again.parts.activations).toBeLessThan(0.35 * wide.parts.activations);
});
