import { expect, test } from 'vitest';
import { rldf } from './command-line.fixture.js';

test('every reward has a whole card', async () => {
  const { code, out } = await rldf('rewards', '--json');
  expect(code).toBe(0);
  const cards = JSON.parse(out);
  expect(cards.map(({ name }: { name: string }) => name)).toEqual([
    'jpeg-compressibility',
    'jpeg-incompressibility',
    'jpeg-estimate',
    'clip-score',
    'preference',
    'image-reward',
    'aesthetic',
    'spatial',
    'count',
    'detector-confidence',
  ]);
  for (const { description, range, hacks, licence, differentiable } of cards) {
    for (const text of [description, range, hacks, licence]) expect(text.length).toBeGreaterThan(3);
    expect(typeof differentiable).toBe('boolean');
  }
});

test('a card is found by the beginning of its name', async () => {
  expect((await rldf('rewards', 'clip')).out).toMatch(/^clip-score: 100 x cosine.*\n {2}unit/);
  expect(JSON.parse((await rldf('rewards', 'aes', '--json')).out).name).toBe('aesthetic');
});

test.each([
  [['rewards', 'beauty'], 'no built-in reward of this name — there are jpeg-compressibility'],
  [['rewards', 'jpeg'], 'could be jpeg-compressibility'],
  [['rewards', 'torture', 'clip', '--pictures', '2'], '--pictures 2: expected a whole number from 8'],
  [['rewards', 'torture', './nowhere.ts'], 'there is no file'],
])('%j is a mistake that is explained', async (words, message) => {
  const { code, err } = await rldf(...words);
  expect(code).toBe(2);
  expect(err).toContain(message);
});
