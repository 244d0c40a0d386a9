import { expect, test } from 'vitest';
import { cohensKappa } from '../benchmarks/hand-check/index.js';
import { namedBy, scoreStranger } from '../benchmarks/hand-check/stranger.js';

test('kappa by hand: 3 of 4 alike, where chance makes 2 of 4', () => {
  // shares of "a": 1/2 and 1/4, of "b": 1/2 and 3/4, so chance agrees in 1/8 + 3/8; (3/4 - 1/2) / (1 - 1/2)
  expect(cohensKappa(['a', 'a', 'b', 'b'], ['a', 'b', 'b', 'b'])).toBeCloseTo(0.5, 12);
});

test('every noun must be named, by its own name or by one of its other names', () => {
  const pictures = [
    { prompt: 'a boat and a cat', nouns: ['boat', 'cat'] },
    { prompt: 'a boat and a cat', nouns: ['boat', 'cat'] },
    { prompt: 'a boat and a cat', nouns: ['boat', 'cat'] },
    { prompt: 'a duck', nouns: ['duck'] },
  ];
  const answers = { 0: 'cat, vessel', 1: 'boat, dog', 2: 'boat, cat, ?', 3: 'bird' };
  const named = namedBy(pictures, answers, { boat: ['vessel'] });
  expect(named.map(({ all }) => all)).toEqual([true, false, true, false]);
  expect(named.map(({ only }) => only)).toEqual([true, true, false, true]);
});

test('the committed answers score what docs/results/pretraining.md says', () => {
  expect(['singles', 'pairs'].map((sheet) => (scoreStranger(sheet) as { data: object }).data)).toMatchObject([
    { model: '7fbbba435a73', right: 99, total: 100 },
    { model: '7fbbba435a73', right: 85, total: 100 },
  ]);
  expect(() => scoreStranger('triples')).toThrow('--sheet triples');
});
