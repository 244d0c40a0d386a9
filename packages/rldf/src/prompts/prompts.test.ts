import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadPrompts, repeatPrompts } from './prompts.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-prompts-'));
const fileOf = (name: string, content: string) => {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
};

test('a prompt file, a list, a named set or a part of it', () => {
  expect(loadPrompts(fileOf('a.txt', 'a cat\n'))).toEqual([{ text: 'a cat', meta: null }]);
  expect(loadPrompts(['a dog'])).toEqual([{ text: 'a dog', meta: null }]);
  expect(loadPrompts({ set: 'diffexp-animals' }).length).toBe(45);
  const [colour, ...none] = loadPrompts({ set: 'texforce-seen', group: 'colour' });
  expect([colour?.text, none]).toEqual(['a green dog', []]);
  expect(() => loadPrompts({ set: 'texforce-seen', group: 'color' })).toThrow(
    'the set texforce-seen has no group "color" — it has colour, composition, count, location',
  );
  expect(() => loadPrompts({ set: 'diffexp-animal' })).toThrow('Did you mean diffexp-animals?');
});

test('world sets come with their scenes and may be narrowed to nouns', () => {
  const all = loadPrompts({ split: 'test', kind: 'single' });
  const two = loadPrompts({ split: 'test', kind: 'single', nouns: ['cat', 'dog'] });
  expect(all.length).toBeGreaterThan(50);
  expect(two.map(({ text }) => text).sort()).toEqual(['a cat', 'a dog']);
  expect(() => loadPrompts({ split: 'test', kind: 'and', nouns: ['cat'] })).toThrow(
    'no and scene of the test split',
  );
});

test('prompts are repeated in a row', () => {
  const prompts = ['a', 'b', 'c'].map((text) => ({ text, meta: null }));
  expect(repeatPrompts(prompts, 2, 2).map(({ text }) => text)).toEqual(['a', 'a', 'b', 'b']);
});
