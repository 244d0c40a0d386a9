import { mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tensorsOf } from '@rldf/common/storage/state-tree';
import { zeros } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { expect, test } from 'vitest';
import { comparableRow, readMetrics } from '../run/metrics.js';
import { createRun, type Run } from '../run/run.js';
import type { Training } from '../run/training.js';
import { halveAfter } from './out-of-memory.js';
import { drive, toyOptions } from './toy-training.fixture.js';

const root = mkdtempSync(join(tmpdir(), 'rldf-memory-'));
let runs = 0;
const newRun = () => createRun({ root, name: `run-${runs++}`, recipe: { method: 'toy' } });

/** A tensor that is larger than any machine: libtorch's own error. */
const exhaust = () => void zeros([2 ** 47]);

function fingerprint(run: Run) {
  const { state } = run.loadCheckpoint();
  return {
    tensors: [...tensorsOf(state)].map(([name, value]) => [name, Buffer.from(value.bytes()).toString('hex')]),
    metrics: readMetrics(run.metricsPath).map((row) => comparableRow(row)),
    report: JSON.parse(readFileSync(join(run.reportFolder, 'report.json'), 'utf8')).reward,
  };
}

/** A run in which memory runs out at the places named, once each. */
async function ranOut(places: readonly string[]) {
  const run = newRun();
  const options = toyOptions(run.folder);
  const sizes = { sample: { batchSize: 8 }, train: { batchSize: 4 } };
  const left = new Set(places);
  const at = (place: string) => {
    if (left.delete(place)) exhaust();
  };
  let step = 0;
  const { training: toy } = options;
  const training: Training = {
    steps: toy.steps,
    async *run(from) {
      for await (const event of toy.run(from)) {
        if (event.kind === 'step') step = event.step;
        yield event;
        if (event.kind === 'progress') at(`${event.phase} ${step + 1}`);
      }
    },
    state() {
      at(`saving ${step}`);
      return toy.state();
    },
    load: (state) => toy.load(state),
    draw(requests) {
      at(`evaluating ${step}`);
      return toy.draw(requests);
    },
    exportTo: (folder) => toy.exportTo(folder),
    free: () => toy.free(),
  };
  const events = await drive({ ...options, training, sizes });
  expect([...left]).toEqual([]);
  const told = events.flatMap((event) => (event.kind === 'notice' ? [event.text] : []));
  return {
    run,
    sizes,
    told,
    resumed: events.flatMap((event) => (event.kind === 'resumed' ? [event.step] : [])),
  };
}

const straight = (async () => {
  const run = newRun();
  await drive(toyOptions(run.folder));
  return run;
})();

test.each([
  ['learning 3', { sample: 8, train: 2 }],
  ['drawing 4', { sample: 4, train: 2 }],
  ['evaluating 0', { sample: 4, train: 2 }],
  ['saving 4', { sample: 4, train: 2 }],
])('%s: fewer at once, and the run ends as if nothing had been', async (place, expected) => {
  const { run, sizes, told, resumed } = await ranOut([place]);
  expect({ sample: sizes.sample.batchSize, train: sizes.train.batchSize }).toEqual(expected);
  expect(told).toHaveLength(1);
  expect(told[0]).toMatch(
    /^memory ran out \w+ \(.*a tensor of \d+ bytes was asked for, but this machine has/,
  );
  expect(told[0]).toContain(
    `${expected.sample} pictures are drawn and the gradient of ${expected.train} computed`,
  );
  expect(resumed).toHaveLength(place === 'evaluating 0' ? 0 : 1);
  expect(fingerprint(run)).toEqual(fingerprint(await straight));
  for (const name of readdirSync(run.checkpointsFolder)) expect(name).toMatch(/^(step-)?\d+$/); // whole ones only
});

test('again and again, until nothing is left to halve; the last checkpoint is whole', async () => {
  const { sizes, told } = await ranOut(['learning 2', 'learning 3', 'drawing 5']);
  expect(sizes).toEqual({ sample: { batchSize: 4 }, train: { batchSize: 1 } });
  expect(told).toHaveLength(3);
  const run = newRun();
  const options = toyOptions(run.folder);
  const never = { ...options.training, steps: options.training.steps } as Training;
  never.state = () => options.training.state();
  never.load = (state) => options.training.load(state);
  never.draw = (requests) => options.training.draw(requests);
  never.free = () => options.training.free();
  never.run = async function* () {
    yield { kind: 'progress', phase: 'learning', share: 0, interruptible: false };
    exhaust();
  };
  const failed = await drive({
    ...options,
    training: never,
    sizes: { sample: { batchSize: 2 }, train: { batchSize: 2 } },
  }).catch((error) => error);
  expect(failed).toBeInstanceOf(UserError);
  expect(failed.message).toMatch(
    /^train: memory ran out learning with one picture at once .*checkpointing: true/,
  );
  expect(run.loadCheckpoint().step).toBe(0);
});

test('several workers: none halves alone; what is to be set is said', () => {
  const sizes = { sample: { batchSize: 8 }, train: { batchSize: 4 } };
  const ofAnother = new Error('worker 1 (there): CUDA out of memory. Tried to allocate 2 GiB');
  expect(() => halveAfter(ofAnother, sizes, 'learning', 2)).toThrow(
    /^train: memory ran out learning \(worker 1 .*in one of 2 workers .*sample\.batchSize below 8 and train\.batchSize below 4.*rldf resume/,
  );
  expect(() => halveAfter(ofAnother, sizes, 'learning', 2)).toThrow(UserError);
  expect(sizes).toEqual({ sample: { batchSize: 8 }, train: { batchSize: 4 } });
  expect(halveAfter(new Error('out of luck'), sizes, 'learning', 2)).toBeUndefined();
});

test('other errors end the run as before; a user’s own words about memory are no lack of it', () => {
  const sizes = { sample: { batchSize: 8 }, train: { batchSize: 8 } };
  expect(halveAfter(new Error('out of luck'), sizes, 'learning')).toBeUndefined();
  expect(halveAfter(new UserError('out of memory'), sizes, 'learning')).toBeUndefined();
  expect(
    halveAfter(new Error('CUDA out of memory. Tried to allocate 2 GiB'), undefined, 'learning'),
  ).toBeUndefined();
  expect(sizes.train.batchSize).toBe(8);
  expect(halveAfter(new Error('CUDA out of memory. Tried to allocate 2 GiB'), sizes, 'learning')).toContain(
    '(CUDA out of memory',
  );
  expect(sizes).toEqual({ sample: { batchSize: 8 }, train: { batchSize: 4 } });
});
