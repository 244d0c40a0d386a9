import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFileHook } from '@rldf/common/base/files';
import { tensorsOf } from '@rldf/common/storage/state-tree';
import { liveTensors } from '@rldf/torch';
import { expect, test } from 'vitest';
import { comparableRow, readMetrics } from '../run/metrics.js';
import { createRun, type Run } from '../run/run.js';
import { drive, toyOptions } from './toy-training.fixture.js';

const root = mkdtempSync(join(tmpdir(), 'rldf-train-'));
let runs = 0;
const newRun = () => createRun({ root, name: `run-${runs++}`, recipe: { method: 'toy' } });

/** What must be equal between an interrupted and an uninterrupted run. */
function fingerprint(run: Run) {
  const { state, step } = run.loadCheckpoint();
  return {
    step,
    tensors: [...tensorsOf(state)].map(([name, value]) => [name, Buffer.from(value.bytes()).toString('hex')]),
    metrics: readMetrics(run.metricsPath).map((row) => comparableRow(row)),
    report: JSON.parse(readFileSync(join(run.reportFolder, 'report.json'), 'utf8')).reward,
  };
}

const reference = async () => {
  const run = newRun();
  const events = await drive(toyOptions(run.folder));
  return { run, events };
};

test('a run ends with metrics, validation, checkpoints, samples and a report', async () => {
  const { run, events } = await reference();
  expect(events.at(-1)).toMatchObject({ kind: 'finished', bestStep: 6 });
  expect(readMetrics(run.metricsPath).map(({ step }) => step)).toEqual([0, 1, 2, 3, 4, 5, 6]);
  expect(readMetrics(run.metricsPath).at(-1)).toMatchObject({ pictures: 24 });
  expect(readMetrics(run.metricsPath).map((row) => 'validation/reward' in row)).toEqual([
    true,
    false,
    true,
    false,
    true,
    false,
    true,
  ]);
  expect(run.checkpoints().map(({ step }) => step)).toEqual([5, 6]);
  expect(existsSync(join(run.samplesFolder, 'step-00006.png'))).toBe(true);
  expect(fingerprint(run).report.difference).toBeGreaterThan(0.1);
});

test('the last checkpoint is compared where it is asked for, though validation liked an earlier one more', async () => {
  const bestStep = async (checkpoint: 'best' | 'last') => {
    const run = newRun();
    const options = toyOptions(run.folder);
    const worse = {
      ...options.reward,
      score: (batch: Parameters<typeof options.reward.score>[0]) =>
        (options.reward.score(batch) as number[]).map((value) => -value),
    };
    const events = await drive({ ...options, reward: worse, test: { ...options.test, checkpoint } });
    const last = events.at(-1)!;
    return last.kind === 'finished' ? [last.bestStep, Math.sign(last.report.reward.difference)] : last.kind;
  };
  expect(await bestStep('best')).toEqual([0, 0]);
  expect(await bestStep('last')).toEqual([6, -1]);
});

test('aborting saves at the next interruptible place, and resuming ends the same', async () => {
  const { run } = await reference();
  const interrupted = newRun();
  const controller = new AbortController();
  const options = {
    ...toyOptions(interrupted.folder),
    signal: controller.signal,
    checkpoint: { every: 100, keep: 2 },
  };
  const { trainRun } = await import('./train.js');
  const kinds: string[] = [];
  for await (const event of trainRun(options)) {
    kinds.push(event.kind);
    if (event.kind === 'step' && event.step === 2) controller.abort();
  }
  expect(kinds.slice(-2)).toEqual(['checkpoint', 'interrupted']);
  expect(interrupted.checkpoints().at(-1)?.step).toBe(2);
  await drive(toyOptions(interrupted.folder));
  expect(fingerprint(interrupted)).toEqual(fingerprint(run));
});

test('a disk that fills up in the middle is an explained error, and the run can be resumed', async () => {
  const { run } = await reference();
  const full = newRun();
  let writes = 0;
  const stop = setFileHook((operation) => {
    if (operation === 'write' && ++writes > 12)
      throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
  });
  await expect(drive(toyOptions(full.folder))).rejects.toThrow('the disk is full');
  stop();
  expect(full.checkpoints().length).toBeGreaterThan(0);
  await drive(toyOptions(full.folder));
  expect(fingerprint(full)).toEqual(fingerprint(run));
});

test('a reward that fails in the middle leaves the last good checkpoint', async () => {
  const run = newRun();
  const options = toyOptions(run.folder);
  let calls = 0;
  const reward = { name: 'moody', unit: '', score: () => (calls++ < 3 ? [1, 2] : [1, Number.NaN]) };
  await expect(drive({ ...options, reward })).rejects.toThrow(
    'reward moody: score of picture 1 (prompt "a dog") is NaN',
  );
  expect(run.loadCheckpoint().step).toBeGreaterThan(0);
});

test('the driver leaves no tensors behind', async () => {
  const options = toyOptions(newRun().folder);
  const before = liveTensors();
  await drive(options);
  await drive(options);
  expect(liveTensors()).toBe(before);
});

test('when pictures part from the reward, log says so and goes on, stop keeps the clean weights, off looks at nothing', async () => {
  const of = async (mode: 'off' | 'log' | 'stop') => {
    const run = newRun();
    const events = await drive({ ...toyOptions(run.folder), watch: { mode } }); // the colour that it likes fades all others
    const alarms = events.flatMap((event) => (event.kind === 'alarm' ? [event.alarm] : []));
    const rows = readMetrics(run.metricsPath);
    const watched = rows.filter((row) => 'watch/saturation' in row).map(({ step }) => step);
    return { alarms, watched, steps: rows.length - 1, best: events.at(-1) };
  };
  const [off, log, stop] = [await of('off'), await of('log'), await of('stop')];
  expect([off.alarms, off.watched, off.steps]).toEqual([[], [], 6]);
  expect([log.watched, log.steps]).toEqual([[0, 2, 4, 6], 6]);
  const [alarm] = log.alarms;
  expect(alarm?.symptoms.map(({ name }) => name)).toContain('saturation');
  expect(stop.alarms).toEqual([alarm]);
  expect(stop.steps).toBe(alarm?.step);
  expect(stop.best).toMatchObject({ kind: 'finished', bestStep: alarm?.lastCleanStep });
});

test('the reward is told where the model is before training: once, and not when resumed', async () => {
  const run = newRun();
  let told = 0;
  const base = async function* () {
    yield { done: 0, total: 2 };
    told++;
  };
  const events = await drive({ ...toyOptions(run.folder, 2), base });
  const kinds = events.map((event) => (event.kind === 'evaluating' ? event.what : event.kind));
  expect(kinds.indexOf('base')).toBeLessThan(kinds.indexOf('checkpoint'));
  await drive({ ...toyOptions(run.folder, 2), base });
  expect(told).toBe(1);
  const controller = new AbortController();
  controller.abort();
  expect(
    (await drive({ ...toyOptions(newRun().folder, 2), base, signal: controller.signal })).at(-1)?.kind,
  ).toBe('interrupted');
});
