import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import type { HttpRewardRequest } from '../rewards/remote/http.js';
import { serve } from '../rewards/remote/server.fixture.js';
import type { Reward } from '../rewards/reward.js';
import { readMetrics } from '../run/metrics.js';
import { openRun } from '../run/run.js';
import { resume, train } from './from-recipe.js';
import { drain, fingerprint, saveTinyModel, tinyRecipe } from './tiny-run.fixture.js';

const root = mkdtempSync(join(tmpdir(), 'rldf-remote-'));
let model: string;
beforeAll(() => {
  model = saveTinyModel(join(root, 'model'));
});

/** Scores by the length of the PNG files; refuses requests from one number up to another. */
const server = (from = Number.POSITIVE_INFINITY, to = Number.POSITIVE_INFINITY) =>
  serve<HttpRewardRequest>(({ body, method }, count, response) => {
    if (method === 'GET') return {};
    if (count >= from && count < to) return void response.writeHead(400).end('{"error": "out of memory"}');
    return { scores: body.pictures.map(({ png }) => png.length) };
  });

const recipeOf = (address: string, epochs: number) => ({
  ...tinyRecipe(model, epochs),
  reward: [{ reward: { http: address, as: 'length', batch: 64 }, normalise: 'running' }],
  evaluate: { every: 2, maxPrompts: 1 },
  report: { maxPrompts: 1 },
  checkpoint: { every: 10 },
});

async function resumedAfter(from: number, name: string) {
  const { address } = await server(from, from + 1);
  await expect(drain(train(recipeOf(address, 3), { name, root }))).rejects.toThrow(
    /^reward length: .* answered 400 \(out of memory\), for .* Look at the server, then continue with `rldf resume /,
  );
  const run = openRun(name, root);
  const saved = run.checkpoints().map(({ step }) => step);
  await drain(resume(name, { root }));
  return { saved, run };
}

test('a server that fails loses no finished step: the resumed run ends like an uninterrupted one', async () => {
  const { address, asked } = await server();
  await drain(train(recipeOf(address, 3), { name: 'whole', root }));
  // two evaluations before, then an epoch, an epoch, a validation, an epoch
  const sizes = asked.map(({ body }) => body.pictures.length);
  expect(sizes.slice(0, 6)).toEqual([1, 1, 4, 4, 1, 4]);
  const { saved, run } = await resumedAfter(6, 'in-epoch-3');
  expect(saved).toEqual([0, 2]);
  expect({ ...fingerprint(run), checkpoints: [] }).toEqual({
    ...fingerprint(openRun('whole', root)),
    checkpoints: [],
  });
});

test('where only the validation of a step fails, the step is kept without it', async () => {
  const { saved, run } = await resumedAfter(5, 'in-validation');
  expect(saved).toEqual([0, 2]);
  const rows = readMetrics(run.metricsPath);
  expect(rows.map(({ step }) => step)).toEqual([0, 1, 2, 3]);
  expect(rows.map((row) => typeof row['validation/reward'])).toEqual(['number', 'undefined', 'undefined', 'number']); // biome-ignore format: one thought
});

test('pictures are handed to a reward that can begin as soon as they are drawn', async () => {
  const told: string[] = [];
  const shape = (images: { shape: readonly number[] }, prompts: readonly string[]) => `${images.shape[0]} of ${prompts.length}`; // biome-ignore format: one thought
  const reward: Reward = {
    name: 'counting',
    unit: '',
    begin: ({ images, prompts }) => void told.push(`begin ${shape(images, prompts)}`),
    score: ({ images, prompts }) => {
      told.push(`score ${shape(images, prompts)}`);
      return prompts.map((_, i) => i);
    },
  };
  for (const recipe of [
    { ...recipeOf('http://localhost:1', 1), sample: { ...tinyRecipe(model, 1).sample, batchSize: 2 } },
    {
      ...recipeOf('http://localhost:1', 1),
      method: 'rwr',
      sample: { steps: 3, promptsPerEpoch: 2, picturesPerPrompt: 2, batchSize: 2 },
      train: { unet: 'lora', rank: 2, updatesPerEpoch: 1, batchSize: 2 },
    },
  ]) {
    told.length = 0;
    await drain(train(recipe, { name: `begin-${recipe.method}`, root, reward }));
    const first = told.findIndex((one) => one.startsWith('begin'));
    expect(told.slice(first, first + 3)).toEqual(['begin 2 of 2', 'begin 2 of 2', 'score 4 of 4']);
  }
});
