import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { toyGrammar, toyRecogniser, toySource } from '../toy.fixture.js';
import { Encoding } from '../world/encoding.js';
import { parseGrammar } from '../world/grammar.js';
import { diverseRequests, type SearchJudge, slide } from './final-pictures.js';
import { PictureMemory } from './memory.js';

const fresh = () => mkdtempSync(join(tmpdir(), 'rldf-final-'));

test('controls come equally often, and the balance is told', () => {
  const grammar = parseGrammar(
    'controls: [Style, Time]\nproductions:\n  S: Noun Time Style\n  Noun: [cat, dog]\n  Style: { plain: "", oil: ", oil painting" }\n  Time: { day: "", night: at night, noon: at noon }',
    'c.yaml',
  );
  const { requests, balance } = diverseRequests(new Encoding(grammar), [1], 12, 0);
  expect(balance).toEqual({ Style: { plain: 6, oil: 6 }, Time: { day: 4, night: 4, noon: 4 } });
  expect(requests.filter(({ sentence }) => sentence.includes('night'))).toHaveLength(4);
  expect(requests.every(({ sentence }) => sentence.startsWith('dog'))).toBe(true);
  expect(new Set(requests.map(({ seed }) => seed)).size).toBe(12);
  const uneven = diverseRequests(new Encoding(grammar), [0], 5, 0).balance;
  expect(Object.values(uneven.Time!).sort()).toEqual([1, 2, 2]);
});

test('sliders hold the seed and refuse axes that are not there', async () => {
  const encoding = new Encoding(toyGrammar);
  const memory = new PictureMemory(fresh(), toySource(), toyRecogniser());
  const moved = await slide(encoding, [0, 1, 2], 'Noun', 7, memory);
  expect(moved.requests.map(({ sentence }) => sentence)).toHaveLength(3);
  expect(new Set(moved.requests.map(({ seed }) => seed)).size).toBe(1);
  expect(moved).toMatchObject({ moved: 1, held: 1 });
  await expect(slide(encoding, [0, 1, 2], 'Colour', 7, memory)).rejects.toThrow(
    /--slide Colour: .* Frequency, Noun, Scene/,
  );
});

test('sliding along a control is judged by the judge of styles, or not at all', async () => {
  const grammar = parseGrammar(
    'objects: [Noun]\ncontrols: [Look]\nproductions:\n  S: Noun Look\n  Noun: [ant, cat]\n  Look: { plain: "", oil: in oil }',
    'l.yaml',
  );
  const memory = new PictureMemory(fresh(), toySource(), toyRecogniser());
  const judge: SearchJudge = {
    name: 'judge',
    styleLabels: ['plain', 'oil'],
    nouns: async () => [],
    features: async () => [],
    styles: async (pictures) => pictures.map(() => 'plain'),
  };
  const encoding = new Encoding(grammar);
  expect((await slide(encoding, [0], 'Look', 7, memory)).moved).toBeNull();
  expect((await slide(encoding, [0], 'Look', 7, memory, { judge })).moved).toBe(0.5);
});
