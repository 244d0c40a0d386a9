// Trains the world's tokenizer on captions of the train split and writes model/tokenizer/. The vocabulary is frozen
// with the first model: run this again only for a model that is trained from scratch.
//
//   node --conditions=rldf-source --import tsx packages/emoji-world/tools/train-tokenizer.ts [merges]
import { writeFileSync } from 'node:fs';
import { encodeBpe, MAX_TOKENS, tokenizerFiles, trainBpe } from '../src/bpe.js';
import { nouns, paperAnimals } from '../src/nouns.js';
import { sampleCaptionedScene } from '../src/sample.js';

const CAPTIONS = 60_000;
// The papers' animals are counted twice, and merges are so few that rarer nouns stay in several pieces: word weighting
// must have such words to be tested on.
const MERGES = Number(process.argv[2] ?? 420);

const common = paperAnimals.map(({ name }) => name);
const captions = Array.from({ length: CAPTIONS }, (_, index) => {
  const options = index % 2 === 0 ? {} : { nouns: common };
  return sampleCaptionedScene('train', 0, index, options).caption;
});
const bpe = trainBpe(captions, MERGES);
const folder = new URL('../model/tokenizer/', import.meta.url);
for (const [name, text] of Object.entries(tokenizerFiles(bpe))) writeFileSync(new URL(name, folder), text);

const lengths = captions.map((caption) => encodeBpe(bpe, caption).length + 2);
const split = nouns.filter(({ name }) => name.split(' ').some((word) => encodeBpe(bpe, word).length > 1));
console.log(
  `${bpe.vocabulary.size} entries; longest caption ${Math.max(...lengths)} of ${MAX_TOKENS} tokens`,
);
console.log(
  `${split.length} of ${nouns.length} nouns in several pieces: ${split.map(({ name }) => name).join(', ')}`,
);
