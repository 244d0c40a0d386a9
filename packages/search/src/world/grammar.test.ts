import { nouns, parseCaption } from '@rldf/emoji-world';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { grammarFile } from '../recipes.fixture.js';
import { toyGrammar } from '../toy.fixture.js';
import { Encoding } from './encoding.js';
import { parseGrammar, readGrammar } from './grammar.js';

const grammars = ['world', 'world-large', 'objects', 'pairs', 'photographs'].map(
  (name) => [name, readGrammar(grammarFile(name))] as const,
);
/** With the windows at the file's beginning. */
const windowed = (grammar: ReturnType<typeof readGrammar>) =>
  new Encoding(
    grammar,
    Object.fromEntries(
      [...grammar.window].map(([symbol, length]) => [
        symbol,
        { order: grammar.productions.get(symbol)!.map((_, i) => i), from: 0, length },
      ]),
    ),
  );

describe('the shipped grammars', () => {
  test('the default world has 480 states, the large one nine times as many', () => {
    const sizes = Object.fromEntries(grammars.map(([name, grammar]) => [name, windowed(grammar).size]));
    expect(sizes).toMatchObject({ world: 480, 'world-large': 9 * 480 });
  });

  test.each(grammars)('%s: number, state and sentence lead back to each other', (_, grammar) => {
    const encoding = new Encoding(grammar);
    const controls = fc.tuple(...encoding.controls.map(({ order }) => fc.nat(order.length - 1)));
    fc.assert(
      fc.property(fc.nat(encoding.size - 1), controls, (index, drawn) => {
        const state = encoding.stateOf(index);
        expect(encoding.indexOf(state)).toBe(index);
        expect(encoding.encode(encoding.meaningsOf(state))).toEqual(state);
        expect(encoding.sentenceOf(encoding.meaningsOf(state))).toBe(encoding.sentence(state));
        const sentence = encoding.sentence(state, drawn);
        expect(encoding.parse(sentence)).toEqual({ state, controls: [...drawn] });
      }),
      { numRuns: 100, seed: 6 },
    );
  });

  test('every sentence of the default grammar is a caption of the built-in world that asks for the state', () => {
    const encoding = new Encoding(grammars[0]![1]);
    expect(new Set(encoding.axes.find(({ name }) => name === 'Noun')!.meanings)).toEqual(
      new Set(nouns.filter(({ kind }) => kind !== 'person').map(({ name }) => name)),
    );
    const verbs: Record<string, string> = {
      car: 'driving a car',
      bike: 'riding a bike',
      soccer: 'playing soccer',
    };
    Object.assign(verbs, { chess: 'playing chess', dishes: 'washing the dishes', laundry: 'doing laundry' });
    fc.assert(
      fc.property(fc.nat(encoding.size - 1), (index) => {
        const state = encoding.stateOf(index);
        const { Frequency, Noun, Verb, Density, Scene } = encoding.meaningsOf(state);
        expect(parseCaption(encoding.sentence(state)), encoding.sentence(state)).toEqual({
          subjects: [{ noun: Noun }],
          count: Number(Frequency),
          background: Scene,
          people: { 0: 'no', 1: 'one', 3: 'many' }[Density!],
          ...(Verb === 'none' ? {} : { activity: verbs[Verb!] }),
        });
      }),
      { numRuns: 500, seed: 6 },
    );
  });

  test('controls are said and understood', () => {
    const encoding = new Encoding(grammars[0]![1]);
    const sentence = encoding.sentence(
      encoding.encode({ Frequency: '1', Noun: 'ant', Verb: 'none', Density: '0', Scene: 'grass' }),
      [2, 1],
    );
    expect(sentence).toBe('an image of an ant with no people on the grass, pixel art');
    expect(parseCaption(sentence)).toMatchObject({
      style: 'pixel art',
      subjects: [{ noun: 'ant' }],
    });
  });
});

test('a small grammar, word by word', () => {
  const encoding = new Encoding(toyGrammar);
  expect(encoding.axes.map(({ name, order }) => [name, order.length])).toEqual([
    ['Frequency', 2],
    ['Noun', 3],
    ['Scene', 4],
  ]);
  expect(encoding.size).toBe(24);
  expect(encoding.sentence([0, 0, 0])).toBe('an ant');
  expect(encoding.sentence([1, 2, 3])).toBe('three geese at sea');
  expect(encoding.parse('three geese at sea')).toEqual({ state: [1, 2, 3], controls: [] });
  expect(encoding.parse('a ant')).toBeUndefined();
  expect(encoding.parse('an ant at seaside')).toBeUndefined();
  expect(encoding.counted().map(({ object }) => (object as { name: string }).name)).toEqual(['Noun']);
});

