import { describe, expect, test } from 'vitest';
import {
  ago,
  bytes,
  duration,
  field,
  grouped,
  measured,
  percent,
  plural,
  reward,
  short,
  signed,
} from './format.js';

test('three digits, exponents at the ends, a true minus', () => {
  expect([0, 1.23456, -0.0123, 123.4, 0.00012345, -4.56e-7, 1234.5, 2.5e7].map((x) => short(x))).toEqual([
    '0', '1.23', '−0.0123', '123', '1.23e−4', '−4.56e−7', '1\u2009235', '2.5e7',
  ]); // biome-ignore format: a row
});

test('what is no number is a dash, what is infinite says so', () => {
  expect([null, undefined, Number.NaN].map((x) => short(x))).toEqual(['–', '–', '–']);
  expect([Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY].map((x) => short(x))).toEqual(['∞', '−∞']);
  expect([reward(null), signed(Number.NaN), bytes(null), duration(undefined), ago(null, 0)]).toEqual(
    Array(5).fill('–'),
  );
});

test('rewards have two decimals, and more where two would hide them', () => {
  expect([-1.9535, 0.5, 0.0123, 12.345, 345.6].map(reward)).toEqual([
    '−1.95',
    '0.50',
    '0.0123',
    '12.3',
    '346',
  ]);
  expect([0.589, -0.2, 0, -5e-17, 5e-17].map(signed)).toEqual(['+0.59', '−0.20', '0.00', '0.00', '0.00']);
});

describe('durations and ages', () => {
  test('two units at most, never 60 of one', () => {
    const seconds = [0.34, 9.97, 59.4, 60, 98, 119.6, 599.6, 3599, 3600, 12_000, 172_800, 190_000];
    expect(seconds.map(duration)).toEqual([
      '0.34 s', '10 s', '59 s', '1 min', '1 min 38 s', '2 min', '10 min', '1 h', '1 h', '3 h 20 min', '2 d', '2 d 5 h',
    ]); // biome-ignore format: a row
  });
  test('ages', () => {
    const now = 1e12;
    expect([1, 42, 90, 7200, 400_000, -10].map((s) => ago(now - s * 1000, now))).toEqual([
      'just now', '42 s ago', '1 min ago', '2 h ago', '4 d ago', 'just now',
    ]); // biome-ignore format: a row
  });
});

test('sizes, shares, counts, measures', () => {
  expect([0, 999, 1000, 33_652_508, 1.5e9].map(bytes)).toEqual(['0 B', '999 B', '1 kB', '33.7 MB', '1.5 GB']);
  expect([grouped(1_234_567), grouped(-999), percent(0.246)]).toEqual([
    '1\u2009234\u2009567',
    '−999',
    '25\u2009%',
  ]);
  expect([measured(2048, 'B'), measured(75, 's'), measured(0.5, 'nats'), measured(null, 'nats')]).toEqual([
    '2.05 kB',
    '1 min 15 s',
    '0.5 nats',
    '–',
  ]);
  expect([plural(1, 'run'), plural(2, 'run'), plural(0, 'match', 'matches')]).toEqual([
    '1 run',
    '2 runs',
    '0 matches',
  ]);
});

test("a recipe's values as they would be written", () => {
  expect([['a', 'b'], 3e-4, 0.03, true, null, { a: 1 }].map(field)).toEqual([
    'a, b',
    '3e-4',
    '0.03',
    'true',
    '–',
    '{"a":1}',
  ]);
});
