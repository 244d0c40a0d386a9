/** Pictures with classes in memory: read from folders or tar shards, made, split. */

import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Tensor, tensor } from '@rldf/torch';
import { InternalError, UserError } from '@rldf/torch/errors';
import { readPicture, resizePicture } from '../pictures/image-source.js';
import { untar } from './tar.js';

export interface LabelledSet {
  /** Names; a label counts in them. */
  classes: readonly string[];
  /** Class of each picture. */
  labels: readonly number[];
  /** Height and width, pixels. */
  size: number;
  /** RGB, one picture after the other: `labels.length * size * size * 3` bytes. */
  pixels: Uint8Array;
}

export interface ReadOptions {
  /** Pictures are fitted to this edge, pixels. */
  size: number;
  /** The classes that must be there; default: those that are there. */
  classes?: readonly string[];
  /** Whether there may be others, which are not read. */
  others?: boolean;
  /** The first so many of each class, by name. Default: all. */
  perClass?: number;
  /** Whether the picture at this place of its class is read. Default: each. */
  wanted?: (place: number) => boolean;
}

const pictureName = /\.(png|jpe?g|webp)$/i;

/** The classes of a data set: its folders and tars without their ending, sorted. @throws UserError when there are none */
export function classesIn(folder: string): string[] {
  const names = existsSync(folder)
    ? readdirSync(folder).filter(
        (name) =>
          !name.startsWith('.') && (name.endsWith('.tar') || statSync(join(folder, name)).isDirectory()),
      )
    : [];
  if (names.length === 0)
    throw new UserError(
      `${folder}: no classes in it — a data set has one folder, or one tar, a class, with pictures inside`,
    );
  return [...new Set(names.map((name) => name.replace(/\.tar$/, '')))].sort();
}

/**
 * Reads a data set of folders or WebDataset shards, one a class.
 * @throws UserError for other classes than asked for, a class with too few pictures, a damaged tar or picture
 */
export async function readSet(folder: string, options: ReadOptions): Promise<LabelledSet> {
  const { size, perClass, others = false, wanted = () => true } = options;
  const found = classesIn(folder);
  const classes = options.classes ?? found;
  requireClasses(folder, found, classes, others);
  const labels: number[] = [];
  const pictures: Uint8Array[] = [];
  for (const [label, name] of classes.entries()) {
    const files = filesOf(folder, name).filter((_, place) => wanted(place));
    if (files.length < (perClass ?? 1))
      throw new UserError(
        `${join(folder, name)}: ${files.length} pictures — each class needs ${perClass ?? 1}. Draw or add more, or ask for fewer with --pictures`,
      );
    for (const { where, bytes } of files.slice(0, perClass)) {
      const picture = await resizePicture(await readPicture(bytes(), where), size, size);
      labels.push(label);
      pictures.push(picture.data);
    }
  }
  return { classes, labels, size, pixels: joined(pictures) };
}

/** How many pictures each class has, without reading them. */
export function countsIn(folder: string, classes: readonly string[]): number[] {
  return classes.map((name) => filesOf(folder, name).length);
}

function requireClasses(
  folder: string,
  found: readonly string[],
  asked: readonly string[],
  others: boolean,
): void {
  const missing = asked.filter((name) => !found.includes(name));
  const extra = others ? [] : found.filter((name) => !asked.includes(name));
  if (missing.length === 0 && extra.length === 0) return;
  const list = (names: readonly string[]) =>
    `${names.slice(0, 5).join(', ')}${names.length > 5 ? `, ... (${names.length})` : ''}`;
  const parts = [
    ...(missing.length > 0 ? [`lacks ${list(missing)}`] : []),
    ...(extra.length > 0 ? [`has besides ${list(extra)}`] : []),
  ];
  throw new UserError(
    `${folder}: its classes are not the clone's: it ${parts.join(' and ')} — copy, real set and shifts need equal classes, by the names of their folders. Remove or add folders`,
  );
}

function filesOf(folder: string, name: string): { where: string; bytes: () => Uint8Array }[] {
  const at = join(folder, name);
  if (existsSync(at) && statSync(at).isDirectory())
    return readdirSync(at)
      .filter((file) => pictureName.test(file))
      .sort()
      .map((file) => ({ where: join(at, file), bytes: () => readFileSync(join(at, file)) }));
  const shard = `${at}.tar`;
  return untar(readFileSync(shard), shard)
    .filter((entry) => pictureName.test(entry.name))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((entry) => ({ where: `${shard}: ${entry.name}`, bytes: () => entry.data }));
}

/** @param pictures RGB bytes of one size, each [size, size, 3] */
export function setOf(
  classes: readonly string[],
  labels: readonly number[],
  pictures: readonly Uint8Array[],
): LabelledSet {
  const size = Math.sqrt(pictures[0]!.length / 3);
  return { classes, labels, size, pixels: joined(pictures) };
}

function joined(pictures: readonly Uint8Array[]): Uint8Array {
  const [first] = pictures;
  if (first === undefined) throw new InternalError('labelled set: no pictures');
  const pixels = new Uint8Array(pictures.length * first.length);
  for (const [i, picture] of pictures.entries()) pixels.set(picture, i * first.length);
  return pixels;
}

/** The pictures whose place within their class is accepted, and the others. */
export function splitSet(set: LabelledSet, accept: (place: number) => boolean): [LabelledSet, LabelledSet] {
  const places = new Map<number, number>();
  const accepted = set.labels.map((label) => {
    const place = places.get(label) ?? 0;
    places.set(label, place + 1);
    return accept(place);
  });
  const rows = (want: boolean) => accepted.flatMap((is, row) => (is === want ? [row] : []));
  return [select(set, rows(true)), select(set, rows(false))];
}

export function select(set: LabelledSet, rows: readonly number[]): LabelledSet {
  const bytes = set.size * set.size * 3;
  const pixels = new Uint8Array(rows.length * bytes);
  for (const [i, row] of rows.entries())
    pixels.set(set.pixels.subarray(row * bytes, (row + 1) * bytes), i * bytes);
  return { ...set, labels: rows.map((row) => set.labels[row]!), pixels };
}

/** Names the set by everything in it: what was computed from it holds as long as this stays. */
export function hashOf({ classes, labels, size, pixels }: LabelledSet): string {
  return createHash('sha256')
    .update(JSON.stringify([classes, labels, size]))
    .update(pixels)
    .digest('hex')
    .slice(0, 24);
}

/** Pictures `start` to `start + count`, uint8 [count, size, size, 3]. */
export function imagesOf({ size, pixels }: LabelledSet, start: number, count: number): Tensor {
  const bytes = size * size * 3;
  return tensor(pixels.slice(start * bytes, (start + count) * bytes), { shape: [count, size, size, 3] });
}
