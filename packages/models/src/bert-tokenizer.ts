import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { shown, UserError } from '@rldf/torch';
import { readJson } from './files.js';

const PAD = '[PAD]';
const UNKNOWN = '[UNK]';
const START = '[CLS]';
const END = '[SEP]';

/** BERT's WordPiece tokenizer, uncased (Devlin et al. 2019), with the two tokens that BLIP adds behind its vocabulary. */
export class BertTokenizer {
  readonly padId: number;
  /** The highest id that it gives. */
  readonly highestId: number;
  readonly #start: number;
  readonly #end: number;
  readonly #tokenizer: Tokenizer;

  /**
   * @param tokens the vocabulary, in the order of their ids
   * @param maxLength ids of each prompt, start and end included; ImageReward reads 35
   * @throws UserError when a special token is not in the vocabulary
   */
  constructor(
    tokens: readonly string[],
    readonly maxLength: number,
    where = 'BertTokenizer',
  ) {
    const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
    const special = (token: string) => {
      if (Object.hasOwn(vocab, token)) return vocab[token]!;
      throw new UserError(
        `${where}: special token ${token} is not in the vocabulary of ${tokens.length} — it is not that of BERT. Use vocab.txt of bert-base-uncased.`,
      );
    };
    this.padId = special(PAD);
    this.#start = special(START);
    this.#end = special(END);
    special(UNKNOWN);
    const blip = ['[DEC]', '[ENC]'].map((token, i) => ({
      content: token,
      id: vocab[token] ?? tokens.length + i,
    }));
    const named = [PAD, UNKNOWN, START, END, '[MASK]'].flatMap((content) =>
      Object.hasOwn(vocab, content) ? [{ content, id: vocab[content] as number }] : [],
    );
    const added = [...named, ...blip];
    this.highestId = Math.max(tokens.length - 1, ...added.map(({ id }) => id));
    const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
    this.#tokenizer = new Tokenizer(
      {
        version: '1.0',
        truncation: null,
        padding: null,
        added_tokens: added.map((token) => ({ ...token, ...flags })),
        normalizer: {
          type: 'BertNormalizer',
          clean_text: true,
          handle_chinese_chars: true,
          strip_accents: null,
          lowercase: true,
        },
        pre_tokenizer: { type: 'BertPreTokenizer' },
        post_processor: null,
        decoder: null,
        model: {
          type: 'WordPiece',
          unk_token: UNKNOWN,
          continuing_subword_prefix: '##',
          max_input_chars_per_word: 100,
          vocab,
        },
      },
      {},
    );
  }

  /**
   * @param path `vocab.txt`, `tokenizer.json`, or a folder with one of them
   * @throws UserError when it is neither
   */
  static load(path: string, maxLength: number): BertTokenizer {
    const folder = existsSync(path) && statSync(path).isDirectory();
    const file = folder
      ? ['vocab.txt', 'tokenizer.json'].map((name) => join(path, name)).find((name) => existsSync(name))
      : path;
    if (file === undefined || !existsSync(file)) {
      throw new UserError(
        `${path}: there is no vocabulary of BERT — vocab.txt or tokenizer.json of bert-base-uncased is needed. Download it, and give its path as tokenizer.`,
      );
    }
    if (!file.endsWith('.json')) {
      const lines = readFileSync(file, 'utf8').split('\n');
      return new BertTokenizer(
        lines.map((line) => line.replace(/\r$/, '')).filter((line, i) => line !== '' || i < lines.length - 1),
        maxLength,
        file,
      );
    }
    const vocab = (readJson(file) as { model?: { vocab?: unknown } }).model?.vocab;
    const pairs = vocab !== null && typeof vocab === 'object' ? Object.entries(vocab) : [];
    const tokens = pairs.sort(([, a], [, b]) => Number(a) - Number(b));
    if (tokens.length === 0 || tokens.some(([, id], place) => id !== place)) {
      throw new UserError(
        `${file}: model.vocab is ${shown(vocab)} — must be tokens with the ids from 0 on. Use the files of bert-base-uncased.`,
      );
    }
    return new BertTokenizer(tokens.map(([token]) => token), maxLength, file); // biome-ignore format: one thought
  }

  /** Start, words, end, padding: as many ids for each prompt as the model reads; longer prompts are cut. */
  encode(prompts: readonly string[]): number[][] {
    return prompts.map((prompt) => {
      const ids = [this.#start, ...this.#ids(prompt).slice(0, this.maxLength - 2), this.#end];
      while (ids.length < this.maxLength) ids.push(this.padId);
      return ids;
    });
  }

  /** The words of a prompt that `encode` cuts off, in whole or in part; empty for most. */
  cut(prompt: string): string {
    let room = this.maxLength - 2;
    const words = prompt.split(/\s+/).filter((word) => word !== '');
    const first = words.findIndex((word) => {
      room -= this.#ids(word).length;
      return room < 0;
    });
    return first < 0 ? '' : words.slice(first).join(' ');
  }

  #ids(text: string): number[] {
    return this.#tokenizer.encode(text, { add_special_tokens: false }).ids;
  }
}
