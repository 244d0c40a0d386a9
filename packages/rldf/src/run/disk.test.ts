import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFileHook } from '@rldf/common/base/files';
import { tensorsOf } from '@rldf/common/storage/state-tree';
import { setThreads, UserError } from '@rldf/torch';
import { expect, test, vi } from 'vitest';
import { runCommandLine } from '../cli/program.js';
import { saveTinyModel, tinyRecipe } from '../train/tiny-run.fixture.js';
import { drive, toyOptions } from '../train/toy-training.fixture.js';
import { comparableRow, readMetrics } from './metrics.js';
import { createRun, openRun, type Run } from './run.js';

setThreads(1);
const root = mkdtempSync(join(tmpdir(), 'rldf-disk-'));
const newRun = (name: string) => createRun({ root, name, recipe: { method: 'toy' } });
const fails = (code: string) => Object.assign(new Error(code), { code });

function ending(run: Run) {
  const { state, step } = run.loadCheckpoint();
  return {
    step,
    tensors: [...tensorsOf(state)].map(([name, value]) => [name, Buffer.from(value.bytes()).toString('hex')]),
    metrics: readMetrics(run.metricsPath).map((row) => comparableRow(row)),
    report: JSON.parse(readFileSync(join(run.reportFolder, 'report.json'), 'utf8')).reward,
  };
}

test('a disk that is full or read-only from any operation on: an explained error, good checkpoints, the same end', async () => {
  const straight = newRun('straight');
  let operations = 0;
  const stop = setFileHook(() => void operations++);
  await drive(toyOptions(straight.folder));
  stop();
  expect(operations).toBeGreaterThan(100);
  const expected = ending(straight);
  const codes = { ENOSPC: 'the disk is full', EROFS: 'the disk is read-only', EACCES: 'no permission' };
  for (let from = 1; from <= operations; from += 45) {
    for (const [code, message] of Object.entries(codes).slice(0, from === 1 ? 3 : 1)) {
      const run = newRun(`${code}-${from}`);
      let seen = 0;
      const broken = setFileHook((operation) => {
        if (++seen >= from && operation !== 'read') throw fails(code);
      });
      const error = await drive(toyOptions(run.folder)).catch((thrown) => thrown);
      broken();
      expect([code, from, error instanceof UserError]).toEqual([code, from, true]);
      expect(error.message).toContain(message);
      for (const { step } of run.checkpoints()) expect(run.loadCheckpoint({ step }).step).toBe(step);
      await drive(toyOptions(run.folder));
      expect([from, ending(run)]).toEqual([from, expected]);
    }
  }
});

test('a folder that vanishes while training is named, and not made anew', async () => {
  for (const at of ['append', 'remove', 'read']) {
    const run = newRun(`gone-${at}`);
    let seen = 0;
    const stop = setFileHook((operation) => {
      if (operation === at && ++seen === 4) rmSync(run.folder, { recursive: true });
    });
    const error = await drive(toyOptions(run.folder)).catch((thrown) => thrown);
    stop();
    expect([at, error instanceof UserError, existsSync(run.recipePath)]).toEqual([at, true, false]);
    expect(error.message).toMatch(/the run's folder is gone|there is no such folder, or it was removed/);
  }
});

const commandCases: [string, (path: string, folder: string) => void, RegExp | string][] = [
  [
    'full',
    (path) => {
      if (path.includes('step-2')) throw fails('ENOSPC');
    },
    /the disk is full\. Free some space, then continue with `rldf resume \S+full`: the last checkpoint is \S+step-1\n$/,
  ],
  [
    'read-only',
    () => {
      throw fails('EROFS');
    },
    'the disk is read-only. Choose another folder',
  ],
  [
    'gone',
    (path, folder) => {
      if (path.includes('.writing-step-1')) rmSync(folder, { recursive: true, force: true });
    },
    'removed',
  ],
];

test.each(commandCases)(
  'rldf train on a disk that is %s: one message, exit code 2',
  async (name, hook, message) => {
    const recipe = join(root, 'recipe.yaml');
    const model = join(root, 'model');
    if (!existsSync(model)) saveTinyModel(model);
    writeFileSync(recipe, JSON.stringify(tinyRecipe(model, 2)));
    let text = '';
    vi.spyOn(process.stderr, 'write').mockImplementation((line) => {
      text += String(line);
      return true;
    });
    const stop = setFileHook((_operation, path) => hook(path, join(root, name)));
    const code = await runCommandLine(['train', recipe, '--name', name, '--runs', root]);
    stop();
    vi.restoreAllMocks();
    process.exitCode = 0;
    expect(code).toBe(2);
    expect(text).toMatch(message);
    expect(text).not.toMatch(/\n\s+at /);
    if (name === 'full') expect(openRun(name, root).loadCheckpoint().step).toBe(1);
  },
);
