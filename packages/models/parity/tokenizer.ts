import { join } from 'node:path';
import { CLIPTokenizer } from '../src/clip-tokenizer.js';
import { type Difference, Golden, goldenFolder, relativeError } from './golden.js';

interface TokenizerCase {
  folder: string;
  maxLength: number;
  ids: number[][];
  unpadded: number[][];
}

/** The vocabulary of the model that ships with the product; its golden is there once the model is. */
const EMOJI = join(import.meta.dirname, '..', '..', 'emoji-world', 'model', 'tokenizer');

export function tokenizerNames(golden: Golden): string[] {
  return (golden.json.cases as TokenizerCase[]).map(({ folder }) => folder);
}

/** Every string must give exactly the reference's ids, cut and padded, and its number of tokens before cutting. */
export function tokenizerDifferences(folder: string): Difference[] {
  const golden = new Golden('tokenizer');
  const { ids, unpadded, maxLength } = (golden.json.cases as TokenizerCase[]).find(
    (item) => item.folder === folder,
  )!;
  const tokenizer = CLIPTokenizer.load(
    folder === 'emoji' ? (process.env.RLDF_EMOJI_TOKENIZER ?? EMOJI) : join(goldenFolder, folder),
  );
  return [
    { name: 'length', error: Math.abs(tokenizer.maxLength - maxLength) },
    ...(golden.json.strings as string[]).flatMap((text, i) => [
      {
        name: `ids of ${JSON.stringify(text)}`,
        error: relativeError(tokenizer.encode([text]).ids[0]!, ids[i]!),
      },
      {
        name: `count of ${JSON.stringify(text)}`,
        error: Math.abs(tokenizer.count(text) - unpadded[i]!.length),
      },
    ]),
  ];
}
