import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { shown, UserError } from '@rldf/torch';
import { readJson, writeJson, writeText } from './files.js';

/** Where a word of the prompt lies among its tokens: [start, end), the start token being at 0. */
export interface WordSpan {
  word: string;
  start: number;
  /** Equal to `start` when truncation cut the whole word. */
  end: number;
}

export interface TokenizedPrompts {
  /** As many ids per prompt as the model's length: start, words, end, padding. */
  ids: number[][];
  /** The words of each prompt as whitespace separates them. */
  words: WordSpan[][];
}

/** The part of `tokenizer.json` that a tokenizer differs by; merges are pairs or joined by a space. */
interface Vocabulary {
  vocab?: { [token: string]: number };
  merges?: readonly (string | readonly string[])[];
}

const START = '<|startoftext|>';
const END = '<|endoftext|>';
const LONGEST = 77;

/** CLIP's byte-level BPE tokenizer (Radford et al. 2021) from the files of a `tokenizer/` folder. */
export class CLIPTokenizer {
  readonly maxLength: number;
  readonly startId: number;
  readonly endId: number;
  readonly padId: number;
  /** The highest id of any token in the vocabulary. */
  readonly highestId: number;
  readonly #files: { tokenizer: object; config: { [key: string]: unknown } };
  readonly #tokenizer: Tokenizer;
  readonly #where: string;
  readonly #known = new Map<string, readonly number[]>();

