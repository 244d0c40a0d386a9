import { tensor, UserError } from '@rldf/torch';
import { expect, test } from 'vitest';
import { type Reward, scorePictures } from './reward.js';
import { WeightedReward } from './weighted.js';

const batch = (count: number) => ({
  images: tensor(new Uint8Array(count * 3), { shape: [count, 1, 1, 3], dtype: 'uint8' }),
  prompts: Array.from({ length: count }, () => 'a cat'),
  meta: Array.from({ length: count }, () => null),
});
/** Gives the listed scores, one list a call. */
function listed(name: string, ...lists: number[][]): Reward {
  let call = 0;
  return { name, unit: '', score: () => lists[call++ % lists.length]! };
}

test('without normalisation the total is the weighted sum of raw scores', async () => {
  const reward = new WeightedReward([
    { reward: listed('a', [1, 2]), weight: 2, normalise: 'none' },
    { reward: listed('b', [10, -10]), weight: -0.5, normalise: 'none' },
  ]);
  const scores = await scorePictures(reward, batch(2));
  expect(scores.total).toEqual([-3, 9]);
  expect(scores.parts).toEqual({ a: [1, 2], b: [10, -10] });
});

test('running normalisation uses all training pictures so far, batch only these', async () => {
  const lists = [
    [0, 2],
    [4, 6],
  ];
  const running = new WeightedReward([{ reward: listed('a', ...lists), weight: 1, normalise: 'running' }]);
  expect((await scorePictures(running, batch(2))).total).toEqual([-1, 1]); // mean 1, deviation 1
  const second = (await scorePictures(running, batch(2))).total; // of 0, 2, 4, 6: mean 3, deviation sqrt 5
  expect(second[0]).toBeCloseTo(1 / Math.sqrt(5), 12);
  expect(second[1]).toBeCloseTo(3 / Math.sqrt(5), 12);
  const perBatch = new WeightedReward([{ reward: listed('a', ...lists), weight: 3, normalise: 'batch' }]);
  await scorePictures(perBatch, batch(2));
  expect((await scorePictures(perBatch, batch(2))).total).toEqual([-3, 3]);
});

test('evaluation keeps the scale of the first pictures and leaves the statistics alone', async () => {
  const lists = [
    [0, 2],
    [100, 300],
    [4, 6],
  ];
  const reward = new WeightedReward([{ reward: listed('a', ...lists), weight: 1, normalise: 'running' }]);
  expect((await scorePictures(reward, batch(2), 'evaluation')).total).toEqual([-1, 1]);
  await scorePictures(reward, batch(2), 'training');
  expect((await scorePictures(reward, batch(2), 'evaluation')).total).toEqual([3, 5]);
});

test('equal scores give 0, not NaN', async () => {
  const reward = new WeightedReward([{ reward: listed('a', [7, 7]), weight: 1, normalise: 'batch' }]);
  expect((await scorePictures(reward, batch(2))).total).toEqual([0, 0]);
});

test('statistics survive saving and loading', async () => {
  const make = () => new WeightedReward([{ reward: listed('a', [0, 2]), weight: 1, normalise: 'running' }]);
  const first = make();
  await scorePictures(first, batch(2));
  const resumed = make();
  resumed.load(JSON.parse(JSON.stringify(first.state())));
  expect(resumed.state()).toEqual(first.state());
  expect(() => new WeightedReward([]).load(first.state())).toThrow(UserError);
});

test('a part that misbehaves is named, and a reward may be listed once only', async () => {
  const reward = new WeightedReward([{ reward: listed('a', [1]), weight: 1, normalise: 'none' }]);
  await expect(scorePictures(reward, batch(2))).rejects.toThrow('reward a: returned 1 scores for 2 pictures');
  const part = { reward: listed('a'), weight: 1, normalise: 'none' } as const;
  expect(() => new WeightedReward([part, part])).toThrow('a is listed twice');
});
