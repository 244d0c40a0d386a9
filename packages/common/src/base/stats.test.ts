import { expect, test } from 'vitest';
import {
  bootstrapMean,
  bootstrapSeedsAndPrompts,
  type IntegerSource,
  meanDifference,
  quantile,
  seedInterval,
  standardDeviation,
  studentTDistribution,
  studentTQuantile,
  tInterval,
} from './stats.js';

/** Mulberry32, a small deterministic generator for tests. */
function generator(seed: number) {
  let state = seed >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return { uniform, normal, integer: (n: number) => Math.floor(uniform() * n) };
}

/** Goes through every list of `length` indices below `n` in order: the complete bootstrap. */
function everyResample(n: number, length: number): IntegerSource {
  let call = 0;
  return {
    integer: () => {
      const resample = Math.floor(call / length);
      const digit = call % length;
      call++;
      return Math.floor(resample / n ** digit) % n;
    },
  };
}

test('quantiles of Student t equal the printed tables', () => {
  // Abramowitz & Stegun, table 26.10; df 1 is tan(0.475 pi)
  expect(studentTQuantile(0.975, 1)).toBeCloseTo(12.7062047362, 8);
  expect(studentTQuantile(0.975, 2)).toBeCloseTo(4.30265272991, 9);
  expect(studentTQuantile(0.975, 3)).toBeCloseTo(3.18244630528, 9);
  expect(studentTQuantile(0.975, 4)).toBeCloseTo(2.7764451052, 9);
  expect(studentTQuantile(0.95, 9)).toBeCloseTo(1.83311293265, 9);
  expect(studentTQuantile(0.975, 1e7)).toBeCloseTo(1.959964, 5);
  expect(studentTQuantile(0.025, 4)).toBeCloseTo(-2.7764451052, 9);
});

test('the distribution function has its closed forms at one and two degrees of freedom', () => {
  for (const t of [-3, -0.5, 0, 0.7, 2.5, 40]) {
    expect(studentTDistribution(t, 1)).toBeCloseTo(0.5 + Math.atan(t) / Math.PI, 12);
    expect(studentTDistribution(t, 2)).toBeCloseTo(0.5 + t / (2 * Math.sqrt(2 + t * t)), 12);
  }
});

test('t-interval by hand: 1, 2, 3 gives 2 +- 4.302653 / sqrt(3)', () => {
  const { mean, interval, method } = tInterval([1, 2, 3]);
  expect(mean).toBe(2);
  expect(interval[0]).toBeCloseTo(2 - 4.30265272991 / Math.sqrt(3), 9);
  expect(interval[1]).toBeCloseTo(2 + 4.30265272991 / Math.sqrt(3), 9);
  expect(method).toBe('Student t');
});

test('standard deviation divides by n - 1, quantiles interpolate', () => {
  expect(standardDeviation([2, 4, 4, 4, 5, 5, 7, 9])).toBeCloseTo(Math.sqrt(32 / 7), 12);
  expect(quantile([1, 2, 3, 4], 0.25)).toBe(1.75);
  expect(quantile([1, 2, 3, 4], 1)).toBe(4);
});

test('bootstrap by hand: all 27 resamples of 0, 0, 3', () => {
  // the mean of three draws is Binomial(3, 1/3): 0 (8 of 27), 1 (12), 2 (6), 3 (1)
  const result = bootstrapMean([0, 0, 3], { random: everyResample(3, 3), resamples: 27, confidence: 0.5 });
  expect(result.mean).toBe(1);
  expect(result.interval).toEqual([0, 1.5]); // sorted position 6.5 and 19.5 of 0..26
});

test('seeds and prompts: a constant seed effect is not shrunk by many prompts', () => {
  const random = generator(5);
  const rows = [1, -1, 2, -2, 3, -3].map((effect) => Array.from({ length: 50 }, () => effect));
  const { mean, interval } = bootstrapSeedsAndPrompts(rows, { random, resamples: 4000 });
  const flat = bootstrapMean(rows.flat(), { random, resamples: 4000 });
  expect(mean).toBe(0);
  expect(interval[1] - interval[0]).toBeGreaterThan(5 * (flat.interval[1] - flat.interval[0]));
});

test('mean difference is paired: shared spread between prompts does not widen it', () => {
  const random = generator(3);
  const before = Array.from({ length: 32 }, () => 100 * random.normal());
  const after = before.map((value) => value + 1 + 0.1 * random.normal());
  const result = meanDifference(before, after, random, 2000);
  expect(result.difference).toBeCloseTo(1, 1);
  expect(result.after - result.before).toBeCloseTo(result.difference, 9);
  expect(result.ci95[0]).toBeGreaterThan(0.9);
  expect(result.ci95[1]).toBeLessThan(1.1);
  expect(() => meanDifference([1, 2], [1], random)).toThrow('2 values before, 1 after');
});

test('below five replicates the t-interval is taken, from five on the bootstrap', () => {
  const random = generator(1);
  expect(seedInterval([1, 2, 3, 4], { random }).method).toBe('Student t');
  expect(seedInterval([1, 2, 3, 4, 5], { random }).method).toBe('percentile bootstrap');
  expect(meanDifference([1], [3], random).ci95).toEqual([2, 2]);
});

test('coverage in simulation: t at three values, bootstrap at thirty-two', () => {
  const random = generator(20);
  const share = (trials: number, covers: () => boolean) => {
    let count = 0;
    for (let trial = 0; trial < trials; trial++) if (covers()) count++;
    return count / trials;
  };
  const contains = ([lo, hi]: [number, number], value: number) => lo <= value && value <= hi;
  const tShare = share(4000, () =>
    contains(tInterval([random.normal(), random.normal(), random.normal()]).interval, 0),
  );
  expect(tShare).toBeGreaterThan(0.94);
  expect(tShare).toBeLessThan(0.96);
  const bootstrapShare = share(600, () => {
    const values = Array.from({ length: 32 }, () => random.normal() + 1);
    return contains(bootstrapMean(values, { random, resamples: 400 }).interval, 1);
  });
  expect(bootstrapShare).toBeGreaterThan(0.91); // percentile intervals at n = 32 cover a little less than 95 %
  expect(bootstrapShare).toBeLessThan(0.97);
});
