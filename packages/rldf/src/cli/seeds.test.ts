import { UserError } from '@rldf/torch';
import { expect, test } from 'vitest';
import { parseSeeds } from './seeds.js';

const all = (text: string, count?: number) => {
  const seeds = parseSeeds(text, count);
  return Array.from({ length: seeds.length }, (_, index) => seeds.at(index));
};

test('seeds, lists, ranges and counts, exact in all 64 bits', () => {
  expect(all('7')).toEqual([7]);
  expect(all(' 1,2, 5 - 7')).toEqual([1, 2, 5, 6, 7]);
  expect(all('4', 3)).toEqual([4, 5, 6]);
  expect(all('6687881544318117707')).toEqual([6687881544318117707n]);
  expect(all('18446744073709551614-18446744073709551615')).toEqual([
    18446744073709551614n,
    18446744073709551615n,
  ]);
  expect(all('9007199254740991', 2)).toEqual([9007199254740991, 9007199254740992n]);
  expect(all('007')).toEqual([7]);
});

test('a million is no list in memory', () => {
  const seeds = parseSeeds('5', 1_000_000);
  expect([seeds.length, seeds.at(0), seeds.at(999_999)]).toEqual([1_000_000, 5, 1_000_004]);
  expect(Object.values(seeds).some((value) => Array.isArray(value))).toBe(false);
});

test.each<[string, number | undefined, string]>([
  [
    '-1',
    undefined,
    'whole numbers from 0 to 18446744073709551615, such as 7, 1,2,3 or 0-15; there is no seed that means "any"',
  ],
  ['x', undefined, 'expected whole numbers from 0 to 18446744073709551615'],
  ['', undefined, 'expected whole numbers'],
  ['1.5', undefined, 'expected whole numbers'],
  ['5-0', undefined, '5-0 counts down — write 0-5'],
  ['18446744073709551616', undefined, 'is beyond 18446744073709551615 (2^64 - 1), the largest seed'],
  ['18446744073709551615', 2, 'counted up 2 times it goes beyond 18446744073709551615'],
  ['0-99999999999', undefined, '100000000000 pictures of each prompt — at most 1000000 in one command'],
  ['0', 1e9, '--count 1000000000: 1000000000 pictures of each prompt — at most 1000000'],
  ['1,2', 2, '--count 2 with several seeds'],
])('refused: --seed %s with count %s', (text, count, message) => {
  expect(() => all(text, count)).toThrow(UserError);
  expect(() => all(text, count)).toThrow(message);
});
