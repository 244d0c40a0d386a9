import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { createRun } from '../run/run.js';
import { paretoOf } from './pareto.js';
import { writeReport } from './report.js';

const root = mkdtempSync(join(tmpdir(), 'rldf-pareto-'));
afterAll(() => rmSync(root, { recursive: true }));

const reward = [{ reward: 'aesthetic' }, { reward: 'jpeg-compressibility', weight: -0.5, floor: 'base' }];
const line = (step: number, parts: Record<string, number[]>, kind = 'validation') =>
  `${JSON.stringify({ step, kind, parts })}\n`;
const parts = (a: number[], j: number[]) => ({
  aesthetic: a,
  'jpeg-compressibility': j,
  'jpeg-compressibility/multiplier': j,
});

function runWith(name: string, lines: string) {
  const run = createRun({ root, name, recipe: { reward } });
  writeFileSync(join(run.samplesFolder, 'pictures.jsonl'), lines);
  return run;
}

test('means of each reward by validation; a negative weight wants less of it', () => {
  const run = runWith(
    'sum',
    line(0, parts([4, 6], [-2, -2])) +
      line(1, parts([9, 9], [-9, -9]), 'rollout') +
      line(1, parts([6, 6], [-1, -2])) +
      line(2, parts([5, 6], [-3, -1])) +
      '{"step": 3, "kind": "valid',
  );
  expect(paretoOf(run)).toEqual({
    axes: [{ name: 'aesthetic' }, { name: 'jpeg-compressibility', less: true }],
    points: [
      { step: 0, values: [5, -2] },
      { step: 1, values: [6, -1.5] },
      { step: 2, values: [5.5, -2] },
    ],
    fronts: [{ rewards: ['aesthetic', 'jpeg-compressibility'], steps: [1, 2] }],
  });
});

test('the report has the plot for a sum of rewards, and none for one reward', async () => {
  const black = { width: 4, height: 4, channels: 3 as const, data: new Uint8Array(48) };
  const pairs = [{ prompt: 'a', seed: 0, before: black, after: black, rewardBefore: 0, rewardAfter: 1 }];
  const evaluation = { reward: 'both', unit: '', pairs, pictures: 1, seconds: 1 };
  const sum = runWith('plot', line(0, parts([1], [1])) + line(1, parts([2], [2])));
  await writeReport(sum, evaluation);
  expect(readFileSync(join(sum.reportFolder, 'index.html'), 'utf8')).toContain('pareto.svg');
  expect(readFileSync(join(sum.reportFolder, 'pareto.svg'), 'utf8')).toContain('mean aesthetic');
  expect(JSON.parse(readFileSync(join(sum.reportFolder, 'pareto.json'), 'utf8'))).toEqual(paretoOf(sum));
  const single = runWith('single', line(0, { aesthetic: [1] }) + line(1, { aesthetic: [2] }));
  await writeReport(single, evaluation);
  expect(existsSync(join(single.reportFolder, 'pareto.svg'))).toBe(false);
  expect(paretoOf(runWith('once', line(0, parts([1], [1]))))).toBeUndefined();
});
