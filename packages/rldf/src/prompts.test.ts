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

test('a text file holds one prompt a line', () => {
  const file = fileOf('a.txt', '\uFEFFa cat\r\n\n# a remark\n  a dog # 2  \n');
  expect(loadPrompts(file)).toEqual([
    { text: 'a cat', meta: null },
    { text: 'a dog # 2', meta: null },
  ]);
});

test('a .jsonl file holds meta besides, and malformed lines are pointed at', () => {
  expect(loadPrompts(fileOf('a.jsonl', '{"prompt":"a cat","count":2}\n'))).toEqual([
    { text: 'a cat', meta: { count: 2 } },
  ]);
  expect(() => loadPrompts(fileOf('b.jsonl', '{"prompt":"a"}\n{"text":"b"}\n'))).toThrow(
    'b.jsonl:2: no text under "prompt"',
  );
  expect(() => loadPrompts(fileOf('c.jsonl', '{"prompt"\n'))).toThrow('c.jsonl:1: not JSON');
});

test('missing and empty files are explained', () => {
  expect(() => loadPrompts(join(folder, 'none.txt'))).toThrow('there is no such file');
  expect(() => loadPrompts(fileOf('empty.txt', '# nothing\n'))).toThrow('holds no prompt');
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
