import { expect, test } from 'vitest';
import { adaptersAt, dialAxes, exportName, marksOf, type Source } from './dial.js';

const both: Source = { file: 'f', label: 'joint', parts: ['unet', 'textEncoder'] };
const unet: Source = { file: 'u', label: 'by ddpo', parts: ['unet'] };
const text: Source = { file: 't', label: 'by texforce', parts: ['textEncoder'] };

test('one part: one axis', () => {
  expect(dialAxes([unet]).map(({ label }) => label)).toEqual(['U-Net']);
  expect(adaptersAt([unet], [0.6])).toEqual([{ file: 'u', unet: 0.6, textEncoder: 0 }]);
  expect(marksOf(1)).toContainEqual([1]);
});

test('one adapter of both parts: each part has an axis', () => {
  expect(dialAxes([both]).map(({ label }) => label)).toEqual(['U-Net', 'text encoder']);
  expect(adaptersAt([both], [0.5, 1.25])).toEqual([{ file: 'f', unet: 0.5, textEncoder: 1.25 }]);
});

test('two adapters: each has an axis, with all its parts', () => {
  expect(dialAxes([text, both]).map(({ label }) => label)).toEqual(['by texforce', 'joint']);
  expect(adaptersAt([text, both], [1, 0.5])).toEqual([
    { file: 't', unet: 0, textEncoder: 1 },
    { file: 'f', unet: 0.5, textEncoder: 0.5 },
  ]);
  expect(marksOf(2)).toEqual([
    [0, 0],
    [1, 0],
    [0, 1],
    [1, 1],
  ]);
});

test('nothing chosen, and names of exports', () => {
  expect([dialAxes([]), adaptersAt([], [1])]).toEqual([[], []]);
  expect(exportName('my run/é', [0.75, 1])).toBe('my-run-at-0.75-and-1');
  expect(exportName('', [-0.5])).toBe('adapter-at-minus0.5');
});
