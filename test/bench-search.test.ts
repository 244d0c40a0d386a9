import { readGrammar } from 'rldf';
import { grammarPath } from 'rldf/cli';
import { describe, expect, test } from 'vitest';
import { ablationMeasures, imbalance, slideMeasures } from '../benchmarks/search/measures.js';
import { intervalOf, pageOf, resultsOf } from '../benchmarks/search/page.js';
import { counted, type Reading, shows } from '../benchmarks/search/reader.js';
import type { Found } from '../benchmarks/search/searched.js';

const grammar = readGrammar(grammarPath('world'));
const state = { Frequency: '3', Noun: 'dog', Verb: 'bike', Density: '1', Scene: 'snow' };
const reading = (labels: string[], scene = 'snow', style = 'plain'): Reading => ({
  objects: counted(labels),
  scene,
  style,
  art: 'noto',
});
const right = ['dog', 'dog', 'bicycle', 'person'];

describe('what a picture shows of a state', () => {
  const told = (labels: string[], changes: Partial<typeof state> = {}) => {
    const asked = { ...state, ...changes };
    return Object.keys(asked).filter((axis) => shows(reading(labels), axis, asked, grammar));
  };

  test('objects, numbers, people, verbs by their props, scene', () => {
    expect(told(right)).toEqual(Object.keys(state));
    expect(told(['dog', 'person', 'person'])).toEqual(['Noun', 'Scene']);
    expect(told(['dog'], { Frequency: '1', Verb: 'none', Density: '0' })).toEqual(Object.keys(state));
    expect(told(right, { Verb: 'none', Density: '3', Scene: 'sea' })).toEqual(['Frequency', 'Noun']);
    expect(told(['car'], { Noun: 'car', Verb: 'none' })).toEqual(['Noun', 'Verb', 'Scene']); // no prop of a verb
  });

  test('a look is what the style network says', () => {
    const asked = { ...state, Look: 'pixel art' };
    expect(shows(reading(right), 'Look', asked, grammar)).toBe(false);
    expect(shows(reading(right, 'snow', 'pixel art'), 'Look', asked, grammar)).toBe(true);
  });
});

test('imbalance, by hand', () => {
  expect(imbalance(['a', 'b', 'a', 'b'], ['a', 'b'])).toBe(0);
  expect(imbalance(['a', 'a', 'a', 'a'], ['a', 'b'])).toBe(0.5);
  expect(imbalance(['c', 'c'], ['a', 'b'])).toBe(1);
  expect(imbalance(['a', 'b', 'c', 'c'], ['a', 'b'])).toBe(0.5);
});

test('sliders: as asked, and the others where the axis left the found value', () => {
  const found = {
    report: { found: { meanings: state } },
    reseeded: [reading(right), reading(['dog', 'dog'], 'sea')],
    slides: [
      {
        axis: 'Scene',
        values: ['snow', 'sea', 'road'],
        readings: [reading(['cat']), reading(right, 'sea'), reading(['dog'], 'sea')],
      },
    ],
  } as unknown as Found;
  const { Scene } = slideMeasures(found, grammar);
  expect(Scene!.moved).toBeCloseTo(2 / 3); // snow, sea; not road
  expect(Scene!.held).toBeCloseTo((4 / 4 + 1 / 4) / 2); // of sea and road, not of snow
  expect(Scene!.unmoved).toBeCloseTo((4 / 4 + 2 / 4) / 2);
});

test('concept ablation: the class stays, the style goes', () => {
  const found = {
    input: reading(['dog'], 'white', 'sketch'),
    reseeded: [reading(right), reading(['cat'], 'snow', 'sketch')],
  } as Found;
  const input = { style: 'sketch', art: 'noto', noun: 'dog' } as Parameters<typeof ablationMeasures>[1];
  expect(ablationMeasures(found, input)).toEqual({ class: 0.5, before: 1, after: 0.5 });
});

test('a value is the mean over inputs of means over seeds; what does not apply does not count', () => {
  const value = intervalOf([[1, 3], [null, 6], [null]])!;
  expect(value).toMatchObject({ mean: 4, inputs: 2 });
  expect(value.ci95[0]).toBeLessThan(4);
  expect(intervalOf([[null]])).toBeNull();
});

test('the page is whole even where every search was refused', () => {
  const input = {
    name: 'a',
    caption: 'a dog',
    art: 'noto',
    style: 'sketch',
    noun: 'dog',
    background: 'white',
  };
  const share = { share: 0.5, ci95: [0.3, 0.7] as [number, number] };
  const data = resultsOf(
    [{ input: input as Parameters<typeof ablationMeasures>[1], searches: [{ seed: 0, refused: 'no' }] }],
    { sketch: { pictures: 60, noun: share, scene: share, refused: share, both: share } },
    {},
    { grammar, scenes: ['white'], looks: ['plain'] },
  );
  const page = pageOf(data, { flags: '--nouns 1', threads: 1 });
  expect(page).toContain('1 of 1 searches were refused');
  expect(page).toContain('| sketch | 60 | 0.50 [0.30, 0.70] |');
  expect(page).not.toMatch(/undefined|NaN/);
});
