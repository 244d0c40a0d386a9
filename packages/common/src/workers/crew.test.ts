import { spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { Crew } from './crew.js';

const fixture = fileURLToPath(new URL('crew.fixture.ts', import.meta.url));

/** What each of some ranks prints, line by line. */
async function together(
  size: number,
  way: string,
  { ranks = Array.from({ length: size }, (_, rank) => rank), env = {} } = {},
): Promise<unknown[][]> {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), 'rldf-crew-'));
  return Promise.all(
    ranks.map(async (rank) => {
      const words = [
        '--conditions=rldf-source',
        '--import',
        'tsx',
        fixture,
        `${rank}`,
        `${size}`,
        `${port}`,
        way,
        folder,
      ];
      const child = spawn(process.execPath, words, {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: { ...process.env, ...env },
      });
      let text = '';
      child.stdout.on('data', (data) => (text += data));
      await new Promise((resolve) => child.on('close', resolve));
      const lines = text.split('\n').filter((line) => line !== '');
      return lines.map((line) => JSON.parse(line));
    }),
  );
}

test('three workers: shares, what all have of them, sums, the leader’s values and words', async () => {
  const [first, second, third] = await together(3, 'works');
  const numbers = [[0, 0, 1, 10, 2, 20, 3, 30, 4, 40], [7], [6, 6], [0, 3, 6], [5, 5]];
  const same = {
    gathered: ['a0', 'b1', 'c2', 'd0', 'e1'],
    numbers,
    said: [0, 1, 2].map((at) => `${at} NaN,1152921504606846976`),
  };
  expect(first).toEqual([{ own: ['a', 'd'], ...same }]);
  const told = { ...same, command: { do: 'this' } };
  expect(second).toEqual([{ own: ['b', 'e'], ...told }, 'Dismissed 0']);
  expect(third).toEqual([{ own: ['c'], ...told }, 'Dismissed 0']);
});

test('alone: a crew of one hands back what it is given', async () => {
  const crew = Crew.alone();
  const list = [1, 2, 3];
  expect(crew.own(list)).toBe(list);
  expect(await crew.gather('list', list)).toBe(list);
  expect(await crew.meet('word', 'w')).toEqual(['w']);
  const rows = tensor([[1]]);
  expect(await crew.gatherRows('rows', rows)).toBe(rows);
  await crew.sum('sum', [rows]);
  expect(rows.toNumbers()).toEqual([1]);
  rows.free();
});

test('a step that the leader leaves: nobody passes its meeting, and the next one is met', async () => {
  const [first, second, third] = await together(3, 'leaves');
  expect(first).toEqual([['Ctrl-C', '0,1,2']]);
  expect(second).toEqual([['LeftStep', 'LeftStep', 'LeftStep', '0,1,2']]);
  expect(third).toEqual(second);
});

const dismissed = ['Dismissed: the leading worker has ended the work'];

test('a worker that is gone before the work begins ends all at once; those that never come and two of one rank are told', async () => {
  const [before, at, alone, twice] = await Promise.all([
    together(3, 'goes before the start'),
    together(2, 'goes at the start'), // while the other one connects to it
    together(3, 'works', { ranks: [0], env: { RLDF_WORKERS_TIMEOUT: '0.5' } }),
    together(3, 'works', { ranks: [0, 1, 1] }),
  ]);
  const ended = /^UserError: worker 1 of 3 \(.*, process \d+\) has ended — /;
  expect(before).toEqual([[expect.stringMatching(ended)], [], dismissed]);
  expect(at).toEqual([
    [
      expect.stringMatching(
        /^UserError: (rank 0 of 2, .*: opening the group failed|worker 1 of 2 .* has ended)/,
      ),
    ],
    [],
  ]);
  expect(alone).toEqual([
    [
      expect.stringMatching(
        /^UserError: rank 0 of 3, .*: ranks 1, 2 did not come within 0.5 s — all 3 must be started/,
      ),
    ],
  ]);
  expect(twice).toEqual([
    [
      expect.stringMatching(
        /^UserError: workers: .* has come as rank 1 of 3, as .*, process \d+ had before — /,
      ),
    ],
    dismissed,
    dismissed,
  ]);
});

test('a worker that dies, fails or hangs is named by the leader, once; the others are dismissed', async () => {
  const [died, failed, hung] = await Promise.all([
    together(3, 'dies'),
    together(2, 'fails'),
    together(2, 'hangs'),
  ]);
  expect(died[0]).toEqual([
    expect.stringMatching(/^UserError: worker 1 of 3 \(.*, process \d+\) has ended — /),
  ]);
  expect(died[2]).toEqual(dismissed);
  expect(failed[0]).toEqual([expect.stringMatching(/^TypeError: worker 1 \(.*\): a reward of mine$/)]);
  expect(hung[0]).toEqual([
    expect.stringMatching(
      /^UserError: worker 0 of 2 has waited 0.05 s at "scores" for worker 1 \(.*\) — it hangs/,
    ),
  ]);
});
