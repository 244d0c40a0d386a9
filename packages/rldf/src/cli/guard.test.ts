import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const fixture = fileURLToPath(new URL('guard.fixture.ts', import.meta.url));

async function ended(way: string, owner: 'user' | 'ours', out: 'pipe' | number = 'pipe') {
  const words = ['--conditions=rldf-source', '--import', 'tsx', fixture, way, owner];
  const child = spawn(process.execPath, words, { stdio: ['ignore', out, 'pipe'] });
  const texts = ['', ''];
  child.stdout?.on('data', (data) => (texts[0] += data));
  child.stderr?.on('data', (data) => (texts[1] += data));
  const code = await new Promise((resolve) => child.on('close', resolve));
  return { code, out: texts[0], err: texts[1]! };
}

test.each([
  ['dry', 'what the work waits for never comes'],
  ['exit', 'process.exit(0) before the work was done'],
  ['rejection', 'Error: late — a promise was rejected and nobody awaited it'],
  ['reason', 'a text — a promise was rejected and nobody awaited it'],
  ['timer', 'RangeError: later — thrown where nothing can catch it, as in a timer'],
])(
  'a module of the user that ends the work early (%s): exit code 2, why, and how to go on',
  async (way, why) => {
    const { code, out, err } = await ended(way, 'user');
    expect([code, out]).toEqual([2, '']);
    expect(err).toMatch(new RegExp(`^rldf: ${fixture}(:\\d+:\\d+)?: `));
    expect(err).toContain(why);
    expect(err).toMatch(/then continue with `rldf resume first`: the last checkpoint is \S+step-3\n$/);
  },
);

test('the same without a module of the user is a fault of ours', async () => {
  const { code, err } = await ended('dry', 'ours');
  expect([code, err]).toEqual([1, expect.stringMatching(/^rldf: internal: .*\nThis is a fault of rldf/)]);
});

test('done is done: open timers keep nothing, and standard output holds what the program prints', async () => {
  expect(await ended('done', 'user')).toEqual({ code: 0, out: '{"result":1}\n', err: 'said\nraw\n' });
});

test.runIf(process.platform === 'linux')('a full disk behind standard output is told', async () => {
  const full = openSync('/dev/full', 'w');
  const { code, err } = await ended('done', 'user', full);
  closeSync(full);
  expect([code, err]).toEqual([
    2,
    expect.stringContaining('standard output: cannot be written (its disk is full)'),
  ]);
});
