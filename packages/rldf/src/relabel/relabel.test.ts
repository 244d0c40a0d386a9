import { nouns } from '@rldf/emoji-world';
import type { BoxEdges, Detection } from '@rldf/models';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { grammarNames, loadGrammar, measures, parseGrammar } from './grammar.js';
import { askedOf, boxesTold, judge } from './relabel.js';

const spatial = loadGrammar('spatial');
const at = (label: string, x: number, y: number, size = 10): Detection => ({
  label,
  score: 0.9,
  box: [x - size / 2, y - size / 2, x + size / 2, y + size / 2],
});
const told = (prompt: string, ...detections: Detection[]) =>
  judge(spatial, askedOf(spatial, prompt), detections);

test('boxes of a prompt are told in the detector’s words; of a prompt in others there are none', () => {
  const prompt = 'a snowboard to the right of a bench';
  const told = boxesTold(spatial, prompt, ['bench', 'snowboard']);
  expect(told.map(({ phrase }) => phrase).sort()).toEqual(['a bench', 'a snowboard']);
  const left = Object.fromEntries(told.map(({ phrase, box }) => [phrase, box[0]]));
  expect(left['a snowboard']).toBeGreaterThan(left['a bench']!);
  expect(boxesTold(spatial, prompt)).toEqual([]);
});

describe('by hand', () => {
  test.each([
    [
      'a cat to the left of a dog',
      [at('cat', 10, 30), at('dog', 40, 30)],
      true,
      'a cat to the left of a dog',
    ],
    [
      'a cat to the left of a dog',
      [at('dog', 10, 30), at('cat', 40, 30)],
      false,
      'a cat to the right of a dog',
    ],
    ['a cat below a dog', [at('dog', 10, 50), at('cat', 40, 10)], false, 'a cat above a dog'],
    ['a cat below a dog', [at('dog', 40, 20), at('cat', 10, 20)], false, 'a cat to the left of a dog'],
    ['a cat below a dog', [at('dog', 20, 20), at('cat', 20, 20, 30)], false, 'a cat and a dog'],
    ['a cat below a dog', [at('dog', 40, 20), at('dog', 10, 20)], false, 'two dogs'],
    ['a cat below a dog', [at('dog', 1, 2), at('cat', 5, 5), at('dog', 10, 20)], false, 'a cat and two dogs'],
    [
      'a cat below a dog',
      [at('goose', 1, 2), at('goose', 5, 5), at('cat', 10, 20)],
      false,
      'a cat and two geese',
    ],
    [
      'an elephant above a pair of skis',
      [at('skis', 9, 9), at('elephant', 9, 40)],
      false,
      'an elephant below a pair of skis',
    ],
    ['an elephant above a pair of skis', [at('skis', 9, 9), at('skis', 9, 40)], false, 'two pairs of skis'],
    ['an umbrella left of an apple', [at('apple', 9, 9)], false, 'an apple'],
    ['two cats', [at('cat', 1, 2), at('cat', 5, 5)], true, 'two cats'],
    ['two cats', [at('cat', 1, 2), at('cat', 5, 5), at('cat', 9, 9)], false, 'three cats'],
    ['two cats', [at('cat', 1, 2), at('mouse', 5, 5), at('mouse', 9, 9)], false, 'a cat and two mice'],
    ['a cat and a dog', [at('cat', 1, 2), at('dog', 5, 5)], true, 'a cat and a dog'],
    [
      'a cat and a dog',
      [at('cat', 1, 2), at('dog', 5, 5), at('owl', 9, 9)],
      false,
      'a cat and a dog and an owl',
    ],
  ])('%s', (prompt, detections, matches, caption) => {
    expect(told(prompt, ...detections)).toEqual({ matches, caption });
  });

  test.each([
    ['a cat above a dog', at('cat', 10, 30), at('dog', 40, 33), false, 'a cat to the left of a dog'], // 3 px of 10 + 10
    ['a cat above a dog', at('cat', 10, 30), at('dog', 40, 35), true, 'a cat above a dog'],
    ['a cat above a dog', at('cat', 10, 30), at('dog', 40, 25), false, 'a cat below a dog'],
    ['a cat above a dog', at('cat', 10, 30), at('dog', 12, 33), false, 'a cat and a dog'],
  ])('with a margin: %s, of %o and %o', (prompt, cat, dog, matches, caption) => {
    const grammar = loadGrammar('spatial-plain');
    expect(grammar).toEqual({ ...spatial, margin: 0.2 });
    expect(judge(grammar, askedOf(grammar, prompt), [cat, dog])).toEqual({ matches, caption });
  });

  test('nothing found is nothing to tell', () => {
    expect(told('a cat to the left of a dog')).toBeUndefined();
  });

  test('more than there are words for', () => {
    expect(told('two cats', ...Array.from({ length: 12 }, (_, i) => at('cat', i, i)))?.caption).toBe(
      'many cats',
    );
  });

  test('a grammar may look at the asked nouns only', () => {
    const asked = { ...spatial, objects: 'asked' as const };
    const verdict = (...found: Detection[]) => judge(asked, askedOf(asked, 'a cat above a dog'), found);
    expect(verdict(at('cat', 1, 2), at('dog', 1, 9), at('owl', 9, 9))).toEqual({
      matches: true,
      caption: 'a cat above a dog',
    });
    expect(verdict(at('owl', 9, 9))).toBeUndefined();
  });

  test('prompts that boxes say nothing about are refused with what works', () => {
    expect(() => askedOf(spatial, 'the meaning of life')).toThrow(
      /no sentence of the built-in world.*two cats/,
    );
    expect(() => askedOf(spatial, 'a cat riding a bike')).toThrow(/asks for more than boxes tell/);
  });

  test('a relation that the grammar does not tell is refused: elsewhere, the objects would count as right', () => {
    const counts = loadGrammar('counts');
    expect(() => askedOf(counts, 'a cat to the left of a dog')).toThrow(
      /asks for a relation \(left\) that the grammar does not tell — it tells none.*Set grammar: spatial/,
    );
    expect(askedOf(counts, 'a cat and a dog').relation).toBeUndefined();
  });
});

