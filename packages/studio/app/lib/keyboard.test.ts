import { expect, test } from 'vitest';
import { keysAreTaken, moved, movedRound, onStep, ratingKey, turned } from './keyboard.js';

test('in a list, up and down stop at the ends; left and right mean nothing', () => {
  expect(
    ['ArrowDown', 'ArrowUp', 'Home', 'End', 'PageDown', 'PageUp'].map((key) => moved(key, 2, 5)),
  ).toEqual([3, 1, 0, 4, 4, 0]);
  expect([moved('ArrowDown', 4, 5), moved('ArrowUp', 0, 5)]).toEqual([4, 0]);
  expect([moved('ArrowRight', 2, 5), moved('a', 2, 5), moved('Home', 0, 0)]).toEqual([
    undefined,
    undefined,
    undefined,
  ]);
});

test('in a grid of 4 columns with 10 places', () => {
  // 0 1 2 3 / 4 5 6 7 / 8 9
  expect(['ArrowRight', 'ArrowLeft', 'ArrowDown', 'ArrowUp'].map((key) => moved(key, 5, 10, 4))).toEqual([
    6, 4, 9, 1,
  ]);
  expect(moved('ArrowDown', 6, 10, 4)).toBe(9); // the last row is short
  expect(moved('ArrowDown', 9, 10, 4)).toBe(9);
  expect(moved('ArrowRight', 9, 10, 4)).toBe(9);
  expect(moved('ArrowUp', 2, 10, 4)).toBe(2);
});

test('tabs go round', () => {
  expect([movedRound('ArrowRight', 2, 3), movedRound('ArrowLeft', 0, 3), movedRound('End', 0, 3)]).toEqual([
    0, 2, 2,
  ]);
  expect(movedRound('Enter', 0, 3)).toBeUndefined();
});

test('a knob turns by steps and stops at its ends', () => {
  const knob = { least: 0, greatest: 1.5, step: 0.05 };
  expect(turned('ArrowRight', 0.1, knob)).toBe(0.15); // 0.1 + 0.05 is 0.15000000000000002
  expect(turned('ArrowUp', 1, knob, true)).toBe(1.25);
  expect(turned('ArrowLeft', 0.02, knob)).toBe(0);
  expect(turned('PageUp', 1.2, knob, true)).toBe(1.5);
  expect([turned('Home', 1, knob), turned('End', 1, knob), turned('x', 1, knob)]).toEqual([
    0,
    1.5,
    undefined,
  ]);
  expect(onStep(0.3000000004, 0.1)).toBe(0.3);
});

test('rating by keys', () => {
  expect(['1', '5', '6', 'u', 'ArrowLeft'].map((key) => ratingKey(key, 'score'))).toEqual([
    { score: 1 },
    { score: 5 },
    undefined,
    'undo',
    undefined,
  ]);
  expect(['ArrowLeft', 'ArrowRight', 'ArrowDown', '=', 'Backspace', '3'].map((key) => ratingKey(key, 'pair'))).toEqual([
    { better: 'a' }, { better: 'b' }, { better: 'tie' }, { better: 'tie' }, 'undo', undefined,
  ]); // biome-ignore format: a row
});

test('keys stay with fields that are written in', () => {
  expect(keysAreTaken({ tagName: 'INPUT', type: 'text' })).toBe(true);
  expect(keysAreTaken({ tagName: 'INPUT', type: 'range' })).toBe(true);
  expect(keysAreTaken({ tagName: 'SELECT' })).toBe(true);
  expect([
    keysAreTaken({ tagName: 'INPUT', type: 'checkbox' }),
    keysAreTaken({ tagName: 'BODY' }),
    keysAreTaken(null),
  ]).toEqual([false, false, false]);
});
