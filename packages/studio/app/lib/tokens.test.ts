import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { contrast, curveColours, rgb, shade } from './colours.js';

const sheet = readFileSync(new URL('../styles/tokens.css', import.meta.url), 'utf8');
const [light, dark] = sheet.split('@media').map((part) => {
  const found = [...part.matchAll(/(--[\w-]+): (#[0-9a-f]{6});/g)].map(
    ([, name, value]) => [name!, rgb(value!)] as const,
  );
  return Object.fromEntries(found);
}) as [Record<string, ReturnType<typeof rgb>>, Record<string, ReturnType<typeof rgb>>];

test.each([
  ['light', light],
  ['dark', dark],
])('text of the %s scheme has a contrast of 4.5, lines that mean something of 3', (_, colours) => {
  for (const ground of ['--bg', '--surface', '--raised', '--sunken']) {
    for (const ink of ['--ink', '--muted', '--accent', '--good', '--bad', '--warn'])
      expect([ground, ink, contrast(colours[ink]!, colours[ground]!) >= 4.5]).toEqual([ground, ink, true]);
    for (const ink of curveColours)
      expect([ground, ink, contrast(colours[ink]!, colours[ground]!) >= 3]).toEqual([ground, ink, true]);
    expect(contrast(colours['--line-strong']!, colours[ground]!)).toBeGreaterThanOrEqual(3);
  }
  expect(contrast(colours['--on-accent']!, colours['--accent']!)).toBeGreaterThanOrEqual(4.5);
  expect(contrast(colours['--ink']!, colours['--accent-soft']!)).toBeGreaterThanOrEqual(4.5);
  expect(contrast(colours['--ink']!, colours['--warn-soft']!)).toBeGreaterThanOrEqual(4.5);
  expect(contrast(colours['--warn']!, colours['--warn-soft']!)).toBeGreaterThanOrEqual(4.5);
  expect(contrast(colours['--bad']!, colours['--bad-soft']!)).toBeGreaterThanOrEqual(4.5);
});

test('contrast and colours as WCAG 2 counts them', () => {
  expect(contrast(rgb('#000'), rgb('#ffffff'))).toBe(21);
  expect(contrast(rgb('#777777'), rgb('#fff'))).toBeCloseTo(4.48, 2);
  expect([rgb('rgb(1, 2, 3)'), rgb('#f0A'), rgb('nonsense')]).toEqual([
    [1, 2, 3],
    [255, 0, 170],
    [0, 0, 0],
  ]);
  expect([shade(0.5, [0, 0, 0], [255, 100, 1]), shade(-1, [9, 9, 9], [0, 0, 0])]).toEqual([
    [128, 50, 1],
    [9, 9, 9],
  ]);
});
