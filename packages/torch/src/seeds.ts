import { UserError } from './errors.js';

/** An integer from 0 to 2^64 - 1, as other tools write them: a BigInt where a number is not exact, from 2^53 on. */
export type Seed = number | bigint;

export const largestSeed = 2n ** 64n - 1n;

/** The seed of this value. @throws UserError when it is none, or lost digits as a number */
export function seedOf(value: Seed | string): Seed {
  const text = typeof value === 'string' ? value.trim() : String(value);
  if (/^\d{1,20}$/.test(text) && BigInt(text) <= largestSeed) {
    if (typeof value !== 'number' || Number.isSafeInteger(value)) {
      return BigInt(text) <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(text) : BigInt(text);
    }
  }
  const inexact =
    typeof value === 'number' && Number.isInteger(value) && value > 0 && BigInt(value) <= largestSeed;
  throw new UserError(
    inexact
      ? `seed ${text}: a number of this size has lost digits — from 2^53 on give a BigInt, such as ${text}n`
      : `seed ${text}: expected a whole number from 0 to ${largestSeed} (2^64 - 1)`,
  );
}

/** The seed `count` further on; behind the largest comes 0. */
export const seedAfter = (seed: Seed, count: number): Seed =>
  seedOf((BigInt(seed) + BigInt(count)) & largestSeed);
