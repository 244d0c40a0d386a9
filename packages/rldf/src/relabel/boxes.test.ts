import { noiseKey, Random } from '@rldf/torch';
import { expect, test } from 'vitest';
import { loadGrammar, parseGrammar } from './grammar.js';
import { askedOf, boxesAsked, boxesFound, judge } from './relabel.js';

const spatial = loadGrammar('spatial-plain');
const sizes = parseGrammar(
  `
version: 1
objects: all
counts: { one: '{article} {singular}', several: '{number} {plural}', numbers: [two], more: 'many {plural}', between: ' and ' }
relations:
  larger: { say: '{a} larger than {b}', measure: area, order: greater }
  narrower: { say: '{a} narrower than {b}', measure: width, order: less }
  taller: { say: '{a} taller than {b}', measure: height, order: greater }
margin: 0.2
`,
  'sizes.yaml',
);

test('the plain layout of a relation, by hand', () => {
  expect(boxesAsked(spatial, askedOf(spatial, 'an owl to the left of a dog'))).toEqual([
    { phrase: 'an owl', box: [0.03, 0.28, 0.47, 0.72].map((edge) => expect.closeTo(edge, 9)) },
    { phrase: 'a dog', box: [0.53, 0.28, 0.97, 0.72].map((edge) => expect.closeTo(edge, 9)) },
  ]);
  const centres = (prompt: string) =>
    boxesAsked(spatial, askedOf(spatial, prompt)).map(({ box: [x0, y0, x1, y1] }) => [x0 + x1, y0 + y1]);
  expect(centres('a cat below a dog')).toEqual([
    [1, 1.5],
    [1, 0.5],
  ]);
  expect(boxesAsked(spatial, askedOf(spatial, 'three cats')).map(({ phrase }) => phrase)).toEqual(
    Array(3).fill('a cat'),
  );
});

test.each([
  [spatial, 'a cat to the left of a dog'],
  [spatial, 'a cat to the right of a dog'],
  [spatial, 'a cat above a dog'],
  [spatial, 'a cat below a dog'],
  [spatial, 'a cat and a dog'],
  [spatial, 'four cats'],
  [sizes, 'a cat larger than a dog'],
  [sizes, 'a cat narrower than a dog'],
  [sizes, 'a cat taller than a dog'],
])('what is drawn in its boxes shows what was asked for: %#, %s', (grammar, prompt) => {
  const asked = askedOf(grammar, prompt);
  const seen = new Set<string>();
  for (let i = 0; i < 200; i++) {
    const objects = boxesAsked(grammar, asked, i === 0 ? undefined : new Random(noiseKey(i, 'layout')));
    const found = objects.map(({ phrase, box }) => {
      expect(box.every((edge) => edge >= 0 && edge <= 1)).toBe(true);
      return {
        label: phrase.replace(/^an? /, ''),
        score: 1,
        box: box.map((edge) => 64 * edge) as [number, number, number, number],
      };
    });
    expect(judge(grammar, asked, found)).toEqual({ matches: true, caption: prompt });
    seen.add(JSON.stringify(objects));
  }
  expect(seen.size).toBe(200);
});

test('boxes that were found: shares of width and height, inside the picture, at most 30', () => {
  const at = (label: string, ...box: [number, number, number, number]) => ({ label, score: 1, box });
  expect(
    boxesFound(
      spatial,
      [at('owl', 16, 8, 48, 24), at('skis', -4, 0, 32, 40), at('cat', 70, 3, 90, 9)],
      [32, 64],
    ),
  ).toEqual([
    { phrase: 'an owl', box: [0.25, 0.25, 0.75, 0.75] },
    { phrase: 'a pair of skis', box: [0, 0, 0.5, 1] },
  ]);
  const many = Array.from({ length: 40 }, () => at('cat', 0, 0, 9, 9));
  expect(boxesFound(spatial, many, [64, 64])).toHaveLength(30);
});
