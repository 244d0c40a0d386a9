/** The baseline of a clone: pictures of each class by its name alone, without a search and without controls. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder, replaceFile } from '@rldf/common/base/files';
import { encodePng, settingsTexts } from '@rldf/common/drawing/png';
import { articleOf, nouns } from '@rldf/emoji-world';
import { noiseKey } from '@rldf/torch';
import type { ImageSource, PictureRequest } from '../pictures/image-source.js';

const nounsByName = new Map(nouns.map((noun) => [noun.name, noun]));

/** "a picture of a fox"; a noun of the world is said in its own words ("a pair of skis"). */
export function classPrompt(name: string): string {
  const { singular, article } = nounsByName.get(name) ?? { singular: name, article: articleOf(name) };
  return `a picture of ${article} ${singular}`;
}

export interface ClassNameOptions {
  classes: readonly string[];
  perClass: number;
  source: ImageSource;
  seed: number;
  /** `CLASS/00000.png`, ...: what is there is not drawn again. */
  folder: string;
  signal?: AbortSignal;
  onProgress?: (done: number, pictures: number) => void;
}

/** @throws UserError when the source fails; what is drawn stays */
export async function drawByClassName(options: ClassNameOptions): Promise<void> {
  const { classes, perClass, source, seed, folder, signal, onProgress } = options;
  const wanted = classes.flatMap((name) =>
    Array.from({ length: perClass }, (_, i): PictureRequest & { file: string } => ({
      sentence: classPrompt(name),
      seed: noiseKey(seed, `class-name ${name}`, i)[0]!,
      file: join(folder, name, `${String(i).padStart(5, '0')}.png`),
    })),
  );
  for (const name of classes) makeFolder(join(folder, name));
  const missing = wanted.filter(({ file }) => !existsSync(file));
  let done = wanted.length - missing.length;
  await source.draw(
    missing,
    async (index, picture) => {
      const { file, sentence, seed: pictureSeed } = missing[index]!;
      const texts = settingsTexts({ sentence, seed: pictureSeed, source: source.name });
      replaceFile(file, await encodePng(picture, texts));
      done++;
      onProgress?.(done, wanted.length);
    },
    signal,
  );
}