test('a window shows neighbours of the order, and meanings outside of it become its nearer end', () => {
  const encoding = new Encoding(toyGrammar, { Scene: { order: [3, 1, 0, 2], from: 1, length: 2 } });
  expect(encoding.size).toBe(12);
  expect(encoding.meaningsOf([0, 0, 0]).Scene).toBe('grass');
  expect(encoding.encode({ Frequency: '1', Noun: 'ant', Scene: 'sea' })[2]).toBe(0);
  expect(encoding.encode({ Frequency: '1', Noun: 'ant', Scene: 'snow' })[2]).toBe(1);
  expect(() => encoding.encode({ Frequency: '1', Noun: 'eagle', Scene: 'sea' })).toThrow(
    /Noun cannot be "eagle"/,
  );
});

test('a symbol that stands twice is two axes, and alternatives of symbols are a choice', () => {
  const encoding = new Encoding(
    parseGrammar('productions: { S: N and N | N, N: [x, y], and: [and] }', 'g.yaml'),
  );
  expect(encoding.axes.map(({ name }) => name)).toEqual(['S', 'N', 'N 2', 'N 3']);
  expect(encoding.sentence([0, 0, 1, 0])).toBe('x and y');
  expect(encoding.parse('y')).toMatchObject({ state: [1, 0, 0, 1] });
});

test.each([
  [
    'an undefined symbol',
    'productions:\n  S: NP Scene\n  NP: [cat]',
    'g.yaml:2:6  S: symbol Scene is not defined',
  ],
  ['a slip', 'productions:\n  S: Noum\n  Noun: [cat]', 'symbol Noum is not defined. Did you mean Noun?'],
  [
    'left recursion',
    'productions:\n  S: S Noun | Noun\n  Noun: [cat]',
    'g.yaml:2:3  S: is left-recursive (S -> S)',
  ],
  [
    'hidden left recursion',
    'productions:\n  S: A B\n  A: { none: "" }\n  B: A S | A',
    'S: is left-recursive (S -> B -> S)',
  ],
  ['right recursion', 'productions:\n  S: A S | A\n  A: [cat]', 'S: is recursive'],
  [
    'an unreachable symbol, as the paper has',
    'productions:\n  S: A\n  A: [cat]\n  VP: [playing]',
    'g.yaml:4:3  VP: cannot be reached from S',
  ],
  [
    'an empty sentence',
    'productions:\n  S: A\n  A: { none: "", cat: a cat }',
    'g.yaml:2:3  S: can become an empty sentence',
  ],
  ['no choice', 'productions:\n  S: A\n  A: []', 'A: has no choice'],
  ['a choice twice', 'productions:\n  S: A\n  A: [cat, cat]', 'g.yaml:3:12  A: two choices mean cat'],
  [
    'a count without number',
    'counts: [A]\nproductions:\n  S: A\n  A: [few, many]',
    'A: a count means a number',
  ],
  ['a window too large', 'window: { A: 3 }\nproductions:\n  S: A\n  A: [cat, dog]', 'window: A: 3'],
  [
    'an unknown key',
    'object: [A]\nproductions:\n  S: A\n  A: [cat]',
    'object: unknown key. Did you mean objects?',
  ],
  [
    'an object of nothing',
    'shows: { bike: bicycle }\nproductions:\n  S: [cat]',
    'g.yaml:1:10  shows: nothing means bike',
  ],
  ['no YAML', 'productions: [', 'not valid YAML'],
  ['no grammar', 'just words', 'not a grammar'],
  ['an unknown start', 'start: T\nproductions:\n  S: [cat]', 'g.yaml:1:8  start: symbol T is not defined'],
])('%s is refused with its line', (_, text, message) => {
  expect(() => parseGrammar(text, 'g.yaml')).toThrow(
    expect.objectContaining({ name: 'UserError', message: expect.stringContaining(message) }),
  );
});

test('all mistakes are told at once', () => {
  expect(() => parseGrammar('productions:\n  S: A B\n  C: D', 'g.yaml')).toThrow(
    /A is not.*\n.*B is not.*\n.*D is not/,
  );
});
