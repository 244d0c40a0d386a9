import { existsSync, mkdtempSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { limitsOfTests } from '@rldf/common/base/limits.fixture';
import { loadArt, renderScene } from '@rldf/emoji-world';
import type { SearchReport } from '@rldf/search';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { rldf } from './command-line.fixture.js';

const limits = limitsOfTests();
const folder = mkdtempSync(join(tmpdir(), 'rldf-cli-endpoint-'));
const image = join(folder, 'cat.png');
let stalls = false;
let asked = 0;
let picture: Buffer;

/** Answers every prompt with the input picture, or not at all. */
const server = createServer({ keepAliveTimeout: 0 }, (_, response) => {
  asked++;
  if (stalls) limits.expire();
  else response.end(JSON.stringify({ data: [{ b64_json: picture.toString('base64') }] }));
});

beforeAll(async () => {
  const objects = [{ noun: 'cat', size: 48, x: 8, y: 8 }] as const;
  const rgb = renderScene({ objects, background: 'grass' }, await loadArt('noto'));
  await sharp(rgb, { raw: { width: 64, height: 64, channels: 3 } })
    .png()
    .toFile(image);
  picture = await sharp(image).toBuffer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

test('a server that stalls ends with exit code 2, nothing is lost, and --resume goes on to the end', async () => {
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1#m`;
  const output = join(folder, 'found');
  const search = (steps: number, ...words: string[]) =>
    rldf(
      ...['search', '--image', image, '--model', address, '--retries', '0'],
      ...['--pictures', '1', '--continue-after-goal', '--steps', `${steps}`, '--output', output, ...words],
    );
  expect((await search(2)).code).toBe(0);
  stalls = true;
  const before = asked;
  const { code, err } = await search(30, '--resume', '--timeout', '0.1');
  expect(err).toMatch(/gave no answer within 0.1 s, for ".*" — the pictures so far are kept.*--resume/);
  expect(code).toBe(2);
  expect(asked).toBe(before + 1);
  expect(limits.asked.at(-1)).toBe(100);
  expect(existsSync(join(output, 'agent.json'))).toBe(true);
  stalls = false;
  const whole = await search(30, '--resume', '--json');
  expect(whole.code).toBe(0);
  const { measures, cost } = JSON.parse(whole.out) as SearchReport;
  expect(measures.steps).toBe(30);
  expect(cost.remembered).toBeGreaterThan(0);
});
