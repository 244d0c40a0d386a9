// What commands draw with one worker and with several: the same pictures to one grey level, the same numbers. `npm run test:workers`
// takes 2, 3 and 4.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ArmResult } from '../reproduce/arm-result.js';
import { saveTinyModel } from '../train/tiny-run.fixture.js';

const fixture = fileURLToPath(new URL('workers.fixture.ts', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'rldf-workers-'));
const all = process.env.RLDF_TEST_WORKERS === 'all';

/** The folder of what so many workers have drawn. */
async function drawn(size: number): Promise<string> {
  const root = join(folder, `${size}`);
  const words = [
    '--conditions=rldf-source',
    '--import',
    'tsx',
    fixture,
    `${size}`,
    root,
    join(folder, 'model'),
  ];
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (data) => (said += data));
  const code = await new Promise((resolve) => child.on('close', resolve));
  expect([code, code === 0 ? '' : said]).toEqual([0, '']);
  return root;
}

const pixels = async (root: string, set: string): Promise<number[]> => {
  const files = Array.from({ length: 5 }, (_, i) => join(root, set, `000${i}.png`));
  return (await Promise.all(files.map((file) => sharp(file).raw().toBuffer()))).flatMap((one) => [...one]);
};

const furthest = (a: readonly number[], b: readonly number[]) => {
  expect(a.length).toBe(b.length);
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] as number))), 0);
};

const json = (...path: string[]) => JSON.parse(readFileSync(join(...path), 'utf8'));

let alone: string;
beforeAll(async () => {
  saveTinyModel(join(folder, 'model'));
  writeFileSync(
    join(folder, 'bright.mjs'),
    `export const reward = ({ images }) =>
      images.map(({ data }) => data.reduce((a, b) => a + b, 0) / data.length / 255);\n`,
  );
  writeFileSync(join(folder, 'bright.yaml'), 'module: ./bright.mjs\n');
  alone = await drawn(1);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

for (const size of all ? [2, 3, 4] : [2])
  test(`${size} workers draw, evaluate and reproduce what one does`, async () => {
    const root = await drawn(size);
    expect(furthest(await pixels(root, 'float32'), await pixels(alone, 'float32'))).toBeLessThanOrEqual(1);
    // of eight bits: a rounding is some grey levels; another type on one of the workers would be told
    expect(furthest(await pixels(root, 'bfloat16'), await pixels(alone, 'bfloat16'))).toBeLessThanOrEqual(8);

    const [metric, expected] = [root, alone].map(
      (one) => json(one, 'evaluation', 'eval.json').metrics.reward,
    );
    expect(metric.n).toBe(expected.n);
    expect(metric.value).toBeCloseTo(expected.value, 4);

    const [source, single] = [root, alone].map((one) => json(one, 'source.json'));
    expect(furthest(source.drawn.flat(), single.drawn.flat())).toBeLessThanOrEqual(1);
    expect(source).toMatchObject({ ahead: 2, batchSize: 2 * size });
    expect(single).toMatchObject({ ahead: 2, batchSize: 2 });

    for (const arm of ['low', 'high']) {
      const [ours, theirs] = [root, alone].map(
        (one) => json(one, 'docs', 'results', 'demo', `${arm}-seed1.json`) as ArmResult,
      );
      expect(ours!.curve).toEqual(theirs!.curve.map((point) => near(point)));
      for (const [name, { before, after }] of Object.entries(theirs!.scores))
        expect([arm, name, ours!.scores[name]]).toEqual([arm, name, near({ before, after })]);
      expect(ours!.cost.pictures).toBe(theirs!.cost.pictures);
    }
  });

/** Numbers to one grey level in all pixels, wherever they stand. */
function near<T>(value: T): T {
  if (typeof value === 'number') return expect.closeTo(value, 2);
  if (Array.isArray(value)) return value.map(near) as T;
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, near(one)])) as T;
}
