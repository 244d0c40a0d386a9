import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { paperAnimals } from '@rldf/emoji-world';
import { expect, test } from 'vitest';
import { recipeNames, recipePath, recipesFolder } from '../cli/shared.js';
import { findConfigs } from '../plan/model-configs.js';
import { plan, processBytes } from '../plan/plan.js';
import { loadPrompts } from '../prompts/prompts.js';
import { loadReward } from '../rewards/index.js';
import { loadRecipe } from './load.js';

test.each(recipeNames())('the shipped recipe %s is good, and its prompts are there', (name) => {
  const recipe = loadRecipe(recipePath(name));
  for (const prompts of [recipe.prompts, recipe.evaluate.prompts, recipe.report.prompts]) {
    if (prompts !== undefined) expect(loadPrompts(prompts).length).toBeGreaterThan(0);
  }
  const header = readFileSync(recipePath(name), 'utf8').split(/^version:/m)[0];
  for (const line of [/^# \S/, /^# Why: {6}\S/m, /^# Hardware: \S/m, /^# Launch: {3}rldf /m])
    expect(header).toMatch(line);
});

test('no prompt of the quickstart’s report is one that is trained on', () => {
  const recipe = loadRecipe(recipePath('quickstart'));
  const trained = new Set(loadPrompts(recipe.prompts).map(({ text }) => text));
  const shown = loadPrompts(recipe.report.prompts!).slice(0, recipe.report.maxPrompts);
  expect(shown.filter(({ text }) => trained.has(text))).toEqual([]);
});

const stableDiffusion = recipeNames().filter((name) => name.startsWith('stable-diffusion/'));

test.each(stableDiffusion)('%s: a known model, and a source for every number', (name) => {
  const text = readFileSync(recipePath(name), 'utf8');
  expect(findConfigs(loadRecipe(recipePath(name)).model)).toBeDefined();
  expect(text).toContain(`# Launch:   rldf train ${name}\n`);
  expect(text).toMatch(/^# Differs: {2}\S/m);
  const [header, ...body] = text.split(/(?=^\w.*:)/m) as [string, ...string[]];
  const sources = /^# Sources: {2}([\s\S]*?)^# Differs/m.exec(header)?.[1] as string;
  const lines = body
    .filter((field) => /^(epochs|rounds|rescale|sample|explore|train|model):/.test(field))
    .flatMap((field) => field.trim().split('\n'));
  // Batch sizes change no result; pictures of an epoch are a product, whose source stands behind its second factor.
  const numbers = lines.filter((line) => !/^\w+:$|^\s*(batchSize|promptsPerEpoch):/.test(line));
  expect(numbers.length).toBeGreaterThan(12);
  for (const line of numbers) {
    const marks = line.split('#')[1]?.match(/\[(ours|[A-Z])\]/g) ?? [];
    expect(marks, line).not.toEqual([]);
    for (const mark of marks) expect(sources, line).toContain(mark);
  }
});

test('rewards/aesthetic.mjs loads without its weights, with a gradient', async () => {
  const module = join(recipesFolder, 'stable-diffusion', 'rewards', 'aesthetic.mjs');
  expect((await loadReward({ module })).differentiable).toBeDefined();
});

test('prompt files of the papers: 45 animals, and 398 of ImageNet', () => {
  const promptsOf = (file: string) =>
    loadPrompts(join(recipesFolder, 'stable-diffusion', 'prompts', file)).map(({ text }) => text);
  expect(promptsOf('animals.txt')).toEqual(paperAnimals.map(({ name }) => name).sort());
  const imageNet = promptsOf('imagenet-animals.txt');
  expect(new Set(imageNet).size).toBe(398);
  expect([imageNet[0], imageNet[397]]).toEqual(['tench', 'puffer']);
});

// All of them, two seconds each: npm run check:docs.
test.each([
  'texforce-phrase',
  'ip-rldf-gligen', // whose boxes are told in the words of a detector of photographs
])('%s: planned from configurations alone, it needs what its header says', async (name) => {
  const path = recipePath(`stable-diffusion/${name}`);
  const { memory } = await plan(loadRecipe(path), { calibration: 0 });
  const said = Number(/^# Hardware: about (\d+) GB/m.exec(readFileSync(path, 'utf8'))?.[1]) * 1e9;
  expect(Math.abs((memory.peak + processBytes) / said - 1)).toBeLessThan(0.15);
});
