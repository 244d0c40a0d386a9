import { tinyPipeline } from '@rldf/models';
import { expect, test } from 'vitest';
import { describePromptNotices, describeUnscored, promptNotices } from './prompt-notices.js';

const pipeline = tinyPipeline();
const { tokenizer } = pipeline;
const words = (count: number, last: string) => `${'a '.repeat(count)}${last}`;

test('what is cut is named, word by word; what fits is not', () => {
  const fitting = tokenizer.maxLength - 2;
  expect(tokenizer.count(words(fitting, '').trim())).toBe(tokenizer.maxLength);
  expect(promptNotices(tokenizer, ['a', '', words(fitting, '').trim()])).toEqual([]);
  const [notice] = promptNotices(tokenizer, [words(fitting, 'cat dog')]);
  expect(notice?.cut).toBe('cat dog');
  expect(promptNotices(tokenizer, [words(fitting, 'cat dog')], true)).toEqual([]);
  const encode = (prompt: string) => `${tokenizer.encode([prompt]).ids}`;
  expect(encode(words(fitting, 'cat dog'))).toBe(encode(words(fitting, 'dog dog'))); // why it is said
});

test.each([
  ['a (cat:1.3) on grass', '(cat:1.3)'],
  ['a ((cat)) on grass', '((cat))'],
  ['a cat BREAK a dog', 'BREAK'],
  ['a cat++ on grass', 'cat++'],
  ['a cat <lora:style:0.8>', '<lora:style:0.8>'],
])('%s: a syntax that is not read is noticed', (prompt, unread) => {
  expect(promptNotices(tokenizer, [prompt]).map((notice) => notice.unread)).toContain(unread);
});

test('ordinary brackets, ratios and breaks in small letters are words', () => {
  for (const prompt of ['a cat (red)', 'a cat (16:9 format)', 'a break', 'c++', '3:1'])
    expect(promptNotices(tokenizer, [prompt]).filter(({ unread }) => unread !== undefined)).toEqual([]);
});

test('the first few are written out, the others counted', () => {
  const many = Array.from({ length: 5 }, (_, i) => ({ prompt: `p${i}`, cut: 'red car' }));
  const lines = describePromptNotices([...many, { prompt: 'x', unread: 'BREAK' }], 77);
  expect(lines).toHaveLength(5);
  expect(lines[0]).toContain(
    'prompt "p0" is longer than the 77 tokens that the model reads: "red car" is cut off',
  );
  expect(lines[3]).toBe('2 further prompts are longer too');
  expect(lines[4]).toContain('"BREAK" is drawn as it stands');
});

test('what is drawn but not scored is told for each reward that reads less than the model', () => {
  const fitting = tokenizer.maxLength - 2;
  const [short, long] = ['a cat', words(fitting, 'cat dog')];
  const cut = (prompt: string) => tokenizer.cut(prompt);
  const readers = [
    { name: 'alike', maxLength: tokenizer.maxLength, cut },
    { name: 'one word', maxLength: 3, cut: (prompt: string) => prompt.split(' ').slice(1).join(' ') },
  ];
  expect(describeUnscored(tokenizer, readers, [short, short])).toEqual([
    'reward one word reads the first 3 tokens of a prompt: of "a cat", "cat" is drawn but not scored. Shorten the prompt, or take a reward that reads it',
  ]);
  // what the model does not draw either is told as such; read in pieces, it is drawn
  expect(describeUnscored(tokenizer, readers.slice(0, 1), [long])).toEqual([]);
  expect(describeUnscored(tokenizer, readers.slice(0, 1), [long], true).join()).toMatch(
    /"cat dog" is drawn but/,
  );
});
