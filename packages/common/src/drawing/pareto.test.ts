import { expect, test } from 'vitest';
import { type ParetoPoint, pairsOf, paretoFront, paretoSvg } from './pareto.js';

const points: ParetoPoint[] = [
  { step: 0, values: [0, 0, 9] },
  { step: 1, values: [1, 3, 5] },
  { step: 2, values: [2, 2, 1] },
  { step: 3, values: [3, 1, 4] },
  { step: 4, values: [2, 1, 2] }, // step 2 is as good in the first, better in the second
  { step: 5, values: [3, 1, 4] }, // as step 3: neither is better
];
const axes = [{ name: 'a' }, { name: 'b' }, { name: 'c', less: true }];
const steps = (front: ParetoPoint[]) => front.map(({ step }) => step);

test('the front: what nothing is better than, by the axes that count and the way that is better', () => {
  expect(steps(paretoFront(points, axes, [0, 1]))).toEqual([1, 2, 3, 5]);
  expect(steps(paretoFront(points, axes, [0, 2]))).toEqual([2, 3, 5]); // less of c is better
  expect(steps(paretoFront(points, axes))).toEqual([1, 2, 3, 5]);
  expect(paretoFront([], axes)).toEqual([]);
});

test('pairs, at most so many', () => {
  expect(pairsOf(2)).toEqual([[0, 1]]);
  expect(pairsOf(3)).toEqual([
    [0, 1],
    [0, 2],
    [1, 2],
  ]);
  expect(pairsOf(9)).toHaveLength(6);
});

test('one panel a pair, with the names of both, the points of the front ringed, and where it began', async () => {
  const svg = await paretoSvg(points, axes, 'a run');
  for (const text of ['a run', 'mean a', 'mean b', 'mean c (less is better)', 'before', 'end'])
    expect(svg).toContain(text);
  expect(svg.match(/>before</g)).toHaveLength(3);
  const rings = svg.match(/<path aria-label[^>]*stroke="#c2410c"/g) ?? [];
  expect(rings).toHaveLength(4 + 3 + steps(paretoFront(points, axes, [1, 2])).length);
});
