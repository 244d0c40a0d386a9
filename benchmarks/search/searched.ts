// One input searched for by the command line, and everything that is drawn of what it found, read by the judges.
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  diverseRequests,
  Encoding,
  PictureMemory,
  type PictureRequest,
  plainRequests,
  slide,
} from '@rldf/search';
import type { Grammar, ImageSource, Recogniser, SearchReport } from 'rldf';
import { encodePng, readTextIfThere, replaceFile } from 'rldf/run';
import type { Input } from './inputs.js';
import type { openReader, Reading } from './reader.js';

/** Final pictures of a search (the command's default), and pictures of each kind in the test of balance. */
const PICTURES = 8;
const BALANCE = 16;
const command = fileURLToPath(import.meta.resolve('rldf/command'));

export interface Tools {
  grammar: Grammar;
  /** The object axis alone: its sentence is silent about scene and look, and its controls say both. */
  objects: Grammar;
  source: ImageSource;
  /** Options with which the command line draws as the source does. */
  drawing: readonly string[];
  recogniser: Recogniser;
  read: Awaited<ReturnType<typeof openReader>>;
}

/** A search whose input was recognised. */
export interface Found {
  report: SearchReport;
  /** Of the whole command: loading, search, report, final pictures. */
  seconds: number;
  input: Reading;
  /** Of the found state: controls drawn, and other seeds only. */
  controlled: Reading[];
  reseeded: Reading[];
  /** Of each axis: the readings of its values, in the order of `values`. */
  slides: { axis: string; values: string[]; readings: Reading[] }[];
  /** Of the found noun alone, with scene and look drawn and without a word about them. */
  balance: { controlled: Reading[]; silent: Reading[] };
}

export type Searched = { seed: number } & ({ refused: string } | Found);

/** @param wholeNoun also slide along all nouns */
export async function searched(
  input: Input,
  seed: number,
  folder: string,
  tools: Tools,
  wholeNoun: boolean,
): Promise<Searched> {
  const { grammar, objects, source, drawing, recogniser, read } = tools;
  const file = join(folder, 'readings.json');
  const identity = JSON.stringify([input.caption, input.art, seed, source.name, recogniser.name]);
  const known = JSON.parse(readTextIfThere(file) ?? '{}') as { identity?: string; result: Searched };
  if (known.identity === identity) return known.result;
  rmSync(folder, { recursive: true, force: true }); // a search that was cut off begins anew, so that its time is one search's
  mkdirSync(folder, { recursive: true });
  const keep = (result: Searched): Searched => {
    replaceFile(file, `${JSON.stringify({ identity, result })}\n`);
    return result;
  };

  const image = join(folder, 'input.png');
  writeFileSync(image, await encodePng(input.picture));
  const words = ['search', '--image', image, '--seed', `${seed}`, '--json', '--output', folder, ...drawing];
  const began = performance.now();
  const { status, stderr } = spawnSync(process.execPath, [...process.execArgv, command, ...words], {
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  const seconds = (performance.now() - began) / 1000;
  if (status === 2 && stderr.includes('below --min-confidence'))
    return keep({ seed, refused: stderr.trim().split('\n').at(-1)! });
  if (status !== 0) throw new Error(`${words.join(' ')}: ${stderr}`);
  const report = JSON.parse(readTextIfThere(join(folder, 'search.json'))!) as SearchReport;

  const memory = new PictureMemory(join(folder, 'memory'), source, recogniser);
  const readings = async (requests: readonly PictureRequest[]) => {
    for (let start = 0; start < requests.length; start += source.batchSize)
      await memory.draw(requests.slice(start, start + source.batchSize));
    return read(await Promise.all(requests.map((request) => memory.picture(request))));
  };
  const encoding = new Encoding(grammar);
  const { meanings, sentence } = report.found;
  const state = encoding.encode(meanings);
  const slides: Found['slides'] = [];
  for (const { name } of encoding.choices) {
    if (name === 'P' || (name === 'Noun' && !wholeNoun)) continue; // openings change no picture's meaning
    const { values, pictures } = await slide(encoding, state, name, seed, memory);
    slides.push({ axis: name, values, readings: await read(pictures) });
  }
  const nouns = new Encoding(objects);
  const noun = { Noun: meanings.Noun! };
  const silent = nouns.sentenceOf(noun, { Scene: 1 });
  return keep({
    seed,
    report,
    seconds,
    input: (await read([input.picture]))[0]!,
    controlled: await readings(diverseRequests(encoding, state, PICTURES, seed).requests),
    reseeded: await readings(plainRequests(sentence, PICTURES, seed)),
    slides,
    balance: {
      controlled: await readings(diverseRequests(nouns, nouns.encode(noun), BALANCE, seed).requests),
      silent: await readings(plainRequests(silent, BALANCE, seed)),
    },
  });
}
