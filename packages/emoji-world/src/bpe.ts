/**
 * Byte-pair encoding in CLIP's format (Radford et al. 2021; Sennrich et al. 2016, "Neural Machine Translation of Rare
 * Words with Subword Units", algorithm 1): lower-cased words, each closed by "</w>", over 256 byte symbols. Small and
 * plain: it trains the world's tokenizer and counts its tokens. Models are fed by the tokenizer of @rldf/models.
 */

/** Token ids by symbol, and the merges in order of rank ("c a"). */
export interface Bpe {
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly merges: readonly string[];
}

export const START_OF_TEXT = '<|startoftext|>';
export const END_OF_TEXT = '<|endoftext|>';

/** Tokens of a caption with both marks, at most: `model_max_length` of the world's tokenizer. */
export const MAX_TOKENS = 32;

const WORD_END = '</w>';
const WORDS = /'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/gu;

/** CLIP's printable stand-in for each byte, in the order of its first 256 ids. */
function byteSymbols(): { byte: number; symbol: string }[] {
  const printable: number[] = [];
  for (let byte = 33; byte <= 126; byte++) printable.push(byte);
  for (let byte = 161; byte <= 255; byte++) if (byte !== 173) printable.push(byte);
  const symbols = printable.map((byte) => ({ byte, symbol: String.fromCodePoint(byte) }));
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    if (!printable.includes(byte)) symbols.push({ byte, symbol: String.fromCodePoint(next++) });
  }
  return symbols;
}

const SYMBOL_OF_BYTE = new Map(byteSymbols().map(({ byte, symbol }) => [byte, symbol]));

/** A text's words, as CLIP cuts them: NFC, one blank for each run of white space, lower case. */
function wordsOf(text: string): string[] {
  return text.normalize('NFC').replace(/\s+/g, ' ').trim().toLowerCase().match(WORDS) ?? [];
}

/** A word's byte symbols, the last one marked as the word's end. */
function symbolsOf(word: string): string[] {
  const symbols = [...new TextEncoder().encode(word)].map((byte) => SYMBOL_OF_BYTE.get(byte)!);
  symbols.push(`${symbols.pop() ?? ''}${WORD_END}`);
  return symbols;
}

/** Learns `mergeCount` merges: again and again the most frequent neighbours, ties by code units. */
export function trainBpe(texts: readonly string[], mergeCount: number): Bpe {
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const word of wordsOf(text)) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  const words = [...counts].map(([word, count]) => ({ symbols: symbolsOf(word), count }));
  const merges: string[] = [];
  while (merges.length < mergeCount) {
    const best = mostFrequentPair(words);
    if (best === undefined) break;
    merges.push(best);
    for (const word of words) word.symbols = mergePair(word.symbols, best);
  }
  const base = byteSymbols().map(({ symbol }) => symbol);
  const symbols = [
    ...base,
    ...base.map((symbol) => symbol + WORD_END),
    ...merges.map((merge) => merge.replace(' ', '')),
    START_OF_TEXT,
    END_OF_TEXT,
  ];
  return { vocabulary: new Map(symbols.map((symbol, id) => [symbol, id])), merges };
}

function mostFrequentPair(words: readonly { symbols: string[]; count: number }[]): string | undefined {
  const pairs = new Map<string, number>();
  for (const { symbols, count } of words) {
    for (let i = 0; i + 1 < symbols.length; i++) {
      const pair = `${symbols[i]} ${symbols[i + 1]}`;
      pairs.set(pair, (pairs.get(pair) ?? 0) + count);
    }
  }
  let best: string | undefined;
  let most = 0;
  for (const [pair, count] of pairs) {
    if (count > most || (count === most && best !== undefined && pair < best)) [best, most] = [pair, count];
  }
  return best;
}

function mergePair(symbols: readonly string[], pair: string): string[] {
  const merged: string[] = [];
  for (let i = 0; i < symbols.length; i++) {
    if (i + 1 < symbols.length && `${symbols[i]} ${symbols[i + 1]}` === pair) {
      merged.push(`${symbols[i]}${symbols[i + 1]}`);
      i++;
    } else merged.push(symbols[i]!);
  }
  return merged;
}

