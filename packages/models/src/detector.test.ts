import { Parameters, setThreads, tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import type { BoxEdges } from './detection.js';
import { OneStageDetector } from './detector.js';
import { asPredictions, cellCentre, readCells } from './detector-cells.js';
import { cellsCovered, PatchVotingDetector, poolVotes } from './detector-patches.js';

setThreads(1);

const LABELS = ['cat', 'dog'];
const pictures = (count: number, size = 64) =>
  tensor(
    Uint8Array.from({ length: count * size * size * 3 }, (_, i) => (i * 37) % 251),
    { shape: [count, size, size, 3] },
  );

test.each([OneStageDetector, PatchVotingDetector])(
  '%o: a cell each of 8 x 8 says objectness, labels and edges; all parameters are used',
  (Network) => {
    const parameters = Parameters.random(1);
    const network = new Network(parameters.at(), LABELS);
    const images = pictures(2).permute([0, 3, 1, 2]).to('float32').div(127.5).sub(1);
    const { objectness, classes, distances } = network.forward(images);
    expect(objectness.shape).toEqual([2, 64]);
    expect(classes.shape).toEqual([2, 64, 2]);
    expect(distances.shape).toEqual([2, 64, 4]);
    const detections = network.detect(pictures(2), { threshold: 0 });
    expect(detections).toHaveLength(2);
    for (const { label, score, box } of detections.flat()) {
      expect(LABELS).toContain(label);
      expect(score).toBeLessThanOrEqual(1);
      for (const edge of box) expect(edge).toBeGreaterThanOrEqual(0);
      for (const edge of box) expect(edge).toBeLessThanOrEqual(64);
    }
    expect(network.detect(pictures(1), { threshold: 1.01 })).toEqual([[]]);
    expect(() => network.detect(images)).toThrow(/uint8 \[batch, height, width, 3\]/);
  },
);

test('boxes are centre minus and plus distances, scaled to the size of the picture', () => {
  // one label; distances -1 in the head's units mean 8 px, 0 means 16 px
  const head = new Float32Array(64 * 6).fill(0);
  head.set([3, -1, 0, -1, 0, 5], 9 * 6); // cell 9: centre (12, 12)
  const [reading] = readCells(
    pictures(1, 128),
    () => asPredictions(tensor(head, { shape: [1, 64, 6] })),
    ({ objectness, boxes }, toPicture) => ({
      sure: objectness[9] as number,
      box: boxes[9] as BoxEdges,
      scaled: toPicture(boxes[9] as BoxEdges),
    }),
  );
  expect(reading?.sure).toBeCloseTo(1 / (1 + Math.exp(-3)), 5);
  expect(cellCentre(9)).toEqual({ x: 12, y: 12 });
  expect(reading?.box).toEqual([4, -4, 20, 28]);
  expect(reading?.scaled).toEqual([8, 0, 40, 56]);
});

test('votes that agree make one poll, whose box is their weighted mean; unsure cells do not vote', () => {
  const left: BoxEdges = [0, 0, 32, 32];
  const leftToo: BoxEdges = [4, 0, 36, 32];
  const right: BoxEdges = [32, 0, 64, 32];
  const polls = poolVotes([0.9, 0.3, 0.8, 0.1], [left, leftToo, right, left]);
  expect(polls.map(({ cells }) => cells)).toEqual([[0, 1], [2]]);
  expect(polls[0]?.box[0]).toBeCloseTo((0.9 * 0 + 0.3 * 4) / 1.2, 6);
  expect(polls[0]?.weight).toBeCloseTo(1.2, 6);
});

test('an object is answered for by the cells it covers by a quarter; a thin one by those it covers most', () => {
  expect(cellsCovered([8, 8, 24, 24])).toEqual([9, 10, 17, 18]);
  expect(cellsCovered([8, 8, 17, 16])).toEqual([9]); // an eighth of the next cell does not count
  expect(cellsCovered([0, 3, 16, 4])).toEqual([0, 1]);
  expect(cellsCovered([5, 5, 5, 5])).toEqual([]);
});
