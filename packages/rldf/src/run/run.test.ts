import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UserError } from '@rldf/torch';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { readMetrics } from './metrics.js';
import { createRun, listRuns, openRun } from './run.js';

const newRoot = () => mkdtempSync(join(tmpdir(), 'rldf-runs-'));

test('a run is a folder with its recipe and environment', () => {
  const root = newRoot();
  const recipe = { method: 'ddpo', train: { learningRate: 1e-3 }, prompts: 'a: b' };
  const run = createRun({ root, name: 'first', recipe });
  expect(parse(readFileSync(run.recipePath, 'utf8'))).toEqual(recipe);
  const environment = JSON.parse(readFileSync(run.environmentPath, 'utf8'));
  expect(environment.node).toBe(process.versions.node);
  expect(environment.libtorch).toMatch(/^\d+\.\d+/);
  expect(environment.threads).toBeGreaterThan(0);
  expect(openRun('first', root).folder).toBe(run.folder);
  expect(openRun(run.folder).name).toBe('first');
});

test('runs are never overwritten, names are checked, missing ones list what is there', () => {
  const root = newRoot();
  expect(() => openRun('x', root)).toThrow('There are none');
  createRun({ root, name: 'a', recipe: {} });
  expect(() => createRun({ root, name: 'a', recipe: {} })).toThrow(UserError);
  expect(() => createRun({ root, name: 'a', recipe: {} })).toThrow('Continue it with `rldf resume a`');
  expect(() => createRun({ root, name: '../b', recipe: {} })).toThrow('only letters, digits');
  expect(() => createRun({ root, name: 'n'.repeat(300), recipe: {} })).toThrow('of 300 letters: at most 200');
  expect(() => openRun('c', root)).toThrow(/Runs in .*: a$/);
  expect(listRuns(root).map(({ name }) => name)).toEqual(['a']);
});

test('opening the metrics at a step cuts off what came after it', () => {
  const run = createRun({ root: newRoot(), name: 'a', recipe: {} });
  const first = run.metrics(0);
  for (const step of [1, 2, 3]) first.write({ step });
  first.close();
  const second = run.metrics(2);
  second.write({ step: 3, again: true });
  second.close();
  expect(readMetrics(run.metricsPath)).toEqual([{ step: 1 }, { step: 2 }, { step: 3, again: true }]);
});
