import { noiseKey, normal, scope, type Tensor, tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { type FeatureStatistics, featureStatistics, frechetDistance, kernelDistance } from './frechet.js';

const gaussian = (mean: number[], covariance: number[][]): FeatureStatistics => ({
  count: 2,
  mean: tensor(mean, { dtype: 'float64' }),
  covariance: tensor(covariance, { dtype: 'float64' }),
});

test('mean and covariance of four points by hand', () => {
  const points = tensor([
    [0, 0],
    [2, 0],
    [0, 4],
    [2, 4],
  ]);
  const { mean, covariance, count } = featureStatistics(points);
  expect(count).toBe(4);
  expect(mean.toNumbers()).toEqual([1, 2]);
  // squares of deviations: 4 x 1 and 4 x 4, divided by 3
  expect(covariance.toNumbers()).toEqual([4 / 3, 0, 0, 16 / 3]);
});

test('Fréchet distance of Gaussians on a line: squared differences of means and of standard deviations', () => {
  expect(frechetDistance(gaussian([1], [[4]]), gaussian([4], [[25]]))).toBeCloseTo(9 + 9, 10);
  expect(frechetDistance(gaussian([1], [[4]]), gaussian([1], [[4]]))).toBeCloseTo(0, 10);
});

test('Fréchet distance where the covariances do not commute', () => {
  // tr (Σ Ω)^½ of 2 x 2 matrices is sqrt(tr ΣΩ + 2 sqrt(det Σ det Ω)): ΣΩ has trace 2·3 + 1·2 = 8, det 2 · 5 = 10
  const a = gaussian(
    [0, 0],
    [
      [2, 0],
      [0, 1],
    ],
  );
  const b = gaussian(
    [1, 2],
    [
      [3, 1],
      [1, 2],
    ],
  );
  const expected = 5 + 3 + 5 - 2 * Math.sqrt(8 + 2 * Math.sqrt(10));
  expect(frechetDistance(a, b)).toBeCloseTo(expected, 10);
  expect(frechetDistance(b, a)).toBeCloseTo(expected, 10);
});

test('a singular covariance is no obstacle', () => {
  const flat = gaussian(
    [0, 0],
    [
      [1, 0],
      [0, 0],
    ],
  );
  expect(
    frechetDistance(
      flat,
      gaussian(
        [0, 0],
        [
          [4, 0],
          [0, 9],
        ],
      ),
    ),
  ).toBeCloseTo(1 + 9, 10);
});

test('kernel distance of two pairs by hand', () => {
  // k = (x y + 1)³: within x k(0,1) = 1, within y k(1,2) = 27, across 1, 1, 8, 27
  const x = tensor([[0], [1]]);
  const y = tensor([[1], [2]]);
  const { value, blocks } = kernelDistance(x, y);
  expect(value).toBeCloseTo(1 + 27 - 2 * (37 / 4), 10);
  expect(blocks).toBe(1);
});

test('kernel distance is about zero for one distribution, by its own standard error, and not for two', () => {
  const draw = (name: string): Tensor => normal([noiseKey(7, name)], [2000, 4]).squeeze(0);
  scope(() => {
    const same = kernelDistance(draw('a'), draw('b'), 100);
    expect(same.blocks).toBe(20);
    expect(Math.abs(same.value)).toBeLessThan(4 * same.standardError);
    const moved = kernelDistance(draw('a'), draw('b').add(0.5), 100);
    expect(moved.value).toBeGreaterThan(6 * moved.standardError);
  });
});

test('too few pictures and unequal features are refused', () => {
  expect(() => featureStatistics(tensor([[1, 2]]))).toThrow(/2 pictures at least/);
  expect(() =>
    kernelDistance(
      tensor([[1], [2]]),
      tensor([
        [1, 2],
        [3, 4],
      ]),
    ),
  ).toThrow(/same network/);
});
