import { expect, test } from 'vitest';
import { band } from './bands.js';

test('mean, least and greatest where all curves are known; straight lines between points', () => {
  const a = { at: [0, 10, 20], values: [0, 10, 20] };
  const b = { at: [0, 20, 30], values: [4, 4, 9] };
  expect(band([a, b])).toEqual({
    at: [0, 10, 20],
    mean: [2, 7, 12],
    low: [0, 4, 4],
    high: [4, 10, 20],
    curves: [2, 2, 2],
  });
});

test('a curve that begins late cuts the band instead of moving its mean', () => {
  const { at, mean } = band([
    { at: [0, 1, 2], values: [100, 100, 100] },
    { at: [1, 2], values: [0, 0] },
  ]);
  expect([at, mean]).toEqual([
    [1, 2],
    [50, 50],
  ]);
});

test('gaps are passed over; one curve is its own band; none is empty; such that never meet too', () => {
  expect(band([{ at: [1, 2, 3], values: [1, null, 3] }])).toEqual({
    at: [1, 3],
    mean: [1, 3],
    low: [1, 3],
    high: [1, 3],
    curves: [1, 1],
  });
  expect(band([]).at).toEqual([]);
  expect(band([{ at: [1], values: [null] }]).at).toEqual([]);
  const apart = [
    { at: [1, 2], values: [0, 0] },
    { at: [5, 6], values: [0, 0] },
  ];
  expect(band(apart).at).toEqual([]);
});
