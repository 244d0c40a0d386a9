import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const fixture = fileURLToPath(new URL('signals.fixture.ts', import.meta.url));

/** Sends the signals once it computes, and says how it ended. */
async function ended(way: string, signals: NodeJS.Signals[]) {
  const words = ['--conditions=rldf-source', '--import', 'tsx', fixture, way];
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'pipe'] });
  const texts = ['', ''];
  child.stdout.on('data', (data) => {
    texts[0] += data;
    if (`${data}`.includes('computing')) for (const signal of signals) child.kill(signal);
  });
  child.stderr.on('data', (data) => (texts[1] += data));
  const code = await new Promise((resolve) => child.on('close', resolve));
  return [code, ...texts];
}

test('within an operator of minutes: the second Ctrl-C and SIGTERM end the process at once', async () => {
  const message = '\nrldf: ended at once\n';
  // the same signal twice may arrive as one while the first is not served: another second one is
  expect(await ended('long', ['SIGINT', 'SIGTERM'])).toEqual([143, 'computing ', message]);
  expect(await ended('long', ['SIGTERM'])).toEqual([143, 'computing ', message]);
});

test('between operators the first Ctrl-C is an error, once, and Node hears of it', async () => {
  expect(await ended('short', ['SIGINT'])).toEqual([0, 'computing true interrupted 1,40,40 told', '']);
});
