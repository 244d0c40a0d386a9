import { momentsOf } from '@rldf/common/base/stats';
import { expect, test } from 'vitest';
import { PromptStatistics } from './ddpo.js';

test('moments by hand', () => {
  expect(momentsOf([1, 2, 3, 4])).toEqual({ mean: 2.5, std: Math.sqrt(1.25) });
});

test('a prompt with few rewards is judged by the batch, one with enough by its own buffer', () => {
  const statistics = new PromptStatistics(3, 2);
  const [cat, dog, dog2] = statistics.advantages(['cat', 'dog', 'dog'], [0, 2, 4], 5) as [
    number,
    number,
    number,
  ];
  const batch = momentsOf([0, 2, 4]);
  expect(cat).toBeCloseTo((0 - batch.mean) / (batch.std + 1e-6), 12);
  expect([dog, dog2].map((a) => Math.round(a * 1e4) / 1e4)).toEqual([-1, 1]); // mean 3, std 1
});

test('the buffer forgets the oldest', () => {
  const statistics = new PromptStatistics(2, 1);
  statistics.advantages(['cat', 'cat'], [100, 0], 5);
  const [advantage] = statistics.advantages(['cat'], [2], 5); // buffer is now [0, 2]
  expect(advantage).toBeCloseTo(1, 5);
});

test('advantages are clipped; equal rewards give exactly 0', () => {
  const rewards = [...Array<number>(99).fill(0), 1];
  const prompts = rewards.map((_, i) => `prompt ${i}`);
  expect(Math.max(...new PromptStatistics(4, 2).advantages(prompts, rewards, 5))).toBe(5);
  expect(new PromptStatistics(4, 2).advantages(['a', 'b'], [3, 3], 5)).toEqual([0, 0]);
});

test('the state comes back', () => {
  const statistics = new PromptStatistics(4, 2);
  statistics.advantages(['a', 'b'], [1, 2], 5);
  const copy = new PromptStatistics(4, 2);
  copy.load(JSON.parse(JSON.stringify(statistics.state())));
  expect(copy.advantages(['a'], [5], 5)).toEqual(statistics.advantages(['a'], [5], 5));
});
