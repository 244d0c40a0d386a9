import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { freePort } from './distributed.js';

const fixture = fileURLToPath(new URL('distributed.fixture.ts', import.meta.url));

/** The last line that a rank prints. */
async function start(rank: number, size: number, port: number, way: string, seconds = 600): Promise<string> {
  const words = [
    '--conditions=rldf-source',
    '--import',
    'tsx',
    fixture,
    `${rank}`,
    `${size}`,
    `${port}`,
    way,
    `${seconds}`,
  ];
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'ignore'] });
  let text = '';
  child.stdout.on('data', (data) => (text += data));
  await new Promise((resolve) => child.on('close', resolve));
  return text.split('\n').at(-2) ?? '';
}

async function together(size: number, way: string, seconds?: number): Promise<string[]> {
  const port = await freePort();
  return Promise.all(Array.from({ length: size }, (_, rank) => start(rank, size, port, way, seconds)));
}

test('two processes: sums, maxima, a broadcast, what all have, entries of the store', async () => {
  const found = (await together(2, 'collectives')).map((text) => JSON.parse(text));
  const same = {
    ...{ sum: [3, 3, 3], most: [1, 0], strided: [2, 2, 4, 4], told: [10, 10], whole: [0, 7, 1, 7] },
    ...{
      many: [[3, 3, 3, 3], [20, 20, 20], [5]],
      collectives: 8,
      bytes: 12 + 8 + 16 + 16 + 16 + 8 + 8 + 4,
    },
  };
  expect(found).toEqual([
    { ...same, heard: 'by 1' },
    { ...same, heard: 'by 0' },
  ]);
});

test('a rank that dies is an error of the other one, with rank, operation and address', async () => {
  const [first] = await together(2, 'dies');
  expect(first).toMatch(
    /^UserError: rank 0 of 2, 127\.0\.0\.1:\d+: (all-reduce \(sum\) 1 of float32\[3\]|opening the group) failed \(.*(closed|reset) by peer.*\) — every rank must be alive/i,
  );
});

test('a rank that stays away is told after the time limit', async () => {
  let first: string | undefined;
  // of a limit that is too short for a busy machine, rank 0 tells that rank 1 did not come: then a longer one
  for (let seconds = 1; first === undefined || /did not come|opening the group/.test(first); seconds *= 4)
    [first] = await together(2, 'stays away', seconds);
  expect(first).toMatch(
    /^UserError: rank 0 of 2, 127\.0\.0\.1:\d+: all-reduce \(sum\) 1 of float32\[3\] failed \(.*timed out.*/i,
  );
});

test('a rank that never comes is named; a port that is taken and a store that is not there are told', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.on('listening', resolve));
  const { port } = server.address() as { port: number };
  const [waiting, taken, nobody, another] = await Promise.all([
    start(0, 3, 0, 'alone', 1),
    start(0, 2, port, 'alone', 1),
    start(1, 2, await freePort(), 'alone', 1),
    start(1, 2, port, 'alone', 3), // where something else listens, and says nothing
  ]);
  server.close();
  expect(waiting).toMatch(
    /^UserError: rank 0 of 3, 127\.0\.0\.1:[1-9]\d*: ranks 1, 2 did not come within 1 s — all 3 must be started/,
  );
  expect(taken).toMatch(
    /^UserError: rank 0 of 2, 127\.0\.0\.1:\d+: opening the store failed \(.*in use.*\) — the port must be free/,
  );
  expect(nobody).toMatch(
    /^UserError: rank 1 of 2, 127\.0\.0\.1:\d+: reaching the store failed \(.*\) — rank 0 must listen there/,
  );
  expect(another).toMatch(
    /^UserError: rank 1 of 2, 127\.0\.0\.1:\d+: reaching the store failed \(something listens there and does not answer\) — /,
  );
});
