import { expect, test } from 'vitest';
import { editDistance, nearest } from './suggest.js';

test('edit distance counts insertions, deletions and replacements', () => {
  expect(editDistance('kitten', 'sitting')).toBe(3);
  expect(editDistance('', 'abc')).toBe(3);
  expect(editDistance('clipRnge', 'clipRange')).toBe(1);
});

test('the nearest name is suggested only when it is near', () => {
  expect(nearest('guidancescale', ['guidanceScale', 'steps'])).toBe('guidanceScale');
  expect(nearest('optimiser', ['steps', 'eta'])).toBeUndefined();
});
