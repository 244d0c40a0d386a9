import type { Picture } from '@rldf/common/base/picture';
import { expect, test } from 'vitest';
import { changeOf, describeAlarm, HackWatch, observationOf, observe } from './hack-watch.js';
import { diversityOf, statisticsOf } from './picture-statistics.js';
import thresholds from './thresholds.json' with { type: 'json' };

function picture(colour: (x: number, y: number) => readonly [number, number, number], size = 64): Picture {
  const data = new Uint8Array(size * size * 3);
  for (let y = 0; y < size; y++) for (let x = 0; x < size; x++) data.set(colour(x, y), (y * size + x) * 3);
  return { width: size, height: size, channels: 3, data };
}

const grey = picture(() => [128, 128, 128]);
const red = picture(() => [255, 0, 0]);
const checkerboard = picture((x, y) => ((x + y) % 2 ? [255, 255, 255] : [0, 0, 0]));
const stripes = picture((x) => (x % 8 < 4 ? [255, 255, 255] : [0, 0, 0]));
const oneEdge = picture((x) => (x < 32 ? [255, 255, 255] : [0, 0, 0]));

test('statistics of plain pictures, by hand', () => {
  expect(statisticsOf(grey)).toEqual({ edgeDensity: 0, colourEntropy: 0, saturation: 0, gridPeak: 0 });
  expect(statisticsOf(red).saturation).toBe(1);
  expect(statisticsOf(checkerboard).edgeDensity).toBeCloseTo(1, 12);
  expect(statisticsOf(checkerboard).colourEntropy).toBeCloseTo(1, 12);
  // one column of 63 differs, in each of 64 rows; 2 x 64 x 64 - 128 neighbours
  expect(statisticsOf(oneEdge).edgeDensity).toBeCloseTo(64 / (2 * 64 * 64 - 128), 12);
});

test('a grid of eight pixels has a peak, one edge has little of it', () => {
  expect(statisticsOf(stripes).gridPeak).toBeGreaterThan(0.8);
  expect(statisticsOf(oneEdge).gridPeak).toBeLessThan(0.2);
});

test('diversity: within prompts where there are several pictures of one', () => {
  const black = picture(() => [0, 0, 0]);
  const white = picture(() => [255, 255, 255]);
  expect(diversityOf([black, white], ['a', 'b'])).toBe(1);
  expect(diversityOf([black, black, white], ['a', 'a', 'b'])).toBe(0);
});

test('an alarm needs a rising reward and a symptom; it names the last clean step', () => {
  const watch = new HackWatch();
  const start = observe([oneEdge, red], ['a', 'b'], [5, 5]);
  const gamed = observe([checkerboard, checkerboard], ['a', 'b'], [5, 5]);
  expect(watch.report(0, 1, start)).toBeUndefined();
  expect(watch.report(5, 2, start)).toBeUndefined();
  expect(watch.report(10, 0.5, gamed)).toBeUndefined(); // the reward fell: no hack
  const alarm = watch.report(15, 3, gamed);
  expect(alarm?.lastCleanStep).toBe(10);
  expect(alarm?.symptoms.map(({ name }) => name)).toContain('edgeDensity');
  expect(describeAlarm(alarm!)).toMatch(/step 15.*texture or noise.*Last clean step: 10/);
});

test('a judge that is not trained on and falls is a symptom by itself', () => {
  const watch = new HackWatch();
  const still = observe([red, grey], ['a', 'b'], [10, 10]);
  watch.report(0, 1, still);
  const fallen = { ...still, judge: still.judge! + thresholds.allowed.judge[0]! - 0.1 };
  expect(watch.report(1, 2, fallen)?.symptoms.map(({ name }) => name)).toEqual(['judge']);
});

test('observations come back from the metrics they were written to', () => {
  expect(observationOf({ step: 1, 'watch/edgeDensity': 0.25, 'watch/alarm': ['x'] as never })).toEqual({
    edgeDensity: 0.25,
  });
  expect(changeOf('edgeDensity', 0.099, 0.199)).toBeCloseTo(Math.log(2), 12);
});
