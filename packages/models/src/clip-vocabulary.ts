/** The vocabulary of OpenAI's CLIP (see assets/clip-LICENSE.txt), which every Stable Diffusion 1.x, 2.x and XL reads with. */

import { readFileSync } from 'node:fs';
import { brotliDecompressSync } from 'node:zlib';
import { CLIPTokenizer, fromVocabulary } from './clip-tokenizer.js';

const MERGES = new URL('../assets/clip-merges.txt.br', import.meta.url);

type Padding = '<|endoftext|>' | '!';

let vocabulary: object | undefined;
const tokenizers = new Map<Padding, CLIPTokenizer>();

/**
 * CLIP's tokenizer, for models whose files hold none.
 * @param padding of the end token in SD 1.x and XL's first encoder; of `!` in SD 2.x and XL's second
 */
export function clipTokenizer(padding: Padding): CLIPTokenizer {
  const known = tokenizers.get(padding);
  if (known) return known;
  vocabulary ??= fromMerges(
    brotliDecompressSync(readFileSync(MERGES)).toString('utf8').trimEnd().split('\n'),
  );
  const tokenizer = new CLIPTokenizer(vocabulary, {
    tokenizer_class: 'CLIPTokenizer',
    model_max_length: 77,
    bos_token: '<|startoftext|>',
    eos_token: '<|endoftext|>',
    unk_token: '<|endoftext|>',
    pad_token: padding,
  });
  tokenizers.set(padding, tokenizer);
  return tokenizer;
}

/** Ids count through the bytes, the bytes that end a word, the merges, and the two special tokens. */
function fromMerges(merges: readonly string[]): object {
  const bytes = byteCharacters();
  const tokens = [
    ...bytes,
    ...bytes.map((byte) => `${byte}</w>`),
    ...merges.map((merge) => merge.replace(' ', '')),
    '<|startoftext|>',
    '<|endoftext|>',
  ];
  return fromVocabulary(Object.fromEntries(tokens.map((token, id) => [token, id])), merges);
}

/** Byte-level BPE shows each byte as a character: printable ones as themselves, the others from U+0100 on. */
function byteCharacters(): string[] {
  const range = (first: number, last: number) =>
    Array.from({ length: last - first + 1 }, (_, i) => first + i);
  const printable = [...range(0x21, 0x7e), ...range(0xa1, 0xac), ...range(0xae, 0xff)];
  const others = range(0, 255).filter((byte) => !printable.includes(byte));
  return [...printable, ...others.map((_, i) => 0x100 + i)].map((code) => String.fromCodePoint(code));
}
