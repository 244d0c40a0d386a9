import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type StateTree, type Tensor, tensor, UserError, zeros } from '@rldf/torch';
import { expect, test } from 'vitest';
import { setFileHook } from '../base/files.js';
import {
  bestCheckpoint,
  listCheckpoints,
  loadCheckpoint,
  removeLeftovers,
  saveCheckpoint,
} from './checkpoint.js';
import { tensorsOf } from './state-tree.js';

const newFolder = () => mkdtempSync(join(tmpdir(), 'rldf-checkpoint-'));
const state = (value = 1): StateTree => ({
  adapter: { down: tensor([value, -0, 3e-45, 0.1], { shape: [2, 2] }) },
  moments: [zeros([3]), tensor([1n, 2n ** 60n] as never, { dtype: 'int64' })],
  count: 3,
  minusZero: -0,
  tiny: 5e-324,
  name: 'a "b"\n',
  flag: true,
  nothing: null,
  empty: [],
  // prompts serve as keys of statistics
  'a/b~c': { '': [1], __proto__x: 2, $tensor: 'no tensor', $$number: tensor([7]) },
});
const names = (folder: string) => readdirSync(folder).sort();

function messageOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(UserError);
    return (error as Error).message;
  }
  return 'no error';
}

test('a state tree comes back bit for bit', () => {
  const folder = newFolder();
  saveCheckpoint(folder, 5, state());
  const loaded = loadCheckpoint(folder);
  expect(loaded.step).toBe(5);
  const tree = loaded.state as Record<string, StateTree>;
  expect(Object.keys(tree)).toEqual(Object.keys(state() as object));
  expect(Object.is(tree.minusZero, -0)).toBe(true);
  expect([tree.count, tree.tiny, tree.name, tree.flag, tree.nothing, tree.empty]).toEqual([
    3,
    5e-324,
    'a "b"\n',
    true,
    null,
    [],
  ]);
  expect(JSON.stringify((tree['a/b~c'] as Record<string, StateTree>).$tensor)).toBe('"no tensor"');
  expect((tree['a/b~c'] as Record<string, StateTree>)['']).toEqual([1]);
  const original = tensorsOf(state());
  for (const [path, copy] of tensorsOf(loaded.state)) {
    expect(copy.shape).toEqual(original.get(path)!.shape);
    expect(copy.bytes()).toEqual(original.get(path)!.bytes());
  }
  expect(tensorsOf(loaded.state).size).toBe(4);
});

test('the newest are kept, and the best by validation besides', () => {
  const folder = newFolder();
  for (const [step, score] of [
    [5, 0.2],
    [10, 0.9],
    [15, 0.3],
    [20, null],
    [25, 0.4],
  ] as const) {
    saveCheckpoint(folder, step, state(step), { keep: 2, score });
  }
  expect(names(folder)).toEqual(['step-10', 'step-20', 'step-25']);
  expect(bestCheckpoint(folder)?.step).toBe(10);
  expect(listCheckpoints(folder).map(({ step, score }) => [step, score])).toEqual([
    [10, 0.9],
    [20, null],
    [25, 0.4],
  ]);
});

test('a NaN or an infinity is never saved and the last good one stays', () => {
  const folder = newFolder();
  saveCheckpoint(folder, 1, state());
  for (const [bad, name] of [
    [{ a: tensor([1, Number.NaN]) }, 'a [2]'],
    [{ a: [tensor([Number.NEGATIVE_INFINITY])] }, 'a/0 [1]'],
    [{ mean: Number.NaN }, 'mean (NaN)'],
  ] as [StateTree, string][]) {
    const message = messageOf(() => saveCheckpoint(folder, 2, bad, { keep: 1 }));
    expect(message).toContain(`checkpoint of step 2: ${name} holds a NaN or an infinity`);
    expect(message).toContain(join(folder, 'step-1'));
  }
  expect(names(folder)).toEqual(['step-1']);
  expect(loadCheckpoint(folder).step).toBe(1);
});

test('a full disk, at whichever operation, leaves the last good checkpoint and a clear message', () => {
  const folder = newFolder();
  saveCheckpoint(folder, 1, state(), { keep: 1 });
  let operations = 0;
  const counting = setFileHook(() => void operations++);
  saveCheckpoint(folder, 1, state(), { keep: 1 });
  counting();
  expect(operations).toBeGreaterThan(8);
  for (let failing = 1; failing <= operations; failing++) {
    let seen = 0;
    const stop = setFileHook((operation) => {
      seen++;
      if (seen >= failing && operation !== 'remove')
        throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
    });
    const message = messageOf(() => saveCheckpoint(folder, 2, state(2), { keep: 1 }));
    stop();
    if (message !== 'no error') expect(message).toContain('the disk is full. Free some space');
    removeLeftovers(folder);
    const { step, state: loaded } = loadCheckpoint(folder);
    expect((tensorsOf(loaded).get('adapter/down') as Tensor).toArray()[0]).toBe(step);
    rmSync(join(folder, 'step-2'), { recursive: true, force: true });
    saveCheckpoint(folder, 1, state(), { keep: 1 });
  }
});

