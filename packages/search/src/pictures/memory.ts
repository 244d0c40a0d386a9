/** What was drawn and recognised, on disk: no state is paid for twice, in this search or in any other with the same folder. */

import { createHash } from 'node:crypto';
import { closeSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { append, makeFolder, openForAppend, readTextIfThere, replaceFile } from '@rldf/common/base/files';
import type { Picture } from '@rldf/common/base/picture';
import { version } from '@rldf/common/base/version';
import { encodePng, settingsTexts } from '@rldf/common/drawing/png';
import type { Observation } from '../world/rewards.js';
import { type ImageSource, type PictureRequest, readPicture } from './image-source.js';
import type { Recogniser } from './recogniser.js';

export interface MemoryCost {
  /** Pictures drawn by this process. */
  drawn: number;
  /** Pictures that were on disk already. */
  remembered: number;
  /** Seconds spent waiting for the image source, and for the recogniser. */
  drawingSeconds: number;
  recognisingSeconds: number;
}

/**
 * `pictures/KEY.png`, one a (source, sentence, seed), and `observations.jsonl`, one line a (picture, recogniser). Files are
 * whole or not there; a last line that was cut off is read as not there.
 */
export class PictureMemory {
  readonly cost: MemoryCost = { drawn: 0, remembered: 0, drawingSeconds: 0, recognisingSeconds: 0 };
  readonly #observations = new Map<string, Observation>();
  readonly #counted = new Set<string>();
  /** Whether the journal ends within a line. */
  #cut: boolean;

  constructor(
    readonly folder: string,
    readonly source: ImageSource,
    readonly recogniser: Recogniser,
  ) {
    makeFolder(join(folder, 'pictures'));
    const text = readTextIfThere(this.#journal) ?? '';
    this.#cut = !/(^|\n)$/.test(text);
    for (const line of text.split('\n')) {
      try {
        const { key, ...observation } = JSON.parse(line) as Observation & { key: string };
        this.#observations.set(key, observation);
      } catch {
        // the last line of a process that was killed
      }
    }
  }

  get #journal(): string {
    return join(this.folder, 'observations.jsonl');
  }

  /** Whether it was drawn and recognised before. */
  knows(request: PictureRequest): boolean {
    return this.#observations.has(this.#observed(request));
  }

  file(request: PictureRequest): string {
    return join(this.folder, 'pictures', `${this.#key(request)}.png`);
  }

  async picture(request: PictureRequest, signal?: AbortSignal): Promise<Picture> {
    await this.draw([request], signal);
    const file = this.file(request);
    return readPicture(readFileSync(file), file);
  }

  /** Observations of pictures, in order; draws and recognises what is not known. @throws UserError when the source fails */
  async observe(requests: readonly PictureRequest[], signal?: AbortSignal): Promise<Observation[]> {
    const missing = requests.filter((request) => !this.knows(request));
    for (const request of requests) if (this.knows(request)) this.#count(request, 'remembered');
    if (missing.length > 0) {
      await this.draw(missing, signal);
      const pictures = await Promise.all(missing.map((request) => this.picture(request)));
      const start = performance.now();
      const found = await this.recogniser.recognise(pictures);
      this.cost.recognisingSeconds += (performance.now() - start) / 1000;
      const lines = found.map((observation, i) => {
        const key = this.#observed(missing[i]!);
        this.#observations.set(key, observation);
        return `${JSON.stringify({ key, ...observation })}\n`;
      });
      const journal = openForAppend(this.#journal);
      try {
        append(journal, this.#journal, `${this.#cut ? '\n' : ''}${lines.join('')}`);
        this.#cut = false;
      } finally {
        closeSync(journal);
      }
    }
    return requests.map((request) => this.#observations.get(this.#observed(request))!);
  }

  /** Draws those that have no file yet, without looking at them; each is on disk before the next is waited for. */
  async draw(requests: readonly PictureRequest[], signal?: AbortSignal): Promise<void> {
    const missing = requests.filter((request) => !existsSync(this.file(request)));
    for (const request of requests) if (!missing.includes(request)) this.#count(request, 'remembered');
    if (missing.length === 0) return;
    const start = performance.now();
    try {
      await this.source.draw(
        missing,
        async (index, picture) => {
          const request = missing[index]!;
          const texts = settingsTexts({ ...request, source: this.source.name, software: `rldf ${version}` });
          replaceFile(this.file(request), await encodePng(picture, texts));
          this.#count(request, 'drawn');
        },
        signal,
      );
    } finally {
      this.cost.drawingSeconds += (performance.now() - start) / 1000;
    }
  }

  /** Each picture counts once. */
  #count(request: PictureRequest, as: 'drawn' | 'remembered'): void {
    const key = this.#key(request);
    if (this.#counted.has(key)) return;
    this.#counted.add(key);
    this.cost[as]++;
  }

  #key({ sentence, seed }: PictureRequest): string {
    return createHash('sha256')
      .update(JSON.stringify([this.source.name, sentence, seed]))
      .digest('hex')
      .slice(0, 24);
  }

  #observed(request: PictureRequest): string {
    return `${this.#key(request)} ${this.recogniser.name}`;
  }
}
