import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { UserError } from '@rldf/torch';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { setFileHook } from '../base/files.js';
import {
  askToStop,
  describeSelf,
  giveSignsOfLife,
  type Holder,
  holderOfFolder,
  lockName,
  lockRun,
  silenceMs,
  startOf,
} from './lock.js';

// ages are what they are given, however long a test takes
beforeEach(() => void vi.useFakeTimers({ toFake: ['Date'] }));
afterEach(() => void vi.useRealTimers());

const newFolder = () => mkdtempSync(join(tmpdir(), 'rldf-lock-'));
const lockOf = (folder: string) => join(folder, lockName);

/** A folder with the lock of another process, `silent` milliseconds old. */
function lockedBy(change: Partial<Holder> | string, silent = 0): string {
  const folder = newFolder();
  const text =
    typeof change === 'string' ? change : JSON.stringify({ ...describeSelf(), id: 'other', ...change });
  writeFileSync(lockOf(folder), text);
  const then = (Date.now() - silent) / 1000;
  utimesSync(lockOf(folder), then, then);
  return folder;
}

/** Takes the folder whose lock was silent for so long at that moment, by the clock of the file system. */
function lockAfter(folder: string, silent: number) {
  const stop = setFileHook((operation, path) => {
    if (operation !== 'make') return;
    const own = readdirSync(folder).find((name) => name.startsWith(`${lockName}.`)) as string;
    const then = (statSync(join(folder, own)).mtimeMs - silent) / 1000;
    utimesSync(path, then, then);
  });
  try {
    return lockRun(folder);
  } finally {
    stop();
  }
}

function expectTaken(folder: string): void {
  const lock = lockRun(folder);
  expect(JSON.parse(readFileSync(lockOf(folder), 'utf8')).pid).toBe(process.pid);
  lock.assertHeld();
  lock.release();
  expect(readdirSync(folder)).toEqual([]);
}

test('a folder is taken once, also within one process; nothing stays behind', () => {
  const folder = newFolder();
  const lock = lockRun(folder);
  expect(() => lockRun(folder)).toThrow(UserError);
  expect(() => lockRun(folder)).toThrow(
    `process ${process.pid} on ${describeSelf().host} works here since 20`,
  );
  expect(readdirSync(folder)).toEqual([lockName]);
  lock.release();
  lock.release();
  expectTaken(folder);
});

const living = { pid: process.ppid, started: startOf(process.ppid) };
test.each<[string, Partial<Holder> | string, number]>([
  ['a living process, however long it was silent', living, 10 * silenceMs],
  ['a process in another container', { namespace: 'pid:[1]', pid: 1 }, silenceMs / 2],
  ['a process on another machine', { host: 'elsewhere', boot: 'another' }, silenceMs / 2],
  ['a file that cannot be read, written just now', '{"pid"', 0],
])('refused: %s', (_, holder, silent) => {
  const folder = lockedBy(holder);
  expect(() => lockAfter(folder, silent)).toThrow(/works here.* — one process a folder/);
  expect(readdirSync(folder)).toEqual([lockName]);
});

const dead = spawnSync(process.execPath, ['-e', '']).pid;
test.each<[string, Partial<Holder> | string, number]>([
  ['a process that was killed', { pid: dead, started: '1' }, 0],
  ['a number that another process has now', { pid: process.ppid, started: '1' }, 0],
  ['this process, which holds it no more', {}, 0],
  ['a silent process in another container', { namespace: 'pid:[1]', pid: 1 }, silenceMs + 5000],
  ['a silent process on another machine', { host: 'elsewhere' }, silenceMs + 5000],
  ['a machine that was started again', { boot: 'before' }, silenceMs + 5000],
  ['an old file that cannot be read', '', silenceMs + 5000],
])('no obstacle: %s', (_, holder, silent) => expectTaken(lockedBy(holder, silent)));

