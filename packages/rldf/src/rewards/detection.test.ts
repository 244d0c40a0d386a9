import type { Detection, Detector } from '@rldf/models';
import { tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { count, detectorConfidence, presence, spatial } from './detection.js';

const at = (label: string, x: number, y: number, score = 0.9): Detection => ({
  label,
  score,
  box: [x, y, x + 20, y + 20],
});
const detecting = (...pictures: Detection[][]): Detector => ({
  labels: ['cat', 'dog', 'cow', 'sports ball'],
  detect: (_, { threshold = 0.5 } = {}) =>
    pictures.map((found) => found.filter(({ score }) => score >= threshold)),
});
const batch = (...prompts: string[]) => ({
  images: tensor(new Uint8Array(prompts.length * 3), { shape: [prompts.length, 1, 1, 3], dtype: 'uint8' }),
  prompts,
  meta: prompts.map(() => null),
});

test('spatial: exactly one box each, centres as the prompt says', async () => {
  const side = [at('cat', 0, 5), at('dog', 30, 0)];
  const stacked = [at('dog', 0, 30), at('cat', 10, 0)];
  const score = async (prompt: string, found: Detection[]) =>
    (await spatial(detecting(found)).score(batch(prompt)))[0];
  expect(await score('a cat to the left of a dog', side)).toBe(1);
  expect(await score('a dog to the right of a cat', side)).toBe(1);
  expect(await score('a cat to the right of a dog', side)).toBe(0);
  expect(await score('a cat above a dog', stacked)).toBe(1);
  expect(await score('a cat below a dog', stacked)).toBe(0);
  expect(await score('a cat to the left of a dog', [...side, at('cat', 0, 40)])).toBe(0);
  expect(await score('a cat to the left of a dog', [...side, at('cow', 0, 40)])).toBe(0);
  expect(await score('a cat to the left of a dog', [at('cat', 0, 0), at('cow', 30, 0)])).toBe(0);
});

test('count: minus the objects too many or too few', async () => {
  const two = [at('cat', 0, 0), at('cat', 30, 0), at('dog', 0, 30)];
  const reward = count(detecting(two, two, two, two));
  const prompts = ['two cats', 'four cats on the grass', 'a cat and a dog', 'a photo of a cow'];
  expect(await reward.score(batch(...prompts))).toEqual([0, -2, -1, -1]);
});

test('presence: every noun is found, however often and wherever', async () => {
  const found = [at('cat', 0, 0), at('cat', 30, 0), at('dog', 0, 30)];
  const reward = presence(detecting(found, found, found));
  expect(await reward.score(batch('a cat above a dog', 'a cow', 'a cat and a cow'))).toEqual([1, 0, 0]);
});

test('confidence: the best score of each noun, also of faint detections', async () => {
  const found = [at('cat', 0, 0, 0.8), at('cat', 9, 0, 0.3), at('dog', 30, 0, 0.1)];
  const [both, playing] = await detectorConfidence(detecting(found, found)).score(
    batch('a cat and a dog', 'a cat playing soccer'),
  );
  expect(both).toBeCloseTo(0.45, 12);
  expect(playing).toBeCloseTo(0.4, 12);
});

test('prompts that cannot be scored are named', () => {
  const nothing = detecting([]);
  expect(() => spatial(nothing).score(batch('a cat'))).toThrow('the prompt "a cat" names no relation');
  expect(() => count(nothing).score(batch('a unicorn'))).toThrow('"a unicorn" is no sentence');
});
