import { expect, test } from 'vitest';
import { longestAxes, placeOf, plane, stateOf } from './world.js';

const axis = (name: string, count: number) => ({
  name,
  values: Array.from({ length: count }, (_, i) => `${name}${i}`),
});
const axes = [axis('a', 2), axis('b', 5), axis('c', 3)];

test('the last axis is the fastest', () => {
  expect([0, 1, 3, 15, 29].map((state) => placeOf(state, axes))).toEqual([
    [0, 0, 0],
    [0, 0, 1],
    [0, 1, 0],
    [1, 0, 0],
    [1, 4, 2],
  ]);
  for (let state = 0; state < 30; state++) expect(stateOf(placeOf(state, axes), axes)).toBe(state);
});

test('a plane holds the other axes', () => {
  expect(plane([1, 0, 2], axes, 1, 0)).toEqual([
    [2, 17],
    [5, 20],
    [8, 23],
    [11, 26],
    [14, 29],
  ]);
  expect(longestAxes(axes)).toEqual({ columns: 1, rows: 2 });
  expect(longestAxes([axis('only', 4)])).toEqual({ columns: 0, rows: 0 });
});
