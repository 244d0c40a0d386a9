import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tinyPipeline } from '@rldf/models';
import { setThreads } from '@rldf/torch';
import { afterAll, expect, test } from 'vitest';
import { minimalRecipe, prompts } from '../methods/minimal-recipes.fixture.js';
import { checkRecipe } from '../recipe/load.js';
import type { Reward } from '../rewards/reward.js';
import { WeightedReward } from '../rewards/weighted.js';
import { openRun } from '../run/run.js';
import { needsBasePictures, scoreBasePictures } from './base-pictures.js';
import { resume, train } from './from-recipe.js';
import { drain, saveTinyModel } from './tiny-run.fixture.js';

setThreads(1);
const folder = mkdtempSync(join(tmpdir(), 'rldf-base-pictures-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Brightness of each picture, and all pictures that it was shown. */
function brightness(name: string) {
  const shown: string[] = [];
  const reward: Reward = {
    name,
    unit: '',
    score: ({ images }) => {
      const pixels = images.toArray() as Uint8Array;
      const size = pixels.length / (images.shape[0] as number);
      return Array.from({ length: images.shape[0] as number }, (_, i) => {
        const picture = pixels.slice(i * size, (i + 1) * size);
        shown.push(picture.join());
        return picture.reduce((sum, value) => sum + value, 0) / size;
      });
    },
  };
  return { shown, reward };
}

const kept = (floor: 'base' | number) => {
  const watched = brightness('b');
  const parts = [
    { reward: brightness('a').reward, normalise: 'none' as const },
    { reward: watched.reward, normalise: 'none' as const, floor },
  ];
  return { ...watched, weighted: new WeightedReward(parts) };
};
const exploring = { guidance: { steps: 1, low: 0 }, words: { minimum: 3, maximum: 5 } };

test('only a floor at the base, under exploration from the first epoch on, needs pictures of its own', () => {
  const explored = minimalRecipe('rwr', { explore: exploring });
  const plain = minimalRecipe('rwr', { explore: null });
  expect(needsBasePictures(explored, kept('base').weighted)).toBe(true);
  expect(needsBasePictures(plain, kept('base').weighted)).toBe(false);
  expect(needsBasePictures(explored, kept(3).weighted)).toBe(false);
  expect(needsBasePictures(explored, brightness('a').reward)).toBe(false);
});

test('they are those that would be drawn without exploring, as many as in an epoch; the floor is their mean', async () => {
  const [explored, plain] = await Promise.all(
    [exploring, null].map(async (explore) => {
      const { shown, weighted } = kept('base');
      const recipe = minimalRecipe('rwr', {
        explore,
        sample: { steps: 3, promptsPerEpoch: 2, picturesPerPrompt: 2, batchSize: 3 },
      });
      const given = prompts.map((text) => ({ text, meta: null }));
      await drain(scoreBasePictures(recipe, tinyPipeline(1), given, weighted));
      const { multipliers } = weighted.state() as { multipliers: { floor: number }[] };
      return { shown, floor: multipliers[1]?.floor as number };
    }),
  );
  expect(explored).toEqual(plain);
  expect(explored?.shown).toHaveLength(4);
  const means = explored?.shown.map((picture) => {
    const pixels = picture.split(',').map(Number);
    return pixels.reduce((sum, value) => sum + value, 0) / pixels.length;
  }) as number[];
  expect(explored?.floor).toBeCloseTo(means.reduce((sum, value) => sum + value, 0) / means.length, 10);
});

test('a run draws them once, before its first step; its floor survives resuming', async () => {
  const recipe = checkRecipe({
    ...{ method: 'rwr', model: saveTinyModel(join(folder, 'model')), prompts, threads: 1, epochs: 1 },
    reward: [{ reward: 'jpeg-compressibility' }, { reward: 'jpeg-incompressibility', floor: 'base' }],
    explore: exploring,
    sample: { steps: 3, promptsPerEpoch: 2, picturesPerPrompt: 2 },
    train: { rank: 2, updatesPerEpoch: 1, innerEpochs: 1 },
    checkpoint: { every: 1, keep: 9 },
  });
  const events = await drain(train(recipe, { name: 'run', root: folder }));
  const evaluating = events.flatMap((event) => (event.kind === 'evaluating' ? [event.what] : []));
  expect(evaluating).toEqual(['test', 'validation', 'base', 'validation', 'test']);
  const run = openRun('run', folder);
  const floors = run.checkpoints().map(({ path }) => {
    const text = readFileSync(join(path, 'state.json'), 'utf8');
    return /"floor":\s*(-?[\d.]+)/.exec(text)?.[1];
  });
  expect(floors).toHaveLength(2);
  expect(floors[0]).toBeDefined();
  expect(floors[1]).toBe(floors[0]);
  const again = await drain(resume('run', { root: folder }));
  expect(again.some((event) => event.kind === 'evaluating' && event.what === 'base')).toBe(false);
});