  /**
   * @param tokenizer content of `tokenizer.json`
   * @param config content of `tokenizer_config.json`
   * @throws UserError when the files are no tokenizer's, or a special token is not in the vocabulary
   */
  constructor(tokenizer: object, config: { [key: string]: unknown }, where = 'CLIPTokenizer') {
    const length = config.model_max_length ?? LONGEST;
    if (typeof length !== 'number' || !(length > 100_000 || (Number.isInteger(length) && length >= 2))) {
      throw new UserError(
        `${where}: model_max_length is ${shown(length)} — must be a whole number of at least 2. Restore tokenizer_config.json.`,
      );
    }
    this.#files = { tokenizer, config };
    this.maxLength = length > 100_000 ? LONGEST : length; // transformers writes 1e30 for "unknown"
    this.highestId = checkVocabulary(where, tokenizer);
    this.#tokenizer = readable(where, () => {
      const read = new Tokenizer(withUnicodeSpace(tokenizer), config);
      read.encode('a cat, 2', { add_special_tokens: false }); // what is wrong shows only here
      return read;
    });
    this.#where = where;
    this.startId = this.#special(where, config.bos_token ?? START);
    this.endId = this.#special(where, config.eos_token ?? END);
    this.padId = this.#special(where, config.pad_token ?? config.eos_token ?? END);
  }

  /**
   * Reads a folder: `tokenizer.json`, or `vocab.json` and `merges.txt`; `tokenizer_config.json` and
   * `special_tokens_map.json` if there.
   *
   * @throws UserError when a file is missing or broken
   */
  static load(folder: string): CLIPTokenizer {
    const optional = (name: string) => (existsSync(join(folder, name)) ? readJson(join(folder, name)) : {});
    const config = optional('tokenizer_config.json');
    // files older than `added_tokens_decoder` keep the true padding token here (SD 2.x pads with "!")
    const specials = 'added_tokens_decoder' in config ? {} : optional('special_tokens_map.json');
    const tokenizer = existsSync(join(folder, 'tokenizer.json'))
      ? readJson(join(folder, 'tokenizer.json'))
      : fromVocabulary(readJson(join(folder, 'vocab.json')), readMerges(join(folder, 'merges.txt')));
    return new CLIPTokenizer(tokenizer, { ...config, ...specials }, folder);
  }

  /** Writes `tokenizer.json`, `tokenizer_config.json`, and for transformers 4 `vocab.json` and `merges.txt`. */
  save(folder: string): void {
    const { tokenizer, config } = this.#files;
    const { vocab = {}, merges = [] } = (tokenizer as { model?: Vocabulary }).model ?? {};
    const lines = merges.map((merge) => (typeof merge === 'string' ? merge : merge.join(' ')));
    writeJson(join(folder, 'tokenizer.json'), tokenizer);
    writeJson(join(folder, 'tokenizer_config.json'), { tokenizer_class: 'CLIPTokenizer', ...config });
    writeJson(join(folder, 'vocab.json'), vocab);
    writeText(join(folder, 'merges.txt'), ['#version: 0.2', ...lines, ''].join('\n'));
  }

  /** Prompts longer than the model are cut, with the end token kept last. An empty prompt is start and end. */
  encode(prompts: readonly string[]): TokenizedPrompts {
    const encoded = prompts.map((prompt) => this.#encodeOne(prompt));
    return { ids: encoded.map(({ ids }) => ids), words: encoded.map(({ words }) => words) };
  }

  /** Pieces of the model's length that a prompt takes, each with a start and an end of its own. */
  chunks(prompt: string): number {
    return Math.max(1, Math.ceil((this.count(prompt) - 2) / (this.maxLength - 2)));
  }

  /**
   * Prompts in pieces, whatever word a border falls into, as compel (`SplitLongTextMode.BRUTAL`) and diffusers' community
   * pipelines cut them. Those that take fewer are followed by empty pieces.
   * @returns B x count lists of token ids, the pieces of a prompt behind each other
   */
  encodeChunks(prompts: readonly string[], count: number): number[][] {
    const room = this.maxLength - 2;
    return prompts.flatMap((prompt) => {
      const all = wordsOf(prompt).flatMap((word) => this.#wordIds(word));
      return Array.from({ length: count }, (_, piece) => {
        const ids = [this.startId, ...all.slice(piece * room, (piece + 1) * room), this.endId];
        while (ids.length < this.maxLength) ids.push(this.padId);
        return ids;
      });
    });
  }

  /** Tokens a prompt takes before truncation, start and end included. */
  count(prompt: string): number {
    return 2 + wordsOf(prompt).reduce((sum, word) => sum + this.#wordIds(word).length, 0);
  }

  /** The words of a prompt that `encode` cuts off, in whole or in part; empty for most. */
  cut(prompt: string): string {
    let room = this.maxLength - 2;
    const words = wordsOf(prompt);
    const first = words.findIndex((word) => {
      room -= this.#wordIds(word).length;
      return room < 0;
    });
    return first < 0 ? '' : words.slice(first).join(' ');
  }

  #encodeOne(prompt: string): { ids: number[]; words: WordSpan[] } {
    const room = this.maxLength - 1; // the end token keeps the last place
    const ids = [this.startId];
    const words: WordSpan[] = [];
    for (const word of wordsOf(prompt)) {
      const start = ids.length;
      ids.push(...this.#wordIds(word).slice(0, room - start));
      words.push({ word, start, end: ids.length });
    }
    ids.push(this.endId);
    while (ids.length < this.maxLength) ids.push(this.padId);
    return { ids, words };
  }

  /** No token reaches across white space, so words are tokenized one by one, each only once. */
  #wordIds(word: string): readonly number[] {
    const known = this.#known.get(word);
    if (known) return known;
    // Rust lowers letters one by one, without the final sigma. The space keeps a word that only becomes a special token
    // when lowered from passing for one.
    const text = `${word.replaceAll('Σ', 'σ')} `;
    const { ids } = readable(this.#where, () => this.#tokenizer.encode(text, { add_special_tokens: false }));
    if (!ids.every((id: number) => Number.isSafeInteger(id) && id >= 0 && id <= this.highestId)) {
      throw new UserError(
        `${this.#where}: the word ${shown(word)} becomes the ids ${shown(ids)} — they are not all in the vocabulary, and neither is the token for unknown ones. Use the tokenizer files that belong together.`,
      );
    }
    if (this.#known.size >= 100_000) this.#known.clear();
    this.#known.set(word, ids);
    return ids;
  }

  #special(where: string, token: unknown): number {
    const text =
      typeof token === 'object' && token !== null ? (token as { content?: unknown }).content : token;
    const id = typeof text === 'string' ? this.#tokenizer.token_to_id(text) : undefined;
    if (Number.isSafeInteger(id) && (id as number) >= 0 && (id as number) <= this.highestId)
      return id as number;
    throw new UserError(
      `${where}: special token ${shown(text)} — is not in the vocabulary. ` +
        'Use the tokenizer files that belong together.',
    );
  }
}

/** The tokenizer library throws whatever comes when its files are broken. */
function readable<Result>(where: string, run: () => Result): Result {
  try {
    return run();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new UserError(
      `${where}: cannot tokenize (${reason.replaceAll('undefined', 'nothing').slice(0, 200)}) — the files are damaged, or not those of a CLIP tokenizer. Restore them.`,
      { cause: error },
    );
  }
}

/** @returns the highest id. @throws UserError when the vocabulary, its merges or a pattern are not such */
function checkVocabulary(where: string, tokenizer: object): number {
  const refuse = (what: string) =>
    new UserError(`${where}: ${what}. Use the files of a CLIP tokenizer, or restore them.`);
  const { model, added_tokens: added = [] } = tokenizer as { model?: Vocabulary; added_tokens?: unknown };
  const { vocab, merges } = (model ?? {}) as { vocab?: unknown; merges?: unknown };
  const isId = (id: unknown): id is number =>
    Number.isInteger(id) && (id as number) >= 0 && (id as number) < 2 ** 31;
  if (vocab === null || typeof vocab !== 'object' || Array.isArray(vocab))
    throw refuse(`the vocabulary is ${shown(vocab)} — must be an object of tokens and ids`);
  let highest = -1;
  for (const [token, id] of Object.entries(vocab)) {
    if (!isId(id)) throw refuse(`the id of token ${shown(token)} is ${shown(id)} — must be a whole number`);
    highest = Math.max(highest, id);
  }
  const isText = (part: unknown) => typeof part === 'string';
  const isMerge = (merge: unknown) =>
    isText(merge) || (Array.isArray(merge) && merge.length === 2 && merge.every(isText));
  if (!Array.isArray(merges) || !merges.every(isMerge)) {
    const wrong = Array.isArray(merges) ? merges.find((merge) => !isMerge(merge)) : merges;
    throw refuse(`merges hold ${shown(wrong)} — must be a list of pairs of tokens`);
  }
  if (!Array.isArray(added)) throw refuse(`added_tokens is ${shown(added)} — must be a list`);
  for (const token of added as unknown[]) {
    const { id, content } = (token ?? {}) as { id?: unknown; content?: unknown };
    if (!isId(id) || !isText(content))
      throw refuse(`the added token ${shown(token)} — must have content (text) and an id (a whole number)`);
    highest = Math.max(highest, id);
  }
  const pattern = patternsOf(tokenizer).find((text) => text.length > 500 || /\)[*+{]/.test(text));
  if (pattern !== undefined)
    throw refuse(
      `the pattern ${shown(pattern)} repeats a group, or is very long — matching it may take for ever`,
    );
  return highest;
}

/** The regular expressions of a `tokenizer.json`, outside of the vocabulary. */
function patternsOf(value: unknown): string[] {
  if (value === null || typeof value !== 'object') return [];
  return Object.entries(value).flatMap(([key, child]) =>
    key === 'Regex' && typeof child === 'string' ? [child] : key === 'model' ? [] : patternsOf(child),
  );
}

function wordsOf(prompt: string): string[] {
  return prompt.split(/\p{White_Space}+/u).filter((word) => word !== '');
}

/** White space as Rust's expressions have it: JavaScript's `\s` counts U+FEFF and leaves out U+0085. */
function withUnicodeSpace(tokenizer: object): object {
  const unicode = (part: unknown): unknown =>
    part && JSON.parse(JSON.stringify(part).replaceAll('\\\\s', '\\\\p{White_Space}'));
  const { normalizer, pre_tokenizer } = tokenizer as { normalizer?: unknown; pre_tokenizer?: unknown };
  return { ...tokenizer, normalizer: unicode(normalizer), pre_tokenizer: unicode(pre_tokenizer) };
}

function readMerges(path: string): string[] {
  if (!existsSync(path)) {
    throw new UserError(
      `${path}: is missing — a tokenizer folder has tokenizer.json, or vocab.json and merges.txt.`,
    );
  }
  const lines = readFileSync(path, 'utf8').split('\n');
  return lines.filter((line) => line !== '' && !line.startsWith('#version'));
}

/** `tokenizer.json` of CLIP for a vocabulary and its merges. */
export function fromVocabulary(vocabulary: { [token: string]: unknown }, merges: readonly string[]): object {
  const special = (content: string) => ({
    id: vocabulary[content],
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  });
  const pattern =
    "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+";
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [special(START), special(END)],
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
        { type: 'Split', pattern: { Regex: pattern }, behavior: 'Removed', invert: true },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      ],
    },
    post_processor: {
      type: 'RobertaProcessing',
      sep: [END, vocabulary[END]],
      cls: [START, vocabulary[START]],
      trim_offsets: false,
      add_prefix_space: false,
    },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: END,
      continuing_subword_prefix: '',
      end_of_word_suffix: '</w>',
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: vocabulary,
      merges,
    },
  };
}
