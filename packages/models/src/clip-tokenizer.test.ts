import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CLIPTokenizer, fromVocabulary } from './clip-tokenizer.js';

const TOKENS = [
  'a</w>',
  'c',
  'a',
  't',
  't</w>',
  'ca',
  'cat</w>',
  's</w>',
  '!</w>',
  '<|startoftext|>',
  '<|endoftext|>',
];
const VOCABULARY = Object.fromEntries(TOKENS.map((token, id) => [token, id]));
const MERGES = ['c a', 'ca t</w>'];
const [A, CA, T, CAT, S, BANG, START, END] = [0, 5, 3, 6, 7, 8, 9, 10];

const tokenizer = (config = {}) =>
  new CLIPTokenizer(fromVocabulary(VOCABULARY, MERGES), { model_max_length: 6, ...config });

test('start, words, end, padding', () => {
  expect(tokenizer().encode(['A  Cat!', '']).ids).toEqual([
    [START, A, CAT, BANG, END, END],
    [START, END, END, END, END, END],
  ]);
});

test('white space and small letters are those of Rust, not of JavaScript', () => {
  const tokens = ['c', 'cat</w>', '\u00cf', '\u0125</w>', '\u00ef', '\u00bb', '\u00bf</w>'];
  const vocabulary = Object.fromEntries(
    [...tokens, 'a', 't</w>', 'at</w>', '<|startoftext|>', '<|endoftext|>'].map((token, id) => [token, id]),
  );
  const ids = (prompt: string) => {
    const clip = new CLIPTokenizer(fromVocabulary(vocabulary, ['a t</w>', 'c at</w>']), {
      model_max_length: 8,
    });
    const [start, ...rest] = clip.encode([prompt]).ids[0]!;
    expect(start).toBe(clip.startId);
    return rest.slice(0, rest.indexOf(clip.endId));
  };
  const [, cat, sigma0, sigma1, bom0, bom1, bom2] = tokens.map((_, id) => id);
  expect(ids('cat\u0085cat')).toEqual([cat, cat]); // next line is white space
  expect(ids('cat\ufeffcat')).toEqual([cat, bom0, bom1, bom2, cat]); // a byte order mark is not
  expect(ids('\u03a3')).toEqual([sigma0, sigma1]);
  expect(ids('c\u03a3').slice(-2)).toEqual([sigma0, sigma1]); // at a word's end too: no final sigma
});

test('a prompt that is too long keeps the end token last', () => {
  expect(tokenizer().encode(['a cat a cat a cat']).ids).toEqual([[START, A, CAT, A, CAT, END]]);
  expect(tokenizer().count('a cat a cat a cat')).toBe(8);
});

test('words know their tokens, also when truncation cuts them', () => {
  const { words } = tokenizer().encode(['a cats cats a']);
  expect(words).toEqual([
    [
      { word: 'a', start: 1, end: 2 },
      { word: 'cats', start: 2, end: 5 },
      { word: 'cats', start: 5, end: 5 },
      { word: 'a', start: 5, end: 5 },
    ],
  ]);
  expect(tokenizer().encode(['cats']).ids[0]).toEqual([START, CA, T, S, END, END]);
});

test('the padding token is the one the files say', () => {
  expect(tokenizer({ pad_token: '!</w>' }).encode(['a']).ids).toEqual([[START, A, END, BANG, BANG, BANG]]);
  expect(() => tokenizer({ pad_token: '<pad>' })).toThrow(/"<pad>" — is not in the vocabulary/);
});

test('reads vocab.json with merges.txt, and what it saved', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tokenizer-'));
  writeFileSync(join(folder, 'vocab.json'), JSON.stringify(VOCABULARY));
  writeFileSync(join(folder, 'merges.txt'), `#version: 0.2\n${MERGES.join('\n')}\n`);
  writeFileSync(
    join(folder, 'tokenizer_config.json'),
    '{ "model_max_length": 6, "pad_token": "<|endoftext|>" }',
  );
  writeFileSync(join(folder, 'special_tokens_map.json'), '{ "pad_token": { "content": "!</w>" } }');
  const read = CLIPTokenizer.load(folder);
  expect(read.encode(['a cat']).ids).toEqual([[START, A, CAT, END, BANG, BANG]]);
  const copy = mkdtempSync(join(tmpdir(), 'tokenizer-'));
  read.save(copy);
  expect(CLIPTokenizer.load(copy).encode(['a cat']).ids).toEqual([[START, A, CAT, END, BANG, BANG]]);
  rmSync(join(copy, 'tokenizer.json')); // vocab.json and merges.txt stay
  expect(CLIPTokenizer.load(copy).encode(['a cat']).ids).toEqual([[START, A, CAT, END, BANG, BANG]]);
  expect(() => CLIPTokenizer.load(join(folder, 'none'))).toThrow(/vocab.json: cannot be read/);
});

test('in pieces nothing is lost: each has start and end, and shorter prompts end in empty ones', () => {
  const clip = tokenizer();
  expect(clip.encodeChunks(['a cat a cat a cat', 'a'], 2)).toEqual([
    [START, A, CAT, A, CAT, END],
    [START, A, CAT, END, END, END],
    [START, A, END, END, END, END],
    [START, END, END, END, END, END],
  ]);
  expect(clip.encodeChunks(['a cat', ''], 1)).toEqual(clip.encode(['a cat', '']).ids);
  expect(
    ['', 'a cat a cat', 'a cat a cat a', 'a a a a a a a a a'].map((prompt) => clip.chunks(prompt)),
  ).toEqual([1, 1, 2, 3]);
  expect(clip.cut('a cat a cats a')).toBe('cats a');
  expect(clip.cut('a cat a cat')).toBe('');
});
