import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { LONGEST_PROMPT, readPromptFile } from './prompt-files.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-prompt-files-'));
const fileOf = (name: string, content: string | Uint8Array) => {
  writeFileSync(join(folder, name), content);
  return join(folder, name);
};
const read = (name: string, content: string | Uint8Array) => readPromptFile(fileOf(name, content));

test('a text file holds one prompt a line', () => {
  expect(read('a.txt', '\uFEFFa cat\r\n\n# a remark\n  a dog # 2  \n')).toEqual([
    { text: 'a cat', meta: null },
    { text: 'a dog # 2', meta: null },
  ]);
});

test('a .jsonl file holds meta besides, and malformed lines are pointed at', () => {
  expect(
    read('a.jsonl', '{"tag":"counting","include":[{"class":"cat","count":2}],"prompt":"two cats"}\n\n'),
  ).toEqual([{ text: 'two cats', meta: { tag: 'counting', include: [{ class: 'cat', count: 2 }] } }]);
  expect(() => read('b.jsonl', '{"prompt":"a"}\n{"text":"b"}\n')).toThrow(
    'b.jsonl:2: no text under "prompt"',
  );
  expect(() => read('c.jsonl', '{"prompt"}\n')).toThrow(/c\.jsonl:1:10: not JSON/);
  expect(() => read('d.jsonl', '["a cat"]\n')).toThrow('d.jsonl:1: no text under "prompt"');
});

test('PartiPrompts’ form: tabs, a header, quotes that are part of the text', () => {
  const content =
    'Prompt\tCategory\tChallenge\tNote\nbond\tAbstract\tBasic\tBiology\n"G I G G L E" painted as graffiti\tIllustrations\tWriting & Symbols\t\n';
  expect(read('parti.tsv', content)).toEqual([
    { text: 'bond', meta: { Category: 'Abstract', Challenge: 'Basic', Note: 'Biology' } },
    {
      text: '"G I G G L E" painted as graffiti',
      meta: { Category: 'Illustrations', Challenge: 'Writing & Symbols', Note: '' },
    },
  ]);
});

test('DrawBench’s form: commas, quoted fields, any line ends', () => {
  const content =
    '\uFEFFPrompts,Category\r\nA red car.,Colors\r\n"A sign that says ""Hello, World"".",Text\r\n\r\n"two\nlines",Reddit';
  expect(read('drawbench.csv', content)).toEqual([
    { text: 'A red car.', meta: { Category: 'Colors' } },
    { text: 'A sign that says "Hello, World".', meta: { Category: 'Text' } },
    { text: 'two\nlines', meta: { Category: 'Reddit' } },
  ]);
  expect(read('last.csv', 'caption,note\na cat,')).toEqual([{ text: 'a cat', meta: { note: '' } }]);
});

test('tables are pointed at with file, line and column', () => {
  const error = (name: string, content: string) => {
    try {
      read(name, content);
    } catch (thrown) {
      return (thrown as Error).message.slice(folder.length + 1);
    }
    return 'no error';
  };
  expect(error('a.csv', 'id,words\n1,a cat\n')).toMatch(
    /^a\.csv:1:1: no column of prompts among "id", "words"/,
  );
  expect(error('b.csv', 'prompt,note\na cat,x\na dog, a cow,y\n')).toMatch(
    /^b\.csv:3:14: 3 fields, but the header names 2/,
  );
  expect(error('c.csv', 'prompt,note\na "red" cat,x\n')).toMatch(
    /^c\.csv:2:3: a quote within an unquoted field/,
  );
  expect(error('d.csv', 'prompt,note\n"a cat\nx,y\n')).toMatch(/^d\.csv:2:1: this quote is never closed/);
  expect(error('e.csv', 'prompt,note\n"a\ncat" x,y\n')).toMatch(/^e\.csv:3:5: text behind a closing quote/);
  expect(error('f.tsv', 'Prompt\tCategory\na cat\tA\n\tB\n')).toMatch(
    /^f\.tsv:3:1: no prompt under "Prompt"/,
  );
  expect(error('g.tsv', 'Prompt\tprompt\na\tb\n')).toMatch(/^g\.tsv:1:8: a second column "prompt"/);
  expect(error('h.csv', 'prompt\n')).toMatch(/^h\.csv: holds no prompt/);
});

test('what is no text, or no prompt, is refused', () => {
  expect(() => readPromptFile(join(folder, 'none.txt'))).toThrow('there is no such file');
  expect(() => readPromptFile(folder)).toThrow('it is a folder');
  expect(() => read('empty.txt', '# nothing\n')).toThrow('holds no prompt');
  expect(() => read('latin.txt', Buffer.from('a cat\na caf\xe9 table\n', 'latin1'))).toThrow(
    'latin.txt:2:6: not UTF-8',
  );
  expect(() => read('utf16.txt', Buffer.from('\uFEFFa cat\n', 'utf16le'))).toThrow('is UTF-16');
  expect(() => read('zero.txt', 'a\0cat\n')).toThrow('zero.txt:1:1: holds the control character U+0000');
  expect(() => read('long.txt', `a cat\n${'a'.repeat(LONGEST_PROMPT + 1)}\n`)).toThrow(
    `long.txt:2:1: a prompt of ${LONGEST_PROMPT + 1} characters — at most ${LONGEST_PROMPT}`,
  );
});

test('a line nested beyond measure is pointed at (found by npm run campaign -- fuzz --kind prompts)', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'rldf-deep-')), 'deep.jsonl');
  writeFileSync(file, `{"prompt": "a cat", "tags": ${'['.repeat(20_000)}${']'.repeat(20_000)}}\n`);
  expect(() => readPromptFile(file)).toThrow('deep.jsonl:1: not JSON (Maximum call stack size exceeded)');
});
