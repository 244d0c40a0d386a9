import { expect, test } from 'vitest';
import { fuzz, fuzzKinds } from './runner.js';

// The long version: npm run campaign -- fuzz
test('damaged files of every kind are read, or refused with a clear message; nothing crashes, hangs or stays behind', async () => {
  const seed = 20261122;
  const foreign = ['peft', 'ldm', 'shards', 'torchFiles', 'singleFiles', 'lycoris', 'xl', 'schedulers']; // of the same readers as others
  const own = fuzzKinds.filter((kind) => !foreign.includes(kind));
  const found = [await fuzz(own, seed, 150), await fuzz(foreign, seed, 50)];
  expect(found.flatMap(({ findings }) => findings)).toEqual([]);
  const [refused, accepted] = (['refused', 'accepted'] as const).map((what) =>
    found.reduce((sum, tally) => sum + tally[what], 0),
  ) as [number, number];
  expect(refused + accepted).toBe(150 * own.length + 50 * foreign.length);
  // the damage is neither always fatal nor always harmless
  expect(accepted).toBeGreaterThan(150);
  expect(refused).toBeGreaterThan(300);
});