/** Reads a caption with rules of its own, apart from the code under test, and says whether it is true of the boxes. */
function isTrue(caption: string, boxes: readonly Detection[]): boolean {
  const words = ['', '', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine'];
  const parse = (phrase: string): [string, (count: number) => boolean] => {
    const noun = nouns.find(
      ({ singular }) => phrase === `${/^[aeiou]/.test(singular) ? 'an' : 'a'} ${singular}`,
    );
    if (noun) return [noun.name, (count) => count === 1];
    const [number = '', ...rest] = phrase.split(' ');
    const several = nouns.find(({ plural }) => plural === rest.join(' '));
    if (several === undefined) throw new Error(`"${phrase}" is no phrase`);
    return [
      several.name,
      (count) => (number === 'many' ? count > 9 : count === words.indexOf(number) && count > 1),
    ];
  };
  const boxesOf = (name: string) => boxes.filter(({ label }) => label === name);
  const middles = [' to the left of ', ' to the right of ', ' above ', ' below '];
  const middle = middles.find((text) => caption.includes(text));
  const phrases = caption.split(middle ?? ' and ').map(parse);
  const [[a], [b] = ['']] = phrases as [[string, unknown], [string, unknown]?];
  const told = new Set(phrases.map(([name]) => name));
  const countsRight = phrases.every(([name, fits]) => fits(boxesOf(name).length));
  const allTold = boxes.every(({ label }) => told.has(label)) && told.size === phrases.length;
  if (middle === undefined || !countsRight || !allTold) return countsRight && allTold;
  const centre = (name: string) => {
    const { box } = boxesOf(name)[0] as Detection;
    return [box[0] + box[2], box[1] + box[3]] as [number, number];
  };
  const [[ax, ay], [bx, by]] = [centre(a), centre(b)];
  return [ax < bx, ax > bx, ay < by, ay > by][middles.indexOf(middle)] === true;
}

test('relabelled captions are true of the boxes, whatever was asked', () => {
  const noun = fc.constantFrom(...['cat', 'dog', 'mouse', 'elephant', 'skis', 'apple', 'fish', 'knife']);
  const edge = fc.integer({ min: 0, max: 32 }); // few places, so that ties happen
  const detection = fc
    .tuple(noun, edge, edge, fc.integer({ min: 1, max: 32 }), fc.integer({ min: 1, max: 32 }))
    .map(
      ([label, x, y, width, height]): Detection => ({
        label,
        score: 0.5,
        box: [x, y, x + width, y + height] as BoxEdges,
      }),
    );
  const phrase = (name: string) => {
    const { article, singular } = nouns.find((entry) => entry.name === name) as (typeof nouns)[number];
    return `${article} ${singular}`;
  };
  const prompt = fc
    .tuple(
      noun,
      noun,
      fc.constantFrom(' to the left of ', ' to the right of ', ' above ', ' below ', ' and '),
    )
    .filter(([a, b]) => a !== b)
    .map(([a, b, middle]) => `${phrase(a)}${middle}${phrase(b)}`);
  const pictures = fc.oneof(
    fc.array(detection, { minLength: 1, maxLength: 11 }),
    fc
      .tuple(detection, detection)
      .map((pair) => pair.map((found, i) => ({ ...found, label: ['cat', 'dog'][i]! }))),
  );
  fc.assert(
    fc.property(fc.oneof(prompt, fc.constant('a dog above a cat')), pictures, (text, detections) => {
      const verdict = judge(spatial, askedOf(spatial, text), detections);
      expect(verdict).toBeDefined();
      expect(isTrue(verdict?.caption as string, detections)).toBe(true);
      expect(verdict?.matches).toBe(isTrue(text, detections));
      if (verdict?.matches) expect(verdict.caption).toBe(text);
    }),
    { numRuns: 2000, seed: 7 },
  );
});

test('a further file is enough for further relations: sizes', () => {
  const text = `
version: 1
objects: all
counts: { one: '{article} {singular}', several: '{number} {plural}', numbers: [two], more: 'many {plural}', between: ' and ' }
relations:
  larger: { say: '{a} larger than {b}', measure: area, order: greater }
  smaller: { say: '{a} smaller than {b}', measure: area, order: less }
`;
  const sizes = parseGrammar(text, 'sizes.yaml');
  const asked = askedOf(sizes, 'an apple larger than a dog');
  expect(asked).toEqual({
    counts: new Map([
      ['apple', 1],
      ['dog', 1],
    ]),
    relation: 'larger',
  });
  expect(judge(sizes, asked, [at('dog', 30, 30, 20), at('apple', 5, 5, 8)])).toEqual({
    matches: false,
    caption: 'an apple smaller than a dog',
  });
  expect(judge(sizes, asked, [at('dog', 30, 30, 4), at('apple', 5, 5, 8)])?.matches).toBe(true);
});

test('every shipped grammar is good; mistakes in one are all named', () => {
  expect(grammarNames()).toEqual(['counts', 'spatial', 'spatial-plain']);
  for (const name of grammarNames()) expect(loadGrammar(name).version).toBe(1);
  expect(() => loadGrammar('spatail')).toThrow(/there are counts, spatial.*spatial/);
  const broken =
    'version: 1\nobjects: some\ncounts: { one: x, several: "{number} {plural}", numbers: [two], more: "{plural}", between: " " }';
  expect(() => parseGrammar(broken, 'mine.yaml')).toThrow(/objects[\s\S]*\{article\} and \{singular\} once/);
});

test('measures of a box', () => {
  const box: BoxEdges = [2, 10, 8, 30];
  expect(Object.values(measures).map((measure) => measure(box))).toEqual([5, 20, 6, 20, 120]);
});
