import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { encodeBpe, MAX_TOKENS, parseBpe, tokenizerFiles, trainBpe } from './bpe.js';
import { nouns } from './nouns.js';
import { sampleCaptionedScene } from './sample.js';
import { splits } from './split.js';

const folder = new URL('../model/tokenizer/', import.meta.url);
const read = (name: string) => readFileSync(new URL(name, folder), 'utf8');
const bpe = parseBpe(read('vocab.json'), read('merges.txt'));

test('merges are learned by count, as by hand', () => {
  // "aab" twice, "ab" once: "a b</w>" occurs 3 times, then "a ab</w>" twice.
  const tiny = trainBpe(['aab AAB ab'], 2);
  expect(tiny.merges).toEqual(['a b</w>', 'a ab</w>']);
  expect(encodeBpe(tiny, 'aab ab b a')).toEqual([513, 512, 256 + 65, 256 + 64]);
  expect(tiny.vocabulary.get('<|endoftext|>')).toBe(515);
});

test('the shipped files are one another: written again they are the same', () => {
  for (const [name, text] of Object.entries(tokenizerFiles(bpe))) expect(read(name), name).toBe(text);
});

test('the vocabulary is in the order of CLIP', () => {
  expect(bpe.vocabulary.size).toBe(512 + bpe.merges.length + 2);
  expect(bpe.vocabulary.size).toBeLessThanOrEqual(2000);
  expect(bpe.vocabulary.get('!')).toBe(0);
  expect(bpe.vocabulary.get('!</w>')).toBe(256);
  expect(bpe.vocabulary.get('<|startoftext|>')).toBe(bpe.vocabulary.size - 2);
  for (const [rank, merge] of bpe.merges.entries()) {
    expect(bpe.vocabulary.get(merge.replace(' ', ''))).toBe(512 + rank);
  }
});

test('captions of every split fit, and no token is missing', () => {
  for (const split of splits) {
    for (let index = 0; index < 4000; index++) {
      const options = index % 2 === 0 ? {} : { kinds: { long: 1 } };
      const { caption } = sampleCaptionedScene(split, 21, index, options);
      const ids = encodeBpe(bpe, caption);
      expect(ids.length + 2, caption).toBeLessThanOrEqual(MAX_TOKENS);
      expect(ids.every((id) => id >= 0 && id < bpe.vocabulary.size)).toBe(true);
    }
  }
});

test('some nouns are one token, some are several', () => {
  const pieces = nouns.map(({ name }) => encodeBpe(bpe, name).length - name.split(' ').length + 1);
  expect(pieces.filter((count) => count === 1).length).toBeGreaterThan(50);
  expect(pieces.filter((count) => count > 1).length).toBeGreaterThan(30);
  expect(encodeBpe(bpe, 'A  Cat')).toEqual(encodeBpe(bpe, 'a cat'));
});

// Ids of transformers 5.23.0's CLIPTokenizer on the same folder.
test('the same ids as transformers', () => {
  const golden = JSON.parse(readFileSync(new URL('./bpe.golden.json', import.meta.url), 'utf8')) as Record<
    string,
    number[]
  >;
  expect(Object.keys(golden).length).toBeGreaterThan(200);
  for (const [text, ids] of Object.entries(golden)) {
    expect([bpe.vocabulary.size - 2, ...encodeBpe(bpe, text), bpe.vocabulary.size - 1], text).toEqual(ids);
  }
});
