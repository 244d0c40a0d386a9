import { expect, test } from 'vitest';
import type { RunRow } from '../../src/api.js';
import { found, sorted } from './rows.js';

const row = (name: string, part: Partial<RunRow> = {}): RunRow => ({
  id: name, name, state: 'finished', problem: null, method: 'ddpo', model: 'emoji', device: 'cpu', seed: 1, reward: 'jpeg-compressibility',
  unit: 'kB', rewardStart: -2, rewardNow: -1, rewardBest: -1, bestStep: 3, trainingReward: -1, step: 5, steps: 10, pictures: 100, seconds: 1,
  etaSeconds: null, startedAt: 0, changedAt: 0, alarm: null, spark: [], group: name, ...part,
}); // biome-ignore format: a row

const names = (rows: RunRow[]) => rows.map(({ name }) => name);

test('every word must occur somewhere', () => {
  const rows = [
    row('first'),
    row('second', { method: 'dpok', seed: 7 }),
    row('third', { alarm: { step: 3, lastCleanStep: 2, cleanCheckpoint: 2, symptoms: [] } }),
  ];
  expect(names(found(rows, ''))).toEqual(['first', 'second', 'third']);
  expect(names(found(rows, 'DPOK  seed 7'))).toEqual(['second']);
  expect(names(found(rows, 'alarm'))).toEqual(['third']);
  expect(found(rows, 'dpok alarm')).toEqual([]);
});

test('ordered; unknown last in both directions; equal ones by name, numbers as numbers', () => {
  const rows = [
    row('run-10', { rewardNow: 0 }),
    row('run-9'),
    row('none', { rewardNow: null }),
    row('run-2'),
  ];
  expect(names(sorted(rows, 'change', true))).toEqual(['run-10', 'run-2', 'run-9', 'none']);
  expect(names(sorted(rows, 'change', false))).toEqual(['run-2', 'run-9', 'run-10', 'none']);
  expect(names(sorted(rows, 'name', false))).toEqual(['none', 'run-2', 'run-9', 'run-10']);
  expect(
    names(sorted([row('a', { steps: null }), row('b', { step: 1 }), row('c')], 'progress', true)),
  ).toEqual(['c', 'b', 'a']);
});
