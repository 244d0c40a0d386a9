import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { openRun } from '../run/run.js';
import { groupCurve, groupRuns, type OverlaidRun, writeOverlay } from './overlay.js';

const made = (name: string, seed: number, learningRate: number, rewards: readonly number[]): OverlaidRun => ({
  name,
  recipe: { method: 'ddpo', name, seed, train: { learningRate } },
  rows: rewards.map((value, step) => ({ step, pictures: 64 * step, 'reward/mean': value })),
});

test('runs that differ in their seed only are one line: its mean, and a band', () => {
  const groups = groupRuns([
    made('a', 1, 0.1, [0, 1, 2]),
    made('b', 2, 0.1, [0, 3, 4]),
    made('c', 1, 0.2, [0, 5, 6, 7]),
  ]);
  expect(groups.map(({ label, runs }) => [label, runs.map(({ name }) => name)])).toEqual([
    ['train.learningRate 0.1', ['a', 'b']],
    ['train.learningRate 0.2', ['c']],
  ]);
  expect(groupCurve(groups[0]!, 'reward/mean', 'pictures')).toEqual([
    { step: 0, value: 0, series: 'train.learningRate 0.1', band: [0, 0] },
    { step: 64, value: 2, series: 'train.learningRate 0.1', band: [1, 3] },
    { step: 128, value: 3, series: 'train.learningRate 0.1', band: [2, 4] },
  ]);
  expect(groupCurve(groups[1]!, 'reward/mean', 'step').at(-1)).toEqual({
    step: 3,
    value: 7,
    series: 'train.learningRate 0.2',
  });
});

test('a line ends where the first of its runs ends; three runs have a t-interval', () => {
  const [group] = groupRuns([
    made('a', 1, 1, [1, 1]),
    made('b', 2, 1, [2, 2, 2]),
    made('c', 3, 1, [3, 3, 3]),
  ]);
  const points = groupCurve(group!, 'reward/mean', 'step');
  expect(points.map(({ value }) => value)).toEqual([2, 2]);
  // 2 ± 4.303 x 1 / sqrt(3)
  expect(points[0]!.band).toEqual([expect.closeTo(2 - 2.484, 3), expect.closeTo(2 + 2.484, 3)]);
});

test('two real runs: page, numbers and curves', async () => {
  const root = fileURLToPath(new URL('./stored-runs', import.meta.url));
  const folder = mkdtempSync(join(tmpdir(), 'rldf-overlay-'));
  const runs = ['quickstart-3', 'quickstart-4'].map((name) => openRun(name, root));
  const { groups } = await writeOverlay(runs, folder);
  expect(groups.length).toBe(1);
  expect(groups[0]!.runs.map(({ seed, difference }) => [seed, difference?.toFixed(3)])).toEqual([
    [3, '0.000'],
    [4, '0.831'],
  ]);
  expect(groups[0]!.difference).toMatchObject({ seeds: 2, mean: expect.closeTo(0.4155, 3) });
  const read = (name: string) => readFileSync(join(folder, name), 'utf8');
  expect(JSON.parse(read('overlay.json')).groups).toEqual(groups);
  expect(read('training.svg')).toContain('pictures drawn for training');
  expect(read('index.html')).toContain('over 2 seeds');
  await expect(writeOverlay(runs.slice(0, 1), folder)).rejects.toThrow('give two or more');
});
