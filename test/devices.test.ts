// Everything of a run lies where the recipe says: on a GPU that is not there, which refuses tensors of two devices.
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadPipeline } from '@rldf/models';
import { defaultRecipe, setOf, trainClassifier } from '@rldf/search/clone';
import { type Device, free, setThreads, tensor } from '@rldf/torch';
import { evaluate, findModel, loadDetector, loadReward, methods, openRun, readMetrics, train } from 'rldf';
import { type IpRldfRecipe, worldPictures } from 'rldf/learning';
import { cards } from 'rldf/rewards';
import { drain, fingerprint, minimalRecipe, saveTinyModel } from 'rldf/testing';
import { afterAll, beforeEach, expect, test, vi } from 'vitest';
import { deviceRecipe } from './device-recipes.fixture.js';

vi.hoisted(() => {
  process.env.RLDF_TORCH_ADDON = new URL('./fake-cuda.cjs', import.meta.url).pathname;
});
const { seen } = createRequire(import.meta.url)('./fake-cuda.cjs') as {
  seen: { fetched: number[][]; made: number };
};

setThreads(1);
const folder = mkdtempSync(join(tmpdir(), 'rldf-devices-'));
const root = join(folder, 'runs');
const model = saveTinyModel(join(folder, 'model'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeEach(() => {
  seen.fetched.length = 0;
  seen.made = 0;
});

const picture = () => tensor(new Uint8Array(3 * 64 * 64).fill(200), { shape: [1, 64, 64, 3] });
/** Pictures among what was fetched from the GPU to be scored on the CPU. */
const fetchedPictures = () =>
  seen.fetched.filter((shape) => shape.length === 4 && (shape[1] === 3 || shape[3] === 3));

test('the GPU that is not there refuses tensors of two devices', () => {
  const [here, there] = [tensor([1, 2]), tensor([1, 2], { device: 'cuda' })];
  expect(there.add(there).device).toBe('cuda:0');
  expect(() => here.add(there)).toThrow(/same device/);
  expect(here.add(there.to('cpu')).toNumbers()).toEqual([2, 4]);
});

const networks = Object.keys(cards).filter(
  (name) => !name.startsWith('jpeg-c') && !name.startsWith('jpeg-i'),
);

test.each(networks)('reward %s: its network lies on the device, and scores pictures of any', async (name) => {
  const reward = await loadReward(name, 'cuda');
  if (name !== 'jpeg-estimate') expect(seen.made).toBeGreaterThan(10); // weights
  const prompts = ['a cat to the left of a dog'];
  const scores = [picture(), picture().to('cuda')].map((images) =>
    reward.score({ images, prompts, meta: [null] }),
  );
  const [of, again] = await Promise.all(scores);
  expect(of).toEqual(again);
  expect(fetchedPictures()).toEqual([]);
});

test.each(['imagereward', 'hpsv2.1', 'hpsv2', 'pickscore', 'clip-score', 'laion-aesthetic'] as const)(
  'reward %s, as published: its network lies on the device, and scores and follows pictures of any',
  async (name) => {
    const reward = await loadReward({ name, weights: 'tiny' }, 'cuda');
    expect(seen.made).toBeGreaterThan(10); // weights
    const prompts = ['a cat'];
    const [of, again] = await Promise.all(
      [picture(), picture().to('cuda')].map((images) => reward.score({ images, prompts, meta: [null] })),
    );
    expect(of).toEqual(again);
    const there = picture().permute([0, 3, 1, 2]).to('float32').div(255).to('cuda');
    expect(reward.differentiable!(there, prompts).device).toBe('cuda:0');
    expect(fetchedPictures()).toEqual([]);
  },
);

test('a detector takes pictures of any device', () => {
  const detector = loadDetector('judge-detector', undefined, 'cuda');
  expect(seen.made).toBeGreaterThan(10);
  expect(detector.detect(picture())).toEqual(detector.detect(picture().to('cuda')));
});

test.each(Object.keys(methods))(
  '%s: a whole run, watched for hacking; no picture is fetched',
  async (method) => {
    const recipe = deviceRecipe(method, model, 'cuda');
    const events = await drain(train(recipe, { name: method, root }));
    expect(events.at(-1)?.kind).toBe('finished');
    expect(fetchedPictures()).toEqual([]);
    const watched = ['edgeDensity', 'colourEntropy', 'saturation', 'gridPeak', 'diversity', 'judge'];
    const rows = readMetrics(openRun(method, root).metricsPath);
    expect(rows.at(-1)).toMatchObject(
      Object.fromEntries(watched.map((name) => [`watch/${name}`, expect.any(Number)])),
    );
  },
);

test('ip-rldf’s control: scenes of the world become latents where the model lies', async () => {
  const recipe = minimalRecipe('ip-rldf', { model: 'emoji', pictures: 'world', device: 'cuda' });
  const pipeline = loadPipeline(findModel('emoji').path, { device: 'cuda' });
  const { latents } = await worldPictures({ ...(recipe as IpRldfRecipe), pictures: 'world' }, pipeline)(
    1,
    [0],
  );
  expect(latents.device).toBe('cuda:0');
  free(latents);
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
});

test('evaluations by judges on the CPU', async () => {
  const once = { pictures: 1, maxPrompts: 1, steps: 2, device: 'cuda' } as const;
  const { suites } = await evaluate({ ...once, suites: ['single'], arms: [{ model: 'emoji' }] });
  expect(suites.single?.judges).toContain('judge');
});

test('it learns what it learns on the CPU', async () => {
  const one = { maxPrompts: 1 };
  const recipe = minimalRecipe('ddpo', {
    model,
    epochs: 1,
    reward: 'image-reward',
    evaluate: one,
    report: one,
  });
  await drain(train(recipe, { name: 'cpu', root }));
  expect(fingerprint(openRun('cpu', root)).adapter).toBe(fingerprint(openRun('ddpo', root)).adapter);
});

test('the classifier that judges a clone learns there what it learns on the CPU', async () => {
  const shades = Array.from({ length: 8 }, (_, i) =>
    new Uint8Array(32 * 32 * 3).fill(i % 2 === 0 ? 30 : 220),
  );
  const set = setOf(['dark', 'bright'], [0, 1, 0, 1, 0, 1, 0, 1], shades);
  const recipe = { ...defaultRecipe, epochs: 2, batchSize: 4, width: 4 };
  const weights = async (device: Device) => {
    const at = join(folder, `classifier-${device}`);
    const { classifier } = await trainClassifier(set, { recipe, seed: 0, folder: at, device });
    expect(classifier.correct(set)).toBeGreaterThanOrEqual(4);
    expect(classifier.learned.every((weight) => weight.device.startsWith(device))).toBe(true);
    return classifier.learned.map((weight) => weight.toNumbers());
  };
  expect(await weights('cuda')).toEqual(await weights('cpu'));
});
