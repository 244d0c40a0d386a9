/** Text in pictures against the text that the prompt quotes. */

import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { type Picture, picturesOf } from '@rldf/common/base/picture';
import { encodePng } from '@rldf/common/drawing/png';
import { UserError } from '@rldf/torch/errors';
import { loadPeer, peerPath } from '../base/peers.js';
import type { TextRewardField } from '../config/detector-fields.js';
import type { Reward } from './reward.js';

/** Reads what stands in a picture. */
export interface TextReader {
  readonly licence?: string;
  ready(): Promise<void>;
  read(pictures: readonly Picture[]): Promise<string[]>;
}

/** The text that a prompt quotes, in whichever marks; several are read one after the other. @throws UserError without any */
export function quotedText(prompt: string): string {
  const quotes =
    /"([^"]+)"|“([^”]+)”|„([^“”]+)[“”]|«([^»]+)»|(?<!\p{L})[‘']([^’']+(?:['’]\p{L}+[^’']*)*)[’'](?!\p{L})/gu;
  const found = [...prompt.matchAll(quotes)].map((match) => match.slice(1).find((one) => one !== undefined)!);
  if (found.length > 0) return found.join(' ');
  throw new UserError(
    `reward text: the prompt '${prompt}' quotes no text — it scores prompts such as 'a sign that says "open"'. Choose other prompts`,
  );
}

/** What counts of a text: letters and digits of any script, in lower case, words apart by one space. */
export const plainText = (text: string): string =>
  text
    .normalize('NFKC')
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, ' ')
    .trim();

/** Least number of letters to insert, delete or exchange (Levenshtein 1966). */
export function editDistance(a: string, b: string): number {
  const [first, second] = [[...a], [...b]];
  let row = second.map((_, j) => j + 1);
  let corner = 0;
  for (const [i, letter] of first.entries()) {
    let left = i + 1;
    let diagonal = corner;
    corner = i + 1;
    row = row.map((up, j) => {
      const value = Math.min(left + 1, up + 1, diagonal + Number(letter !== second[j]));
      diagonal = up;
      left = value;
      return value;
    });
  }
  return row.at(-1) ?? first.length;
}

/** 1 - distance / length of the longer one, of plain texts: 1 where the picture says exactly what is quoted, 0 for nothing. */
export function textScore(quoted: string, read: string): number {
  const [asked, found] = [plainText(quoted), plainText(read)];
  const longest = Math.max([...asked].length, [...found].length);
  return longest === 0 ? 1 : 1 - editDistance(asked, found) / longest;
}

export function textReward(reader: TextReader): Reward {
  return {
    name: 'text',
    unit: '',
    ...(reader.licence !== undefined && { licence: reader.licence }),
    ready: () => reader.ready(),
    async score({ images, prompts }) {
      const quoted = prompts.map(quotedText);
      const texts = await reader.read(picturesOf(images));
      return quoted.map((one, i) => textScore(one, texts[i]!));
    },
  };
}

interface Tesseract {
  createWorker(language: string, engine: number, options: object): Promise<Worker>;
}

interface Worker {
  setParameters(parameters: Record<string, string>): Promise<unknown>;
  recognize(file: Buffer): Promise<{ data: { text: string } }>;
  terminate(): Promise<unknown>;
}

/** The package tesseract.js with language data from packages or a folder: nothing is downloaded. */
export function tesseractReader({ language, data }: TextRewardField): TextReader {
  let loading: Promise<Worker> | undefined;
  const worker = () => {
    loading ??= load(language, data);
    return loading;
  };
  return {
    licence: 'Apache-2.0',
    async ready() {
      await worker();
    },
    async read(pictures) {
      const reader = await worker();
      const texts: string[] = [];
      for (const picture of pictures) {
        try {
          texts.push((await reader.recognize(await encodePng(picture))).data.text);
        } catch (error) {
          throw new UserError(
            `reward text: tesseract.js cannot read a picture of ${picture.width} x ${picture.height} pixels (${firstLine(error)}) — draw larger ones`,
            { cause: error },
          );
        }
      }
      return texts;
    },
  };
}

async function load(language: string, given: string | undefined): Promise<Worker> {
  const where = 'reward text';
  const { createWorker } = await loadPeer<Tesseract>('tesseract.js', where);
  const folder = given ?? dataFolder(language, where);
  const missing = language.split('+').find((one) => !existsSync(join(folder, `${one}.traineddata.gz`)));
  if (missing !== undefined)
    throw new UserError(`${where}: there is no ${missing}.traineddata.gz in ${folder} — it holds tesseract’s language data. Give the folder as data, or \`npm install @tesseract.js-data/${missing}\``); // biome-ignore format: one thought
  for (const one of language.split('+')) checkData(join(folder, `${one}.traineddata.gz`), where);
  let refuse: (reason: unknown) => void = () => {};
  const refused = new Promise<never>((_, reject) => {
    refuse = reject;
  });
  refused.catch(() => {}); // after the start, whoever asked is told
  const options = {
    langPath: folder,
    gzip: true,
    cacheMethod: 'none',
    cachePath: mkdtempSync(join(tmpdir(), 'rldf-ocr-')),
    errorHandler: refuse, // without one it would throw where nobody catches
  };
  let worker: Worker;
  try {
    worker = await Promise.race([createWorker(language, 1, options), refused]);
  } catch (error) {
    throw new UserError(
      `${where}: tesseract.js does not start (${firstLine(error)}) — it reads its language data from ${folder}. Install them again: \`npm install tesseract.js @tesseract.js-data/${language.split('+')[0]}\``,
      { cause: error },
    );
  }
  await worker.setParameters({ user_defined_dpi: '300' }); // pictures have none, and it would warn of each
  return worker;
}

/** Whether a file is whole: with one that is not, tesseract.js would end the process or wait for ever. */
function checkData(file: string, where: string): void {
  const damaged = (what: string, cause?: unknown) =>
    new UserError(
      `${where}: ${file} is damaged (${what}) — it is tesseract’s language data. Install it again, or copy the file again`,
      { cause },
    );
  let data: Buffer;
  try {
    data = gunzipSync(readFileSync(file));
  } catch (error) {
    throw damaged(firstLine(error), error);
  }
  const parts = data.length < 4 ? 0 : data.readInt32LE(0); // then the place of each
  if (parts < 1 || parts > 64 || data.length < 4 + 8 * parts) throw damaged('it begins otherwise');
  for (let part = 0; part < parts; part++)
    if (data.readBigInt64LE(4 + 8 * part) >= data.length) throw damaged('it ends too early');
}

const firstLine = (error: unknown) =>
  (error instanceof Error ? error.message : String(error)).split('\n')[0] ?? '';

/** Of a package for one language. */
function dataFolder(language: string, where: string): string {
  const name = `@tesseract.js-data/${language}`;
  if (language.includes('+'))
    throw new UserError(
      `${where}: language ${language} — for several languages give the folder of their data as data`,
    );
  const file = fileURLToPath(peerPath(name, where, `${name}/package.json`));
  const folders = ['4.0.0_best_int', '4.0.0', '.'].map((folder) => join(dirname(file), folder));
  return folders.find((folder) => existsSync(join(folder, `${language}.traineddata.gz`))) ?? dirname(file);
}
