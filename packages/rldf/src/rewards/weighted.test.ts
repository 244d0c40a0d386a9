import { grad, type Tensor, tensor, UserError } from '@rldf/torch';
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

test('a cap cuts scores off before they are normalised, and their gradient; raw scores are reported', async () => {
  const reward = new WeightedReward([
    { reward: listed('a', [1, 2, 9]), weight: 2, normalise: 'none', cap: 3 },
  ]);
  const { total, parts } = await scorePictures(reward, batch(3));
  expect(total).toEqual([2, 4, 6]);
  expect(parts.a).toEqual([1, 2, 9]);
  const mean: Reward = { ...listed('b', [0]), differentiable: (images01) => images01.mean([1, 2, 3]) };
  const capped = new WeightedReward([{ reward: mean, normalise: 'none', cap: 0.5 }]);
  const images = tensor([0.2, 0.9], { shape: [2, 1, 1, 1] }).requiresGrad_();
  const totals = capped.differentiable?.(images, ['', '']) as Tensor;
  expect(totals.toNumbers().map((value) => Number(value.toFixed(6)))).toEqual([0.2, 0.5]);
  expect(grad(totals.sum(), [images])[0]?.toNumbers()).toEqual([1, 0]);
});

test('a floor’s multiplier rises with the shortfall of the running mean, falls with a surplus, and stays above 0', async () => {
  const lists = [
    [0, 2], // mean 1, spread 1: the base
    [-1, -1],
    [-1, -1],
    [5, 5],
    [5, 5],
  ];
  const raised = lists.map(() => [1, 3]);
  const reward = new WeightedReward([
    { reward: listed('a', ...raised), normalise: 'none' },
    { reward: listed('b', ...lists), normalise: 'none', floor: 'base', floorRate: 0.5 },
  ]);
  const multipliers: number[] = [];
  for (let call = 0; call < lists.length; call++) {
    const { total, parts } = await scorePictures(reward, batch(2));
    const multiplier = parts['b/multiplier']?.[0] as number;
    multipliers.push(multiplier);
    expect(total[1]).toBeCloseTo(3 + multiplier * (lists[call]?.[1] as number), 12);
  }
  // m: 1, 1 - 0.6 = 0.4, 0.4 - 0.42 = -0.02, -0.02 + 1.506 = 1.486, 1.486 + 1.0542 = 2.5402
  const expected = [0, 0.5 * 0.6, 0.5 * (0.6 + 1.02), 0.81 - 0.5 * 0.486, 0];
  multipliers.forEach((value, i) => {
    expect(value).toBeCloseTo(expected[i] as number, 10);
  });
});

test('evaluation counts a reward with a floor only below it, whatever the multiplier; the multiplier is state', async () => {
  const make = () =>
    new WeightedReward([
      { reward: listed('a', [1, 1]), normalise: 'none' },
      { reward: listed('b', [2, 5], [0, 0], [2, 5], [2, 5]), normalise: 'none', floor: 4 },
    ]);
  const reward = make();
  expect((await scorePictures(reward, batch(2), 'evaluation')).total).toEqual([1 - 2, 1]);
  await scorePictures(reward, batch(2));
  expect((await scorePictures(reward, batch(2), 'evaluation')).total).toEqual([1 - 2, 1]);
  const resumed = make();
  resumed.load(JSON.parse(JSON.stringify(reward.state())));
  expect(resumed.state()).toEqual(reward.state());
  expect((reward.state() as { multipliers: { value: number }[] }).multipliers[1]?.value).toBeGreaterThan(0);
});

test('floor: base is the mean of the pictures scored as base, not of the first training pictures', async () => {
  const reward = new WeightedReward([
    { reward: listed('a', [1, 3]), normalise: 'none' },
    { reward: listed('b', [4, 6], [0, 2], [0, 2]), normalise: 'none', floor: 'base', floorRate: 0.5 },
  ]);
  expect(reward.wantsBase).toBe(true);
  await scorePictures(reward, batch(2), 'base');
  const floors = () => (reward.state() as { multipliers: { floor: number }[] }).multipliers[1]?.floor;
  expect(floors()).toBe(5);
  const { parts } = await scorePictures(reward, batch(2)); // explored: mean 1, spread 1
  expect(parts['b/multiplier']).toEqual([2, 2]); // 0.5 (5 - 1) / 1
  expect(floors()).toBe(5);
});

test('by prompt, each reward is normalised among the pictures of its prompt before they are added (GDPO)', async () => {
  const prompts = ['a cat', 'a dog', 'a cat', 'a dog'];
  const make = (normalise: 'prompt' | 'none') =>
    new WeightedReward([
      { reward: listed('a', [0, 10, 2, 10]), normalise },
      { reward: listed('b', [0, 5, 100, 1]), weight: 2, normalise },
    ]);
  const { total, parts } = await scorePictures(make('prompt'), { ...batch(4), prompts });
  // a cat: a is -1, 1 and b is -1, 1; a dog: a is equal, so 0, and b is 1, -1. Sums: -3, 2, 3, -2: mean 0, deviation sqrt(6.5)
  for (const [i, sum] of [-3, 2, 3, -2].entries()) expect(total[i]).toBeCloseTo(sum / Math.sqrt(6.5), 12);
  expect(parts).toEqual({ a: [0, 10, 2, 10], b: [0, 5, 100, 1] });
  // what is summed before it is normalised is told by the prompt with the larger numbers
  const plain = (await scorePictures(make('none'), { ...batch(4), prompts })).total;
  expect(plain).toEqual([0, 20, 202, 12]);
});

test('two rewards that add up to the same are told apart by prompt, as GDPO’s example has it', async () => {
  // of four pictures two reach the first reward, which is worth 2 in all, and one the second: 1, 0, 0 | 0, 1
  const make = (normalise: 'prompt' | 'batch') =>
    new WeightedReward([
      { reward: listed('a', [1, 1, 0, 0]), normalise },
      { reward: listed('b', [0, 0, 1, 0]), normalise },
    ]);
  const { total } = await scorePictures(make('prompt'), batch(4));
  expect(total[0]).toBe(total[1]);
  expect(total[2]).toBeGreaterThan(total[0]!); // the rarer success counts for more, though each is 1
  expect(total[2]! - total[0]!).toBeGreaterThan(0.1);
  expect(total.reduce((sum, value) => sum + value, 0)).toBeCloseTo(0, 12);
});

test('by prompt, evaluation keeps the scale of the first pictures, and a single picture of a prompt gives 0', async () => {
  const lists = [
    [0, 2],
    [4, 6],
  ];
  const reward = new WeightedReward([{ reward: listed('a', ...lists), normalise: 'prompt' }]);
  expect((await scorePictures(reward, batch(2), 'evaluation')).total).toEqual([-1, 1]);
  expect((await scorePictures(reward, { ...batch(2), prompts: ['a', 'b'] })).total).toEqual([0, 0]);
  expect((await scorePictures(reward, batch(2), 'evaluation')).total).toEqual([-1, 1]);
});
