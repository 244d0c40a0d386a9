import { expect, test } from 'vitest';
import { fuzz, fuzzKinds } from './runner.js';

// The long version: npm run campaign -- fuzz
test('damaged files of every kind are read, or refused with a clear message; nothing crashes, hangs or stays behind', async () => {
  const seed = 20261122;
  const { refused, accepted, findings } = await fuzz(fuzzKinds, seed, 150);
  expect(findings).toEqual([]);
  expect(refused + accepted).toBe(150 * fuzzKinds.length);
  // the damage is neither always fatal nor always harmless
  expect(accepted).toBeGreaterThan(150);
  expect(refused).toBeGreaterThan(300);
});
