import type { Detection, Detector } from '@rldf/models';
import { tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { askedInLabels, formsOf, wordsOf } from '../prompts/label-nouns.js';
import { detectedReward } from './detected.js';
import { count, spatial } from './detection.js';
import { cocoLabels } from './detectors/coco.js';
import {
  canTell,
  colourName,
  type GenevalTask,
  geneval,
  genevalTask,
  genevalVerdict,
  pixelColour,
  relationsOf,
} from './geneval.js';

const at = (label: string, x: number, y: number, score = 0.95, size = 20): Detection => ({
  label,
  score,
  box: [x, y, x + size, y + size],
});
const same = (name: string) => name;
const verdict = (
  task: GenevalTask,
  found: Detection[],
  colour: (one: Detection) => string | undefined = () => undefined,
) => genevalVerdict(task, found, same, colour);

// lines of the published prompt file's form
const single = {
  tag: 'single_object',
  include: [{ class: 'bench', count: 1 }],
  prompt: 'a photo of a bench',
};
const two = {
  tag: 'two_object',
  include: [
    { class: 'bench', count: 1 },
    { class: 'dog', count: 1 },
  ],
};
const counting = {
  tag: 'counting',
  include: [{ class: 'dog', count: 2 }],
  exclude: [{ class: 'dog', count: 3 }],
};
const colours = { tag: 'colors', include: [{ class: 'dog', count: 1, color: 'red' }] };
const position = {
  tag: 'position',
  include: [
    { class: 'cat', count: 1 },
    { class: 'dog', count: 1, position: ['left of', 0] as ['left of', number] },
  ],
};

test('single objects, two objects: each must be found', () => {
  expect(verdict(single, [at('bench', 0, 0)]).correct).toBe(true);
  expect(verdict(single, [at('bench', 0, 0, 0.3)])).toMatchObject({
    correct: false,
    share: 0,
    reasons: ['0 of 1 bench'],
  });
  expect(verdict(two, [at('bench', 0, 0), at('dog', 50, 0), at('cat', 0, 50)]).correct).toBe(true);
  expect(verdict(two, [at('bench', 0, 0)])).toMatchObject({
    correct: false,
    share: 0.5,
    reasons: ['0 of 1 dog'],
  });
});

test('counting: not too few, not too many, and only certain ones', () => {
  const dogs = (...scores: number[]) => scores.map((score, i) => at('dog', 30 * i, 0, score));
  expect(verdict(counting, dogs(0.95, 0.95)).correct).toBe(true);
  expect(verdict(counting, dogs(0.95, 0.8))).toMatchObject({ correct: false, share: 0.75 });
  expect(verdict(counting, dogs(0.95, 0.95, 0.95))).toMatchObject({
    correct: false,
    share: 0.5,
    reasons: ['3 dog, 3 are too many'],
  });
  expect(verdict(counting, dogs(0.95, 0.95, 0.8)).correct).toBe(true);
});

test('colours: of as many as are asked for', () => {
  expect(verdict(colours, [at('dog', 0, 0)], () => 'red').correct).toBe(true);
  expect(verdict(colours, [at('dog', 0, 0)], () => 'blue')).toMatchObject({ correct: false, share: 0.5 });
});

test('positions: seen from the object that is named, and only if it is there', () => {
  expect(verdict(position, [at('cat', 50, 0), at('dog', 0, 0)]).correct).toBe(true);
  expect(verdict(position, [at('cat', 0, 0), at('dog', 50, 0)])).toMatchObject({
    correct: false,
    reasons: ['dog not left of cat'],
  });
  const alone = verdict(position, [at('dog', 0, 0)]);
  expect(alone.reasons).toEqual(['0 of 1 cat', 'no cat to be left of']);
  expect(alone.share).toBeCloseTo(1 / 3, 12);
});

test('a relation needs a tenth of both sizes, and its own direction', () => {
  const box = (x: number, y: number): [number, number, number, number] => [x, y, x + 20, y + 20];
  expect(relationsOf(box(0, 0), box(50, 0))).toEqual(['left of']);
  expect(relationsOf(box(4, 0), box(0, 0))).toEqual([]); // 4 = 0.1 x (20 + 20)
  expect(relationsOf(box(0, 50), box(0, 0))).toEqual(['below']);
  expect(relationsOf(box(50, 50), box(0, 0))).toEqual(['right of', 'below']);
  expect(relationsOf(box(50, 5), box(0, 0))).toEqual(['right of']);
});

test('lines that are not of this form are told with their prompt', () => {
  const wrong = (meta: unknown) => () => genevalTask(meta, 'a dog');
  expect(wrong(null)).toThrow(
    /^geneval: "a dog": does not say what is to be there \(include\) — each line .*evaluation_metadata\.jsonl/,
  );
  expect(wrong({ include: [{ class: 'dog', count: 0 }] })).toThrow(/include\[0\]\.count is 0/);
  expect(wrong({ include: [{ class: 'dog', count: 1, color: 'mauve' }] })).toThrow(
    /color is "mauve", not one of red/,
  );
  expect(wrong({ include: [{ class: 'dog', count: 1, position: ['left of', 0] }] })).toThrow(
    /the number of an object before it/,
  );
  expect(wrong({ include: [{ class: 'dog', count: 1 }], exclude: [{ class: 'dog' }] })).toThrow(
    /exclude is no list/,
  );
  expect(genevalTask(position, 'x').tag).toBe('position');
});

const detecting = (...pictures: Detection[][]): Detector => ({
  labels: cocoLabels,
  detect: async () => pictures,
});
const batch = (size: number, prompts: string[], meta: unknown[], colour = [0, 0, 0]) => ({
  images: tensor(
    Uint8Array.from({ length: prompts.length * size * size * 3 }, (_, i) => colour[i % 3]!),
    { shape: [prompts.length, size, size, 3], dtype: 'uint8' },
  ),
  prompts,
  meta,
});

test('as rewards: the verdict, and the share; colours by pixels', async () => {
  const found = [[at('dog', 0, 0)], [at('bench', 0, 0)]];
  const red = batch(32, ['a red dog', 'a bench and a dog'], [colours, two], [220, 20, 20]);
  expect(await geneval(detecting(...found)).score(red)).toEqual([1, 0]);
  expect(await geneval(detecting(...found), { shares: true }).score(red)).toEqual([1, 0.5]);
  const unknown = { tag: 'x', include: [{ class: 'unicorn', count: 1 }] };
  await expect(
    Promise.resolve(geneval(detecting([])).score(batch(8, ['a unicorn'], [unknown]))),
  ).rejects.toThrow(/the detector has no label for the class unicorn — its 80 labels begin with person/);
  expect(canTell(unknown, { labels: cocoLabels })).toBe(false);
  expect(
    canTell({ tag: 'x', include: [{ class: 'computer mouse', count: 1 }] }, { labels: cocoLabels }),
  ).toBe(true);
});

test.each([
  [[220, 20, 20], 'red'],
  [[250, 140, 20], 'orange'],
  [[240, 220, 40], 'yellow'],
  [[30, 140, 50], 'green'],
  [[30, 70, 200], 'blue'],
  [[120, 40, 170], 'purple'],
  [[250, 150, 190], 'pink'],
  [[110, 70, 40], 'brown'],
  [[15, 15, 18], 'black'],
  [[245, 245, 240], 'white'],
  [[128, 128, 128], undefined],
])('the pixel %j is %s', (pixel, name) => {
  expect(colourName(...(pixel as [number, number, number]))).toBe(name);
});

test('the colour of a box is that of most pixels in its middle', () => {
  const data = new Uint8Array(16 * 16 * 3).fill(255);
  for (let y = 4; y < 12; y++) for (let x = 4; x < 12; x++) data.set([20, 40, 200], (y * 16 + x) * 3);
  const picture = { width: 16, height: 16, channels: 3 as const, data };
  expect(pixelColour(picture, { label: 'x', score: 1, box: [0, 0, 16, 16] })).toBe('blue');
  expect(pixelColour(picture, { label: 'x', score: 1, box: [-99, -99, -98, -98] })).toBeUndefined();
});

const words = wordsOf(cocoLabels);
test.each([
  ['a photo of two dogs', { dog: 2 }, undefined],
  ['a cat to the left of a bench', { cat: 1, bench: 1 }, 'left'],
  ['a photo of a dog right of a teddy bear.', { dog: 1, 'teddy bear': 1 }, 'right'],
  ['A person above a sofa', { person: 1, couch: 1 }, 'above'],
  ['three people, a red bus and two knives', { person: 3, bus: 1, knife: 2 }, undefined],
  ['a man and 2 wine glasses', { person: 1, 'wine glass': 2 }, undefined],
  ['a photo of an orange orange', { orange: 1 }, undefined],
  ['a unicorn', undefined, undefined],
  ['dogs', undefined, undefined],
  ['two dogs left of a cat', undefined, undefined],
])('what "%s" asks for, in labels of COCO', (prompt, counts, relation) => {
  const asked = askedInLabels(prompt, words);
  expect(asked && Object.fromEntries(asked.counts)).toEqual(counts);
  expect(asked?.relation).toBe(relation);
});

test('labels are told in English', () => {
  expect(formsOf('airplane')).toMatchObject({ article: 'an', singular: 'airplane', plural: 'airplanes' });
  expect(formsOf('wine glass').plural).toBe('wine glasses');
  expect(formsOf('toothbrush').plural).toBe('toothbrushes');
  expect(formsOf('canary').plural).toBe('canaries');
});

test('spatial and count score prompts in the labels of any detector, also one that answers later', async () => {
  const found = [at('person', 0, 0), at('bench', 50, 0)];
  const prompts = ['a person to the left of a bench', 'a bench to the left of a person'];
  expect(await spatial(detecting(found, found)).score(batch(8, prompts, [null, null]))).toEqual([1, 0]);
  expect(await count(detecting(found)).score(batch(8, ['a photo of two people'], [null]))).toEqual([-1]);
  expect(() => count(detecting([])).score(batch(8, ['a unicorn'], [null]))).toThrow(
    /names what the detector does not know \(its labels are person, bicycle, .* and 72 others\)/,
  );
  expect(() =>
    detectedReward({ score: 'count', quality: { onnx: 'x.onnx', mean: [0, 0, 0], std: [1, 1, 1] } }),
  ).toThrow(/quality is for crops/);
});