test('of several processes that find a dead lock at once, one gets the folder', async () => {
  const folder = lockedBy({ pid: dead, started: '1' });
  const code = `
    const { lockRun } = await import(${JSON.stringify(fileURLToPath(new URL('lock.ts', import.meta.url)))});
    let answer = 'got';
    try { lockRun(${JSON.stringify(folder)}) } catch (error) { answer = error.name }
    process.stdout.write(answer);
    process.stdin.resume();`;
  const words = ['--conditions=rldf-source', '--import', 'tsx', '--input-type=module', '-e', code];
  const children = Array.from({ length: 3 }, () =>
    spawn(process.execPath, words, { stdio: ['pipe', 'pipe', 'inherit'] }),
  );
  const answers = await Promise.all(
    children.map((child) => new Promise((resolve) => child.stdout.on('data', (data) => resolve(`${data}`)))),
  );
  for (const child of children) child.kill('SIGKILL');
  expect(answers.sort()).toEqual(['UserError', 'UserError', 'got']);
  await Promise.all(
    children.map((child) => child.exitCode ?? new Promise((resolve) => child.on('close', resolve))),
  );
  expectTaken(folder); // by SIGKILL nothing is left that counts
});

test('a run that another process took over is not written to', () => {
  const folder = newFolder();
  const lock = lockRun(folder);
  const other = JSON.stringify({ ...describeSelf(), id: 'other' });
  writeFileSync(lockOf(folder), other);
  expect(() => lock.assertHeld()).toThrow('another process has taken the run over');
  lock.release();
  expect(readFileSync(lockOf(folder), 'utf8')).toBe(other);
  rmSync(folder, { recursive: true });
});

test('signs of life come from a thread of their own, and only into our lock', async () => {
  const folder = lockedBy('mine', silenceMs);
  const path = lockOf(folder);
  const stop = giveSignsOfLife(path, 'mine', 10);
  while (Date.now() - statSync(path).mtimeMs > silenceMs / 2)
    await new Promise((done) => setTimeout(done, 5));
  expect(readFileSync(path, 'utf8')).toBe('mine');
  stop();
});

test('who works in a folder is told without taking it', () => {
  expect(holderOfFolder(newFolder())).toBeUndefined();
  expect(holderOfFolder(lockedBy({ pid: dead, started: '1' }))).toBeUndefined();
  expect(holderOfFolder(lockedBy(living))).toMatchObject({ holder: { pid: process.ppid }, here: true });
  const elsewhere = lockedBy({ host: 'elsewhere', boot: 'another' }, silenceMs / 2);
  expect(holderOfFolder(elsewhere)).toMatchObject({ holder: { host: 'elsewhere' }, here: false });
  expect(holderOfFolder(lockedBy('{"pid"'))).toBeUndefined();
});

test('the process of a lock is asked to stop once, as by Ctrl-C', async () => {
  // says how many signals have come, after those that it has; a second one would end it at once
  const code = `
    let signals = 0;
    process.on('SIGINT', () => console.log('saving', ++signals));
    process.stdin.on('data', () => setImmediate(() => setImmediate(() => console.log('so far', signals))));
    console.log('up');`;
  const child = spawn(process.execPath, ['-e', code], { stdio: ['pipe', 'pipe', 'ignore'] });
  try {
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const said = async () => (await lines.next()).value;
    expect(await said()).toBe('up');
    const pid = child.pid as number;
    const folder = lockedBy({ id: 'of the child', pid, started: startOf(pid) });
    expect(askToStop(folder)).toBe(pid);
    expect(await said()).toBe('saving 1');
    expect(askToStop(folder)).toBe(pid); // asked already
    expect(askToStop(folder)).toBe(pid);
    child.stdin.write('?');
    expect(await said()).toBe('so far 1');
  } finally {
    child.kill('SIGKILL');
  }
});

test.each<[string, Partial<Holder>, RegExp]>([
  [
    'a process on another machine',
    { host: 'elsewhere', boot: 'another', pid: process.ppid },
    /signalled where it runs/,
  ],
  ['a process in another container', { namespace: 'pid:[1]', pid: process.ppid }, /signalled where it runs/],
  ['a number that another process has now', { pid: process.ppid, started: '1' }, /no process works here/],
  [
    'a process whose start is not known',
    { pid: process.ppid, started: null },
    /no process works here|cannot be told/,
  ],
])('never signalled: %s', (_, holder, why) => {
  expect(() => askToStop(lockedBy(holder))).toThrow(why);
});

test('a server asks not itself to stop', () => {
  const folder = newFolder();
  const lock = lockRun(folder);
  expect(() => askToStop(folder)).toThrow('cannot be told');
  lock.release();
});
