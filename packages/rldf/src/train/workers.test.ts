// The same training with one worker and with several: noise bit for bit, pictures to one grey level, adapters to 1e-5. A few methods
// with two workers; `npm run test:workers` does all of them with 2, 3 and 4, and plants faults.
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readSafetensors } from '@rldf/torch';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { methodNames } from '../methods/index.js';
import { comparableRow, readMetrics } from '../run/metrics.js';
import type { PictureLine } from '../run/picture-log.js';
import { Run } from '../run/run.js';
import { saveTinyModel } from './tiny-run.fixture.js';

const fixture = fileURLToPath(new URL('workers.fixture.ts', import.meta.url));
let folder: string;
const all = process.env.RLDF_TEST_WORKERS === 'all';
/** One of each kind of update. */
const methods = all ? methodNames : (['ddpo', 'dpok', 'rwr', 'alignprop'] as const);

/** Trains with so many workers, and returns the folder of the runs. */
async function trained(size: number, which: readonly string[], plant?: string): Promise<string> {
  const root = join(folder, `${size}${plant ?? ''}`);
  mkdirSync(root, { recursive: true });
  const given = [`${size}`, root, which.join(','), ...(plant === undefined ? [] : [plant])];
  const child = spawn(process.execPath, ['--conditions=rldf-source', '--import', 'tsx', fixture, ...given], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (data) => (said += data));
  const code = await new Promise((resolve) => child.on('close', resolve));
  expect(`${code} ${plant === undefined ? said : ''}`).toBe('0 ');
  return root;
}

/** ‖a - b‖ / ‖b‖ of all that was learned. */
function apart(root: string, other: string, method: string): number {
  const [a, b] = [root, other].map((one) => {
    const { tensors } = readSafetensors(join(one, method, 'adapters', 'pytorch_lora_weights.safetensors'));
    return [...tensors.values()].flatMap((tensor) => tensor.toNumbers());
  }) as [number[], number[]];
  expect(a.length).toBe(b.length);
  const norm = (values: number[]) => Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0));
  return norm(a.map((value, i) => value - (b[i] as number))) / norm(b);
}

/** What is logged of a run's pictures, and the files that are kept of them. */
function logged(root: string, method: string): { lines: PictureLine[]; files: string[] } {
  const samples = join(root, method, 'samples');
  const lines = readFileSync(join(samples, 'pictures.jsonl'), 'utf8').trim().split('\n');
  const files = readdirSync(samples, { recursive: true, encoding: 'utf8' }).sort();
  return { lines: lines.map((line) => JSON.parse(line) as PictureLine), files };
}

/** Scores to an eighth of a grey level in the mean; rewards are the same in units of their spread, which is some hundred times as small. */
const nearly = ({ rewards, parts, ...line }: PictureLine) => ({
  ...line,
  rewards: rewards.map((one) => expect.closeTo(one, 1)),
  parts: Object.fromEntries(
    Object.entries(parts).map(([name, values]) => [name, values.map((one) => expect.closeTo(one, 3))]),
  ),
});

let alone: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'workers-'));
  saveTinyModel(join(folder, 'model'));
  alone = await trained(1, methods);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const noise = (root: string) => readFileSync(join(root, 'noise.txt'), 'utf8').trim().split('\n').sort();

for (const size of all ? [2, 3, 4] : [2])
  test(`${size} workers, with uneven shares, learn what one learns`, async () => {
    const root = await trained(size, methods);
    expect(noise(root)).toEqual(noise(alone));
    expect(noise(root)).toHaveLength(6);
    for (const method of methods) {
      const distance = apart(root, alone, method);
      expect([method, distance < 1e-5 ? 0 : distance]).toEqual([method, 0]);
      const [ours, theirs] = [root, alone].map((one) =>
        readFileSync(join(one, method, 'samples', 'test-before.rgb')),
      );
      const steps = [...ours!].map((value, i) => Math.abs(value - (theirs![i] as number)));
      expect([method, Math.max(...steps) <= 1]).toEqual([method, true]);
      const log = logged(alone, method);
      expect([method, log.lines.some(({ kept }) => kept > 0)]).toEqual([method, true]);
      expect([method, logged(root, method)]).toEqual([method, { ...log, lines: log.lines.map(nearly) }]);
      const rows = [root, alone].map((one) =>
        readMetrics(new Run(join(one, method)).metricsPath).map(comparableRow),
      );
      expect(rows[0]!.length).toBe(rows[1]!.length);
      for (const [i, row] of rows[0]!.entries())
        for (const [name, value] of Object.entries(row))
          if (typeof value === 'number' && name !== 'loss/pretraining') {
            // one grey level of a picture, in units of a spread that is as small; ReFL's is a mean over micro-batches
            const expected = rows[1]![i]![name] as number;
            const near = Math.abs(value - expected) <= 1e-2 * Math.abs(expected) + 1e-4;
            expect([method, i, name, near ? value : expected]).toEqual([method, i, name, value]);
          }
    }
  });

test.runIf(all)(
  'planted: averages per worker, statistics per worker and a forgotten wait are found',
  async () => {
    const found = async (plant: string, method: string) =>
      apart(await trained(2, [method], plant), alone, method);
    expect(await found('averaging per worker', 'rwr')).toBeGreaterThan(1e-3);
    expect(await found('statistics per worker', 'ddpo')).toBeGreaterThan(1e-3);
    expect(await found('forgotten wait', 'ddpo')).toBeGreaterThan(1e-3);
  },
);