/** Token ids of a text, with neither marks nor padding nor truncation. */
export function encodeBpe({ vocabulary, merges }: Bpe, text: string): number[] {
  const ranks = ranksOf(merges);
  return wordsOf(text).flatMap((word) => {
    let symbols = symbolsOf(word);
    for (;;) {
      let best: string | undefined;
      let bestRank = Number.POSITIVE_INFINITY;
      for (let i = 0; i + 1 < symbols.length; i++) {
        const pair = `${symbols[i]} ${symbols[i + 1]}`;
        const rank = ranks.get(pair) ?? Number.POSITIVE_INFINITY;
        if (rank < bestRank) [best, bestRank] = [pair, rank];
      }
      if (best === undefined) return symbols.map((symbol) => vocabulary.get(symbol)!);
      symbols = mergePair(symbols, best);
    }
  });
}

const rankTables = new WeakMap<readonly string[], Map<string, number>>();

function ranksOf(merges: readonly string[]): Map<string, number> {
  let ranks = rankTables.get(merges);
  if (ranks === undefined) {
    ranks = new Map(merges.map((merge, rank) => [merge, rank]));
    rankTables.set(merges, ranks);
  }
  return ranks;
}

/** The five files of a CLIP tokenizer folder, by name. */
export function tokenizerFiles({ vocabulary, merges }: Bpe): Record<string, string> {
  const json = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`;
  const start = vocabulary.get(START_OF_TEXT)!;
  const end = vocabulary.get(END_OF_TEXT)!;
  const special = { lstrip: false, normalized: false, rstrip: false, single_word: false };
  const added = (content: string) => ({ content, ...special, special: true });
  const plain = Object.fromEntries(vocabulary);
  return {
    'vocab.json': `${JSON.stringify(plain)}\n`,
    'merges.txt': `#version: 0.2\n${merges.join('\n')}\n`,
    'tokenizer_config.json': json({
      add_prefix_space: false,
      added_tokens_decoder: { [start]: added(START_OF_TEXT), [end]: added(END_OF_TEXT) },
      bos_token: START_OF_TEXT,
      clean_up_tokenization_spaces: false,
      do_lower_case: true,
      eos_token: END_OF_TEXT,
      errors: 'replace',
      model_max_length: MAX_TOKENS,
      pad_token: END_OF_TEXT,
      tokenizer_class: 'CLIPTokenizer',
      unk_token: END_OF_TEXT,
    }),
    'special_tokens_map.json': json({
      bos_token: { content: START_OF_TEXT, ...special },
      eos_token: { content: END_OF_TEXT, ...special },
      pad_token: END_OF_TEXT,
      unk_token: { content: END_OF_TEXT, ...special },
    }),
    'tokenizer.json': json({
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: [
        { id: start, ...added(START_OF_TEXT) },
        { id: end, ...added(END_OF_TEXT) },
      ],
      normalizer: {
        type: 'Sequence',
        normalizers: [
          { type: 'NFC' },
          { type: 'Replace', pattern: { Regex: '\\s+' }, content: ' ' },
          { type: 'Lowercase' },
        ],
      },
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: [
          {
            type: 'Split',
            pattern: { Regex: "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+" },
            behavior: 'Removed',
            invert: true,
          },
          { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
        ],
      },
      post_processor: {
        type: 'RobertaProcessing',
        sep: [END_OF_TEXT, end],
        cls: [START_OF_TEXT, start],
        trim_offsets: false,
        add_prefix_space: false,
      },
      decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: END_OF_TEXT,
        continuing_subword_prefix: '',
        end_of_word_suffix: WORD_END,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab: plain,
        merges: merges.map((merge) => merge.split(' ')),
      },
    }),
  };
}

/** Reads `vocab.json` and `merges.txt` back. */
export function parseBpe(vocabularyJson: string, mergesText: string): Bpe {
  const vocabulary = new Map(Object.entries(JSON.parse(vocabularyJson) as Record<string, number>));
  const merges = mergesText
    .split('\n')
    .slice(1)
    .filter((line) => line !== '');
  return { vocabulary, merges };
}
