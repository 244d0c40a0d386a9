/** Cloning a data set (RLDF paper, sections 3.1 and 4): one input picture a class, a search along the object axis, diverse renders. */

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder, readTextIfThere, replaceFile } from '@rldf/common/base/files';
import { noiseKey } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { type FollowOptions, follow, newSearch } from '../agents/follow.js';
import { diverseRequests } from '../pictures/final-pictures.js';
import type { PictureRequest } from '../pictures/image-source.js';
import { readPicture } from '../pictures/image-source.js';
import type { PictureMemory } from '../pictures/memory.js';
import {
  prepareWorld,
  type RewardedOptions,
  rewardedWorld,
  type WorldOptions,
} from '../pictures/prepared-world.js';
import { type TarEntry, tar } from './tar.js';

export interface CloneOptions
  extends Omit<WorldOptions, 'input' | 'where' | 'memory'>,
    Omit<RewardedOptions, 'pictureSeed'> {
  /** A folder of folders, one a class; the first picture of each, by name, is all that is looked at. */
  images: string;
  /** Pictures drawn of each class. */
  perClass: number;
  /** Where they go: folders as in the original, or one tar a class for WebDataset. */
  output: string;
  format: 'folders' | 'webdataset';
  /**
   * How often a picture in which the found object is not recognised is drawn again with another seed; the last one stays. Default: 0,
   * and nothing is recognised.
   */
  redraws?: number;
  follow: FollowOptions;
  /** This process does the classes whose number leaves `index` when divided by `count`; give each its own index. */
  shard?: { index: number; count: number };
  memory?: string;
  onProgress?: (progress: { name: string; done: number; classes: number }) => void;
}

/** One line of `CLASS.jsonl`, and `KEY.json` in a tar. */
export interface ClonedPicture {
  /** File name below the class' folder, or key in its tar. */
  file: string;
  /** The folder's name: a label, never a prompt. */
  label: string;
  sentence: string;
  seed: number;
  /** The found state, by axis. */
  state: Record<string, string>;
  /** Whether that is what was recognised in the input; else the search ended before, and this was the best so far. */
  reachedGoal: boolean;
  source: string;
  /** With `redraws`: how often it was drawn again, and whether the object is recognised in it. */
  redrawn?: number;
  recognised?: boolean;
}

export interface ClonedClass {
  label: string;
  /** Why it was left out; null if it was not. */
  failed: string | null;
  /** What the search found, and whether it is what was recognised. */
  sentence: string | null;
  reachedGoal: boolean;
  pictures: number;
  /** Done by an earlier call. */
  kept: boolean;
}

/** The classes of a data set: its folders, sorted. @throws UserError when there are none */
export function classesOf(folder: string): string[] {
  const names = existsSync(folder)
    ? readdirSync(folder).filter((name) => statSync(join(folder, name)).isDirectory())
    : [];
  if (names.length === 0)
    throw new UserError(
      `--images ${folder}: no folders in it — a data set has one folder a class, with pictures inside`,
    );
  return names.sort();
}

/**
 * Clones class by class. A class is whole or not there: calling again does those that are missing, and draws nothing twice.
 * A class whose input is not recognised is left out and told.
 * @throws UserError when the source fails; what is done stays
 */
export async function* cloneDataset(options: CloneOptions): AsyncGenerator<ClonedClass, void> {
  const { images, output, shard = { index: 0, count: 1 }, onProgress } = options;
  const classes = classesOf(images);
  const mine = classes.filter((_, i) => i % shard.count === shard.index);
  makeFolder(output);
  for (const [done, label] of mine.entries()) {
    onProgress?.({ name: label, done, classes: mine.length });
    yield await cloneClass(label, options);
  }
}

