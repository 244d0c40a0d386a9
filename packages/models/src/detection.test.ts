import { expect, test } from 'vitest';
import {
  averagePrecision,
  type BoxEdges,
  type Detection,
  intersectionOverUnion,
  matchDetections,
  meanAveragePrecision,
  nonMaximumSuppression,
} from './detection.js';

const at = (label: string, score: number, box: BoxEdges): Detection => ({ label, score, box });

test('intersection over union: half covered, apart, touching, the same, empty', () => {
  expect(intersectionOverUnion([0, 0, 4, 4], [2, 0, 6, 4])).toBeCloseTo(8 / 24, 12);
  expect(intersectionOverUnion([0, 0, 4, 4], [1, 1, 3, 3])).toBeCloseTo(4 / 16, 12);
  expect(intersectionOverUnion([0, 0, 4, 4], [5, 5, 9, 9])).toBe(0);
  expect(intersectionOverUnion([0, 0, 4, 4], [4, 0, 8, 4])).toBe(0);
  expect(intersectionOverUnion([1, 2, 3, 5], [1, 2, 3, 5])).toBe(1);
  expect(intersectionOverUnion([1, 1, 1, 1], [1, 1, 1, 1])).toBe(0);
});

test('suppression keeps the best of each heap: within a class, or among all', () => {
  const cat = at('cat', 0.9, [0, 0, 10, 10]);
  const sameCat = at('cat', 0.8, [1, 0, 11, 10]);
  const dog = at('dog', 0.7, [0, 1, 10, 11]);
  const otherCat = at('cat', 0.6, [20, 20, 30, 30]);
  expect(nonMaximumSuppression([dog, sameCat, otherCat, cat])).toEqual([cat, dog, otherCat]);
  expect(nonMaximumSuppression([dog, sameCat, otherCat, cat], { within: 'all' })).toEqual([cat, otherCat]);
  expect(nonMaximumSuppression([cat, sameCat], { overlap: 0.9 })).toEqual([cat, sameCat]);
});

test('average precision by hand', () => {
  // right, wrong, right of 2: precision 1 at recall 1/2, 2/3 at recall 1
  const hits = [true, false, true].map((correct, i) => ({ correct, score: 1 - i / 10 }));
  expect(averagePrecision(hits, 2)).toBeCloseTo(0.5 * 1 + 0.5 * (2 / 3), 12);
  // a third object that is never found costs its share
  expect(averagePrecision(hits, 3)).toBeCloseTo((1 + 2 / 3) / 3, 12);
  // wrong, right, right: the envelope lifts the first precision (1/2) to 2/3
  const late = [false, true, true].map((correct, i) => ({ correct, score: 1 - i / 10 }));
  expect(averagePrecision(late, 2)).toBeCloseTo(2 / 3, 12);
  expect(averagePrecision([], 2)).toBe(0);
});

test('an object is found once, by the better detection, and only by its label and place', () => {
  const truths = [
    { label: 'cat', box: [0, 0, 10, 10] as BoxEdges },
    { label: 'dog', box: [20, 0, 30, 10] as BoxEdges },
  ];
  const { detections } = matchDetections(
    [
      at('cat', 0.5, [0, 0, 10, 10]), // second to find the cat
      at('cat', 0.9, [0, 0, 10, 8]),
      at('dog', 0.8, [26, 0, 36, 10]), // 40 of 160: too far off
      at('cat', 0.7, [20, 0, 30, 10]), // wrong label
    ],
    truths,
  );
  expect(detections.map(({ score, correct }) => [score, correct])).toEqual([
    [0.9, true],
    [0.8, false],
    [0.7, false],
    [0.5, false],
  ]);
});

test('mean average precision over labels that are there; scores rank across pictures', () => {
  const cat = { label: 'cat', box: [0, 0, 10, 10] as BoxEdges };
  const dog = { label: 'dog', box: [0, 0, 10, 10] as BoxEdges };
  const pictures = [
    matchDetections([at('cat', 0.6, cat.box)], [cat]),
    matchDetections([at('cat', 0.9, dog.box), at('bird', 1, dog.box)], [dog]),
  ];
  // cat: wrong at 0.9, right at 0.6 -> 1/2; dog: not found -> 0; no bird is there
  expect(meanAveragePrecision(pictures)).toBeCloseTo(0.25, 12);
  expect(meanAveragePrecision([matchDetections([at('cat', 1, cat.box)], [cat])])).toBe(1);
});
