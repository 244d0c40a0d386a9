/** Answers of judges on disk: a line for each, so that nothing is asked twice and nothing that was paid for is lost. */

import { createHash } from 'node:crypto';
import { closeSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { append, openForAppend, readTextIfThere } from '@rldf/common/base/files';

/** Where answers lie unless a recipe says otherwise. */
export function defaultAnswersFolder(env: NodeJS.ProcessEnv = process.env): string {
  return join(env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'rldf', 'judges');
}

export class Answers {
  readonly file: string;
  readonly #known: Map<string, number>;
  /** A line without an end, before the first one of ours. */
  #cut: boolean;

  /**
   * @param of all that an answer depends on besides the pictures: endpoint, model and question
   * @param folder is made with the first answer
   */
  constructor(
    readonly folder: string,
    of: unknown,
  ) {
    this.file = join(
      folder,
      `${createHash('sha256').update(JSON.stringify(of)).digest('hex').slice(0, 16)}.jsonl`,
    );
    const text = readTextIfThere(this.file) ?? '';
    this.#known = read(text);
    this.#cut = text !== '' && !text.endsWith('\n');
  }

  get(key: string): number | undefined {
    return this.#known.get(key);
  }

  get size(): number {
    return this.#known.size;
  }

  /** Keeps an answer. @param words what was said, for people who look */
  put(key: string, score: number, words: string): void {
    this.#known.set(key, score);
    mkdirSync(this.folder, { recursive: true });
    const line = `${this.#cut ? '\n' : ''}${JSON.stringify({ key, score, words })}\n`;
    this.#cut = false;
    const descriptor = openForAppend(this.file);
    try {
      append(descriptor, this.file, line);
    } finally {
      closeSync(descriptor);
    }
  }
}

/** Lines that are whole; one that a full disk or the end of a process cut off is asked again. */
function read(text: string): Map<string, number> {
  const known = new Map<string, number>();
  for (const line of text.split('\n')) {
    try {
      const { key, score } = JSON.parse(line) as { key?: unknown; score?: unknown };
      if (typeof key === 'string' && typeof score === 'number' && Number.isFinite(score))
        known.set(key, score);
    } catch {}
  }
  return known;
}