async function cloneClass(label: string, options: CloneOptions): Promise<ClonedClass> {
  const { output, perClass, pictureSeed, signal } = options;
  const journal = join(output, `${label}.jsonl`);
  const before = readTextIfThere(journal)?.trimEnd().split('\n') ?? [];
  if (before.length >= perClass && perClass > 0) {
    const { sentence, reachedGoal } = JSON.parse(before[0]!) as ClonedPicture;
    return { label, failed: null, sentence, reachedGoal, pictures: before.length, kept: true };
  }
  const nothing = { label, sentence: null, reachedGoal: false, pictures: 0, kept: false };
  const folder = join(options.images, label);
  const first = readdirSync(folder)
    .sort()
    .find((name) => /\.(png|jpe?g|webp)$/i.test(name));
  if (first === undefined) return { ...nothing, failed: `${folder}: no picture in it` };
  const where = join(folder, first);
  let prepared: Awaited<ReturnType<typeof prepareWorld>>;
  try {
    const input = await readPicture(where, where);
    const memory = options.memory ?? join(output, '.memory');
    prepared = await prepareWorld({ ...options, input, where, memory });
  } catch (error) {
    if (error instanceof UserError) return { ...nothing, failed: error.message };
    throw error;
  }
  const { encoding, memory } = prepared;
  const world = rewardedWorld(prepared, options);
  const followed = newSearch(world, options.follow);
  for await (const _ of follow(world, options.follow, followed)) signal?.throwIfAborted();
  const { trace } = followed;
  const found = trace.states[trace.best]!;
  const state = encoding.meaningsOf(encoding.stateOf(found));

  const { requests: wanted } = diverseRequests(
    encoding,
    encoding.stateOf(found),
    perClass,
    labelSeed(pictureSeed, label),
  );
  const [object] = encoding.axes.flatMap(({ role, name }) => (role === 'object' ? [state[name]!] : []));
  const drawn = await drawAll(memory, wanted, options, object);
  const source = memory.source.name;
  const lines: ClonedPicture[] = drawn.map(({ request: { sentence, seed }, ...how }, i) => ({
    file: `${String(i).padStart(5, '0')}.png`,
    label,
    sentence,
    seed,
    state,
    reachedGoal: found === world.goal,
    source,
    ...how,
  }));
  const requests = drawn.map(({ request }) => request);
  write(lines, requests, memory, options);
  replaceFile(journal, `${lines.map((line) => JSON.stringify(line)).join('\n')}\n`);
  return {
    label,
    failed: null,
    sentence: world.sentence(found),
    reachedGoal: found === world.goal,
    pictures: perClass,
    kept: false,
  };
}

/** Two classes that find one sentence still get pictures of their own. */
function labelSeed(seed: number, label: string): number {
  return noiseKey(seed, `clone ${label}`)[0]!;
}

interface Drawn {
  request: PictureRequest;
  redrawn?: number;
  recognised?: boolean;
}

/** @param object that all of them are to show */
async function drawAll(
  memory: PictureMemory,
  wanted: readonly PictureRequest[],
  { redraws = 0, signal }: Pick<CloneOptions, 'redraws' | 'signal'>,
  object: string | undefined,
): Promise<Drawn[]> {
  const size = Math.max(1, memory.source.batchSize);
  const drawn: Drawn[] = wanted.map((request) => ({ request }));
  if (redraws === 0 || object === undefined) {
    for (let start = 0; start < wanted.length; start += size)
      await memory.draw(wanted.slice(start, start + size), signal);
    return drawn;
  }
  let open = drawn;
  for (let redrawn = 0; redrawn <= redraws && open.length > 0; redrawn++) {
    for (let start = 0; start < open.length; start += size) {
      const some = open.slice(start, start + size);
      for (const one of some) if (redrawn > 0) one.request = anotherSeed(one.request);
      const seen = await memory.observe(
        some.map(({ request }) => request),
        signal,
      );
      for (const [i, one] of some.entries())
        Object.assign(one, { redrawn, recognised: seen[i]!.objects[object] !== undefined });
    }
    open = open.filter(({ recognised }) => !recognised);
  }
  return drawn;
}

const anotherSeed = ({ sentence, seed }: PictureRequest): PictureRequest => ({
  sentence,
  seed: noiseKey(seed, 'clone again')[0]!,
});

function write(
  lines: readonly ClonedPicture[],
  requests: readonly PictureRequest[],
  memory: PictureMemory,
  { output, format }: Pick<CloneOptions, 'output' | 'format'>,
): void {
  const label = lines[0]?.label ?? '';
  const bytes = (i: number) => readFileSync(memory.file(requests[i]!));
  if (format === 'webdataset') {
    const entries = lines.flatMap((line, i): TarEntry[] => {
      const key = line.file.replace(/\.png$/, '');
      return [
        { name: `${key}.png`, data: bytes(i) },
        { name: `${key}.cls`, data: Buffer.from(label) },
        { name: `${key}.json`, data: Buffer.from(JSON.stringify(line)) },
      ];
    });
    replaceFile(join(output, `${label}.tar`), tar(entries));
    return;
  }
  makeFolder(join(output, label));
  for (const [i, { file }] of lines.entries()) replaceFile(join(output, label, file), bytes(i));
}
