import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  append,
  type Curve,
  curveOf,
  emptyCurve,
  extent,
  halve,
  indexAt,
  inWords,
  MOST_POINTS,
  nearest,
  numbersOf,
  smooth,
} from './series.js';

const curve = (values: (number | null)[]): Curve => {
  const made = emptyCurve();
  for (const [i, value] of values.entries()) append(made, i + 1, value);
  return made;
};

describe('growing', () => {
  test('a value of the same step replaces, one of an earlier step is passed over', () => {
    const made = curve([1, 2]);
    append(made, 2, 5);
    append(made, 1, 9);
    append(made, 4, null);
    expect([made.steps, made.values]).toEqual([
      [1, 2, 4],
      [1, 5, null],
    ]);
  });

  test('neighbours are merged by their rows, the newest stays alone', () => {
    const made = curve([1, 3, 10, 20, 7]);
    halve(made);
    expect(made).toEqual({
      steps: [2, 4, 5],
      values: [2, 15, 7],
      low: [1, 10, 7],
      high: [3, 20, 7],
      counts: [2, 2, 1],
    });
    halve(made);
    expect([made.steps, made.values, made.low, made.high, made.counts]).toEqual([
      [4, 5],
      [8.5, 7],
      [1, 7],
      [20, 7],
      [4, 1],
    ]);
  });

  test('a gap beside a number is that number; two gaps are a gap', () => {
    const made = curve([null, 4, null, null, 1]);
    halve(made);
    expect([made.values, made.low]).toEqual([
      [4, null, 1],
      [4, null, 1],
    ]);
  });

  test('never longer than allowed, ends at the newest, keeps extremes and the mean', () => {
    const values = fc.array(fc.double({ min: -100, max: 100, noNaN: true }), { minLength: 1, maxLength: 80 });
    fc.assert(
      fc.property(values, fc.integer({ min: 1, max: 4 }), (list, times) => {
        const made = curve(list);
        for (let i = 0; i < times; i++) halve(made);
        expect([made.steps.at(-1), made.values.at(-1)]).toEqual([list.length, list.at(-1)]);
        expect([extent(made.low)![0], extent(made.high)![1]]).toEqual(extent(list));
        const total = made.values.reduce<number>((sum, value, i) => sum + value! * made.counts[i]!, 0);
        expect(total).toBeCloseTo(
          list.reduce((a, b) => a + b, 0),
          6,
        );
        expect(made.counts.reduce((a, b) => a + b, 0)).toBe(list.length);
      }),
      { numRuns: 50 },
    );
    const long = curve(Array.from({ length: 3 * MOST_POINTS }, (_, i) => i));
    expect(long.steps.length).toBeLessThanOrEqual(MOST_POINTS);
    expect(long.steps.at(-1)).toBe(3 * MOST_POINTS);
  });

  test("the server's answer, with and without buckets", () => {
    expect(curveOf({ steps: [1, 2], values: [5, null], rows: 2 }).low).toEqual([5, null]);
    const bucketed = curveOf({ steps: [10, 20], values: [1, 2], low: [0, 1], high: [2, 3], rows: 20 });
    expect([bucketed.high, bucketed.counts]).toEqual([
      [2, 3],
      [10, 10],
    ]);
  });
});

test('rows give numbers, and gaps where they say NaN; texts, truths and lists are no curves', () => {
  const rows = [
    { step: 1, 'reward/mean': 2, 'watch/alarm': 'grid', best: true, list: [1] },
    { step: 2, 'reward/mean': 'NaN', none: null },
  ];
  expect([...numbersOf(rows)]).toEqual([
    [
      'reward/mean',
      [
        { step: 1, value: 2 },
        { step: 2, value: null },
      ],
    ],
  ]);
});

test('smoothing is unbiased from the first value on and keeps gaps', () => {
  expect(smooth([4, null, 4], 0.9)).toEqual([4, null, 4]);
  // (0.5 * 0.5 * 2 + 0.5 * 6) / (0.25 + 0.5)
  expect(smooth([2, 6], 0.5)[1]).toBeCloseTo(14 / 3, 12);
  expect(smooth([1, 2], 0)).toEqual([1, 2]);
});

test('finding steps', () => {
  const steps = [1, 5, 9];
  expect([0, 1, 4, 5, 100].map((step) => indexAt(steps, step))).toEqual([-1, 0, 0, 1, 2]);
  expect([0, 2, 3, 4, 7, 8].map((step) => nearest(steps, step))).toEqual([0, 0, 0, 1, 1, 2]);
  expect(nearest([], 3)).toBe(-1);
});

test('a curve in words', () => {
  expect(inWords(curve([3, null, 1, 2]), String)).toBe('from 3 at step 1 to 2 at step 4, between 1 and 3');
  expect([
    inWords(emptyCurve(), String),
    inWords(curve([null]), String),
    inWords(curve([2]), String),
  ]).toEqual(['no numbers yet', 'no numbers yet', '2 at step 1']);
});
