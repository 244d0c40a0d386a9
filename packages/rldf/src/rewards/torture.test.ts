import type { Picture } from '@rldf/common/base/picture';
import { expect, test } from 'vitest';
import { rewardFromFunction } from './module.js';
import { type Torment, tortureNames, tortureReward } from './torture.js';

/** A grey square of its own tone left or right in a white picture. */
function square(tone: number, left: boolean): Picture {
  const data = new Uint8Array(16 * 16 * 3).fill(230);
  for (let y = 4; y < 12; y++)
    for (let x = 0; x < 8; x++)
      data.fill(tone, (y * 16 + x + (left ? 0 : 8)) * 3, (y * 16 + x + (left ? 0 : 8)) * 3 + 3);
  return { width: 16, height: 16, channels: 3, data };
}
const good = ['cat', 'dog', 'cow', 'pig', 'fox', 'owl'].flatMap((noun, i) => [
  { prompt: `a ${noun}`, picture: square(90 + i, true) },
  { prompt: `a ${noun} to the left of a bear`, picture: square(90 + i, true) },
]);
const verdicts = (torments: readonly Torment[]) =>
  Object.fromEntries(torments.map(({ name, verdict }) => [name, verdict]));

test('a reward of darkness prefers what is darker, and cannot tell what it does not look at', async () => {
  const dark = rewardFromFunction('dark', ({ images }) =>
    images.map(({ data }) => -data.reduce((sum, value) => sum + value, 0) / data.length),
  );
  const torments = await tortureReward(dark, good);
  expect(torments.map(({ name }) => name)).toEqual(tortureNames);
  expect(verdicts(torments)).toMatchObject({
    noise: 'preferred',
    blank: 'refused',
    grid: 'preferred',
    mirrored: 'no difference',
    'wrong prompt': 'no difference',
  });
  const mirrored = torments.find(({ name }) => name === 'mirrored')!;
  expect([mirrored.count, mirrored.difference]).toEqual([6, 0]);
});

test('a reward that knows prompt and place refuses the mirrored picture and the wrong prompt', async () => {
  const nouns = ['cat', 'dog', 'cow', 'pig', 'fox', 'owl'];
  const strict = rewardFromFunction('strict', ({ images, prompts }) =>
    images.map(({ data, width }, i) => {
      const tone = data[3 * (6 * width + 2)]!;
      return Number(nouns[tone - 90] !== undefined && prompts[i]!.startsWith(`a ${nouns[tone - 90]}`));
    }),
  );
  const torments = await tortureReward(strict, good);
  expect(new Set(torments.map(({ verdict }) => verdict))).toEqual(new Set(['refused']));
  for (const { good: before, tortured, difference } of torments)
    expect(tortured - before).toBeCloseTo(difference, 12);
});

test('the same seed gives the same noise', async () => {
  const first = rewardFromFunction('first', ({ images }) => images.map(({ data }) => data[0]!));
  expect(await tortureReward(first, good, 3)).toEqual(await tortureReward(first, good, 3));
});

test('pictures of different sizes, and what the prompt file says of each, reach the reward', async () => {
  const seen: unknown[] = [];
  const reward = rewardFromFunction('task', ({ images, meta }) =>
    images.map(({ width }, i) => {
      seen.push(meta[i]);
      return width === 16 && (meta[i] as { wanted: number }).wanted === 16 ? 1 : 0;
    }),
  );
  const large = { ...square(90, true), width: 8, height: 32 };
  const some = [
    { prompt: 'a sign that says "one"', picture: square(90, true), meta: { wanted: 16 } },
    { prompt: 'a sign that says "two"', picture: large, meta: { wanted: 8 } },
  ];
  const torments = await tortureReward(reward, some);
  expect(torments.map(({ name }) => name)).toEqual(tortureNames); // mirrored letters are wrong
  expect(torments.every(({ good }) => good === 0.5)).toBe(true);
  expect(torments.find(({ name }) => name === 'wrong prompt')!.tortured).toBe(0);
  expect(seen).not.toContain(null);
});
