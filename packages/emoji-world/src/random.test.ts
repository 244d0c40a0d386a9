import { expect, test } from 'vitest';
import { HashRandom } from './random.js';

test('streams are pinned, and differ by every part of their path', () => {
  const bits = (...path: number[]) => new HashRandom(...path).bits();
  const paths = [[0], [1], [-1], [0, 0], [0, 1], [1, 0], [2 ** 32], [2 ** 33]];
  expect(new Set(paths.map((path) => bits(...path))).size).toBe(paths.length);
  const random = new HashRandom(1, 2);
  expect([random.bits(), random.bits(), random.bits()]).toMatchInlineSnapshot(`
    [
      4197478066,
      4058831058,
      4063213438,
    ]
  `);
});

test('uniform, weighted and sample are fair', () => {
  const random = new HashRandom(5);
  const n = 100_000;
  const draws = Array.from({ length: n }, () => random.uniform());
  const mean = draws.reduce((sum, value) => sum + value, 0) / n;
  const square = draws.reduce((sum, value) => sum + value * value, 0) / n;
  expect(Math.abs(mean - 1 / 2)).toBeLessThan(5 * Math.sqrt(1 / 12 / n));
  expect(Math.abs(square - 1 / 3)).toBeLessThan(5 * Math.sqrt(4 / 45 / n));
  const weights = [
    ['never', 0],
    ['one', 1],
    ['three', 3],
  ] as const;
  const threes = Array.from({ length: n }, () => random.weighted(weights));
  expect(threes).not.toContain('never');
  expect(Math.abs(threes.filter((item) => item === 'three').length / n - 0.75)).toBeLessThan(0.01);
  for (let i = 0; i < 100; i++) expect(random.sample([1, 2, 3, 4], 4).sort()).toEqual([1, 2, 3, 4]);
});