test('missing, truncated, changed and NaN-laden checkpoints are named; fallback only when asked for', () => {
  const breakIt: [string, (path: string) => void, string][] = [
    ['no tensors', (path) => rmSync(join(path, 'state.safetensors')), 'state.safetensors: missing'],
    ['no tree', (path) => rmSync(join(path, 'state.json')), 'state.json: missing'],
    ['no info', (path) => rmSync(join(path, 'checkpoint.json')), 'checkpoint.json: missing'],
    ['torn info', (path) => truncateSync(join(path, 'checkpoint.json'), 20), 'cut off or damaged'],
    ['torn tensors', (path) => truncateSync(join(path, 'state.safetensors'), 200), 'is cut off or damaged'],
    [
      'a flipped byte',
      (path) => {
        const file = join(path, 'state.safetensors');
        const data = readFileSync(file);
        data[data.length - 1]! ^= 1;
        writeFileSync(file, data);
      },
      'its content changed since it was written',
    ],
    [
      'a newer format',
      (path) => {
        const file = join(path, 'checkpoint.json');
        writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), formatVersion: 9 }));
      },
      'format version 9 — this version of rldf reads version 1',
    ],
  ];
  for (const [, damage, expected] of breakIt) {
    const folder = newFolder();
    saveCheckpoint(folder, 1, state(1));
    saveCheckpoint(folder, 2, state(2));
    damage(join(folder, 'step-2'));
    const message = messageOf(() => loadCheckpoint(folder));
    expect(message).toContain(expected);
    expect(message).toContain('Continue from step 1 instead with `rldf resume --fallback`');
    const fallen = loadCheckpoint(folder, { fallback: true });
    expect(fallen.step).toBe(1);
    expect(fallen.skipped[0]).toContain(expected);
    expect(messageOf(() => loadCheckpoint(folder, { step: 2 }))).toContain(expected);
  }
});

test('a NaN that was edited into the files, checksums and all, is found', () => {
  const folder = newFolder();
  saveCheckpoint(folder, 1, { count: 1 });
  const edited = readFileSync(join(folder, 'step-1', 'state.json'), 'utf8').replace('1', '{"$number":"NaN"}');
  writeFileSync(join(folder, 'step-1', 'state.json'), edited);
  const infoPath = join(folder, 'step-1', 'checkpoint.json');
  const info = JSON.parse(readFileSync(infoPath, 'utf8'));
  delete info.files['state.json'];
  writeFileSync(infoPath, JSON.stringify(info));
  expect(messageOf(() => loadCheckpoint(folder))).toContain('count (NaN) holds a NaN');
});

test('wrong shapes, dtypes and missing tensors are named', () => {
  const folder = newFolder();
  saveCheckpoint(folder, 1, { a: zeros([2, 3]) });
  expect(messageOf(() => loadCheckpoint(folder, { like: { a: zeros([2, 3]) } }))).toBe('no error');
  expect(messageOf(() => loadCheckpoint(folder, { like: { a: zeros([3, 2]) } }))).toContain(
    'tensor a is float32 [2, 3], expected float32 [3, 2]',
  );
  expect(
    messageOf(() => loadCheckpoint(folder, { like: { a: zeros([2, 3], { dtype: 'float64' }) } })),
  ).toContain('expected float64');
  expect(messageOf(() => loadCheckpoint(folder, { like: { a: zeros([2, 3]), b: zeros([1]) } }))).toContain(
    'no tensor b',
  );
});

test('an empty folder and an unknown step say what there is', () => {
  const folder = newFolder();
  expect(messageOf(() => loadCheckpoint(folder))).toContain('nothing was saved here yet');
  saveCheckpoint(folder, 3, { a: 1 });
  expect(messageOf(() => loadCheckpoint(folder, { step: 2 }))).toContain(
    'no checkpoint of step 2 — there are those of step 3',
  );
});

test('what an interruption leaves is cleaned up, and a replaced checkpoint survives between its two renames', () => {
  const folder = newFolder();
  saveCheckpoint(folder, 1, state(1));
  mkdirSync(join(folder, '.writing-step-2'));
  writeFileSync(join(folder, '.writing-step-2', 'state.json'), '{');
  mkdirSync(join(folder, '.removing-step-0'));
  removeLeftovers(folder);
  expect(names(folder)).toEqual(['step-1']);
  saveCheckpoint(folder, 2, state(2));
  renameSync(join(folder, 'step-2'), join(folder, '.writing-step-1'));
  renameSync(join(folder, 'step-1'), join(folder, '.removing-step-1'));
  removeLeftovers(folder);
  expect(names(folder)).toEqual(['step-1']);
  expect(existsSync(join(folder, 'step-1', 'checkpoint.json'))).toBe(true);
});
