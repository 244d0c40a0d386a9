import { tinyPipeline } from '@rldf/models';
import { expect, test } from 'vitest';
import type { EpochPrompt } from '../prompts/prompts.js';
import { behavioursOf, type DrawingFields, explores } from './diffexp.js';
import { exploreSchema } from './diffexp-schema.js';

const { tokenizer } = tinyPipeline();
const recipe: DrawingFields = {
  seed: 5,
  epochs: 8,
  sample: { steps: 4, guidanceScale: 3, promptsPerEpoch: 1, picturesPerPrompt: 1 },
  explore: exploreSchema.parse({ guidance: { steps: 1, low: 0.5 }, words: { minimum: 1.2, maximum: 2 } }),
};
const pictures = (text: string, count: number): EpochPrompt[] =>
  Array.from({ length: count }, (_, picture) => ({ prompt: { text, meta: null }, path: [0, picture] }));

test('guidance is low, then the recipe’s (equation 7); each part can be used alone', () => {
  const [both] = behavioursOf(recipe, tokenizer, 0, pictures('a cat', 1));
  expect(both?.guidance).toEqual([0.5, 3, 3, 3]);
  const { guidance, words } = recipe.explore ?? {};
  const [low] = behavioursOf(
    { ...recipe, explore: { guidance, share: 1 } },
    tokenizer,
    0,
    pictures('a cat', 1),
  );
  expect(low).toEqual({ seed: 5, path: [0, 0, 0], guidance: [0.5, 3, 3, 3] });
  const [word] = behavioursOf(
    { ...recipe, explore: { words, share: 1 } },
    tokenizer,
    0,
    pictures('a cat', 1),
  );
  expect(word?.guidance).toEqual([3, 3, 3, 3]);
  expect(word?.wordWeights).toEqual(both?.wordWeights);
});

test('only the first three quarters of the epochs explore', () => {
  const explored = Array.from({ length: 8 }, (_, epoch) => {
    const [behaviour] = behavioursOf(recipe, tokenizer, epoch, pictures('a cat', 1));
    return behaviour?.wordWeights !== undefined && behaviour.guidance[0] === 0.5;
  });
  expect(explored).toEqual([true, true, true, true, true, true, false, false]);
  const { guidance, words } = recipe.explore ?? {};
  const long = { ...recipe, epochs: 100, explore: { guidance, words, share: 0.07 } }; // 0.07 · 100 > 7 in floating point
  expect([explores(long, 6), explores(long, 7)]).toEqual([true, false]);
});

test('every word is chosen about equally often, with weights over the whole range', () => {
  const drawn = behavioursOf(recipe, tokenizer, 0, pictures('a red cat', 600)).map(
    ({ wordWeights }) => wordWeights?.[0],
  );
  for (const word of [0, 1, 2]) {
    const share = drawn.filter((weighted) => weighted?.word === word).length / drawn.length;
    expect(share).toBeGreaterThan(0.27);
    expect(share).toBeLessThan(0.4);
  }
  const weights = drawn.map((weighted) => weighted?.weight ?? 0);
  expect(Math.min(...weights)).toBeGreaterThanOrEqual(1.2);
  expect(Math.min(...weights)).toBeLessThan(1.25);
  expect(Math.max(...weights)).toBeLessThan(2);
  expect(Math.max(...weights)).toBeGreaterThan(1.95);
});

test('words that were cut off are never chosen, and an empty prompt has none', () => {
  const long = 'a cat b c d e f g h i dog dog dog dog'; // 12 tokens, 10 of them for words
  const words = behavioursOf(recipe, tokenizer, 0, pictures(long, 200)).map((b) => b.wordWeights?.[0]?.word);
  expect(Math.max(...words.map(Number))).toBe(9);
  const [empty] = behavioursOf(recipe, tokenizer, 0, pictures('', 1));
  expect(empty).not.toHaveProperty('wordWeights');
});
