import { noiseKey, Random } from '@rldf/torch';
import { expect, test } from 'vitest';
import { LossWatch, risingLoss } from './rising-loss.js';

test('by hand: medians of eight blocks, how many pairs are in order, and how far apart the ends lie', () => {
  const steps = (medians: readonly number[], scatter = 0) =>
    medians.flatMap((middle) => [middle - scatter, middle, middle + scatter]); // a block of three, deviation: scatter
  const rising = [10, 11, 12, 13, 14, 15, 16, 17];
  expect(risingLoss(steps(rising), 24)).toEqual({ from: 10, to: 17 });
  expect(risingLoss(steps([...rising].reverse()), 24)).toBeUndefined();
  // two neighbours swapped cost 2 of 28 pairs each: 24 are left, then 22
  expect(risingLoss(steps([11, 10, 13, 12, 14, 15, 16, 17]), 24)).toEqual({ from: 11, to: 17 });
  expect(risingLoss(steps([11, 10, 13, 12, 15, 14, 16, 17]), 24)).toBeUndefined();
  // a tenth of 10 is 1: 0.98 is no rise
  expect(risingLoss(steps([10, 10.1, 10.2, 10.3, 10.4, 10.5, 10.6, 10.98]), 24)).toBeUndefined();
  // of both ends 1.2533 · 1.4826 · s / √3, of their difference √2 times that: 1.517 s; four times it is 7 at s = 1.15
  expect(risingLoss(steps(rising, 1.1), 24)).toEqual({ from: 10, to: 17 });
  expect(risingLoss(steps(rising, 1.2), 24)).toBeUndefined();
  expect(risingLoss(steps(rising).slice(1), 24)).toBeUndefined(); // 23 of 24
});

test('the run with scrambled gradients is noticed within 450 updates; outliers neither make a rise nor hide one', () => {
  const random = new Random(noiseKey(1, 'losses'));
  const noise = () => 0.06 * (random.uniform() + random.uniform() - 1); // a deviation of 0.024
  // 0.165 at the start, 0.222 after 450 updates, as it was measured
  const scrambled = (update: number) => 0.165 + (0.057 * update) / 450 + noise();
  const first = (loss: (update: number) => number, updates = 2000) => {
    const watch = new LossWatch();
    for (let update = 1; update <= updates; update++) if (watch.seen(loss(update))) return update;
    return undefined;
  };
  expect(first(scrambled)).toBe(400);
  expect(first((update) => (update % 40 === 0 ? 5 : scrambled(update)))).toBe(400);
  expect(first((update) => (update % 40 === 0 ? 0.1 * update : 0.165 + noise()))).toBeUndefined();
  expect(first((update) => 0.165 * Math.exp(-update / 500) + noise())).toBeUndefined();
});

test('noise is no rise: none in 20 trainings of 2,000 updates, normal or heavy-tailed', () => {
  const deviates: Record<string, (random: Random) => number> = {
    normal: (random) =>
      Math.sqrt(-2 * Math.log(1 - random.uniform())) * Math.cos(2 * Math.PI * random.uniform()),
    Cauchy: (random) => Math.tan(Math.PI * (random.uniform() - 0.5)),
  };
  for (const [name, deviate] of Object.entries(deviates)) {
    for (let seed = 0; seed < 10; seed++) {
      const random = new Random(noiseKey(seed, name));
      const watch = new LossWatch();
      const alarms = Array.from({ length: 2000 }, () => watch.seen(0.2 + 0.1 * deviate(random)));
      expect(
        alarms.filter((rise) => rise !== undefined),
        `${name}, seed ${seed}`,
      ).toEqual([]);
    }
  }
});
