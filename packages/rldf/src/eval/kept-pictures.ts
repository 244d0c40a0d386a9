import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileOperation } from '@rldf/common/base/files';
import type { Picture } from '@rldf/common/base/picture';

/** Pictures of the first model until those of the second are there: on disk, for there may be thousands. */
export class KeptPictures {
  #folder: string | undefined;
  readonly #sizes: [width: number, height: number][] = [];

  /** @returns what to ask for it by */
  put({ width, height, data }: Picture): number {
    this.#folder ??= mkdtempSync(join(tmpdir(), 'rldf-pairs-'));
    const number = this.#sizes.push([width, height]) - 1;
    const file = join(this.#folder, String(number));
    fileOperation('write', file, () => writeFileSync(file, data)); // scratch: nothing reads it behind a crash
    return number;
  }

  get(number: number): Picture {
    const [width, height] = this.#sizes[number]!;
    return { width, height, channels: 3, data: readFileSync(join(this.#folder!, String(number))) };
  }

  remove(): void {
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
  }
}
