// What the groups of the cross-check share: rows, planted faults, our command line, files for the other side.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { InternalError, type StateDict, writeSafetensors } from '@rldf/torch';
import { runCommandLine } from 'rldf/cli';
import sharp from 'sharp';
import type { Answer, Peer } from '../shared/peer.js';

/** One line of the table. A `same` check passes at or below its limit; a `changes` check passes at or above it. */
export interface Check {
  check: string;
  rule: 'same' | 'changes';
  difference: number;
  limit: number;
  unit: string;
  pass: boolean;
  /** What differs, where that helps. */
  note?: string;
}

/** Faults that `--plant` puts in, each of which must make its check fail. */
export const plants = {
  alpha: 'the kohya file’s alphas are doubled before diffusers reads it',
  layer: 'the U-Net adapter loses one layer before diffusers reads it',
  negative: 'diffusers draws with another negative prompt',
  token: 'one token of one prompt is another one',
  score: 'a score of ImageReward is off by a thousandth',
  event: 'the end of the TensorBoard file is cut off',
} as const;
export type Plant = keyof typeof plants;

export interface Context {
  peer: Peer;
  /** Of the environment with diffusers, transformers and peft. */
  python: string;
  /** Of the environment with open_clip, where `--python` gives one. */
  scorersPython: string | undefined;
  /** Scratch folder; gone afterwards. */
  folder: string;
  /** Folder of the shipped model. */
  model: string;
  planted: ReadonlySet<Plant>;
  say: (text: string) => void;
  /** Of group training, which; all by default. */
  cases: readonly string[] | undefined;
}

export function same(check: string, difference: number, limit: number, unit: string, note?: string): Check {
  const pass = difference <= limit; // false for NaN
  return { check, rule: 'same', difference, limit, unit, pass, ...(note === undefined ? {} : { note }) };
}

export function changes(check: string, difference: number, limit: number, unit: string): Check {
  return { check, rule: 'changes', difference, limit, unit, pass: difference >= limit };
}

/** Asks the other side. @throws InternalError with its error */
export async function ask({ peer }: Context, question: Record<string, unknown>): Promise<Answer> {
  const answer = await peer.ask(question);
  if (answer.error === undefined) return answer;
  throw new InternalError(`crosscheck: ${question.ask}: ${answer.error}`);
}

/** Runs one of our commands, as a user types it. Returns what it printed; shows its messages only when it fails. */
export async function rldf(...words: string[]): Promise<string> {
  const streams = [process.stdout, process.stderr] as const;
  const writes = streams.map((stream) => stream.write);
  const printed = ['', ''];
  streams.forEach((stream, i) => {
    stream.write = (text: string | Uint8Array) => {
      printed[i] += String(text);
      return true;
    };
  });
  const code = await runCommandLine(words).finally(() =>
    streams.forEach((stream, i) => {
      stream.write = writes[i]!;
    }),
  );
  if (code === 0) return printed[0]!;
  throw new InternalError(`crosscheck: rldf ${words.join(' ')}: exit code ${code}: ${printed[1]}`);
}

export function writeTensors(context: Context, name: string, tensors: StateDict): string {
  const path = join(context.folder, name);
  writeSafetensors(path, tensors);
  return path;
}

/** The pixels of a folder's numbered pictures, in order. */
export async function readPictures(folder: string): Promise<Uint8Array> {
  const files = readdirSync(folder).filter((name) => /^\d+\.png$/.test(name));
  const pixels = await Promise.all(
    files.sort().map((name) => sharp(join(folder, name)).removeAlpha().raw().toBuffer()),
  );
  return Buffer.concat(pixels);
}

export function checkTable(checks: readonly Check[]): string {
  const number = (value: number) =>
    Number.isInteger(value) || !Number.isFinite(value) ? String(value) : value.toExponential(1);
  const rows = [
    ['check', 'max difference', 'limit', 'pass'],
    ...checks.map(({ check, rule, difference, limit, unit, pass, note }) => [
      check,
      `${number(difference)} ${unit}`,
      `${rule === 'same' ? '<=' : '>='} ${number(limit)}`,
      `${pass ? 'yes' : 'NO'}${note === undefined ? '' : `  ${note}`}`,
    ]),
  ];
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, column) => cell.padEnd(widths[column] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}
