import { expect, test } from 'vitest';
import { checkRecipe } from '../recipe/load.js';
import { methodNames, methodSchemas } from '../recipe/recipe.js';

function messageOf(explore: object | null, more: object = {}): string {
  try {
    checkRecipe({
      method: 'ddpo',
      prompts: ['a cat'],
      reward: 'jpeg-compressibility',
      sample: { steps: 10, guidanceScale: 4 },
      train: { clipNats: 1 },
      explore,
      ...more,
    });
  } catch (error) {
    return (error as Error).message;
  }
  return 'no error';
}

test('both parts, and each alone, with defaults', () => {
  for (const explore of [{ guidance: {} }, { words: {} }, { guidance: {}, words: {} }])
    expect(messageOf(explore)).toBe('no error');
  expect(messageOf({ guidance: { steps: 9 }, share: 1 })).toBe('no error');
  expect(messageOf(null)).toBe('no error'); // --set explore=null: none
});

test.each([
  ['neither part', {}, 'nothing would be explored'],
  ['a share of less than half a step', { guidance: { fraction: 0.04 } }, 'would change no step'],
  ['low guidance to the end', { guidance: { steps: 10 } }, 'all 10 denoising steps'],
  ['low guidance to the end, by rounding', { guidance: { fraction: 0.96 } }, 'all 10 denoising steps'],
  ['two places', { guidance: { steps: 1, fraction: 0.1 } }, 'both steps: 1 and fraction: 0.1'],
  ['not lower', { guidance: { low: 4 } }, '4 is not below sample.guidanceScale: 4'],
  ['weights of 1', { words: { maximum: 1 } }, 'counts as before'],
  ['an empty range', { words: { minimum: 2 } }, '2 is above maximum: 1.5'],
])('a block that explores nothing is refused: %s', (_, explore, message) => {
  expect(messageOf(explore)).toContain(message);
});

test('the default fraction is refused where it is no step', () => {
  expect(messageOf({ guidance: {} }, { sample: { steps: 4 } })).toContain(
    '0.1 of 4 denoising steps is less than half a step — the schedule would change no step. Set explore.guidance.steps to 1 to 3',
  );
});

test('exploring by a method that learns from pictures that are there is refused, with those that can', () => {
  const offline = methodNames.filter((name) => !('explore' in methodSchemas[name].shape));
  expect(offline).not.toEqual([]);
  for (const method of offline) {
    expect(messageOf({ words: {} }, { method, train: {} })).toMatch(
      /explore: .* is an offline method.* Remove explore, or set method to one of ddpo, dpok/,
    );
  }
});
