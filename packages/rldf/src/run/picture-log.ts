/**
 * The pictures of a run with their numbers, for whoever looks at it: one line of `samples/pictures.jsonl` a step and kind, and the
 * first of them as `samples/step-NNNNN/KIND-NNN.png`. Nothing of the training reads them.
 */

import { closeSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { append, fileOperation, makeFolder, openForAppend } from '@rldf/common/base/files';
import { type Picture, picturesOf } from '@rldf/common/base/picture';
import { encodePng, settingsTexts } from '@rldf/common/drawing/png';
import { crew } from '@rldf/common/workers/crew';
import type { Behaviour } from '@rldf/models';
import type { Seed, Tensor } from '@rldf/torch';
import type { Scores } from '../rewards/reward.js';
import { truncateMetrics } from './metrics.js';
import type { Run } from './run.js';

export type LoggedKind = 'rollout' | 'validation';

/** Pictures of a step that are kept as files; half as many of large ones. */
const mostKept = 16;
const largePixels = 256 * 256;
/** Steps whose pictures are kept as files, spread evenly over a run. */
const mostSteps = 100;

/** A line of the log: columns, one entry a picture. */
export interface PictureLine {
  step: number;
  kind: LoggedKind;
  width: number;
  height: number;
  /** The first so many are kept as files. */
  kept: number;
  prompts: string[];
  rewards: number[];
  parts: Record<string, number[]>;
  /** There for pictures that were drawn deterministically. */
  seeds?: Seed[];
  /** Of rollouts: seed of the run, and identity of each picture's noise under it (`Behaviour.path`). */
  seed?: Seed;
  paths?: number[][];
  /** Guidance of each denoising step; one list where it is the same for all pictures. */
  guidance?: number[] | number[][];
  /** Weighted words, by the picture's place. */
  words?: Record<number, { word: number; weight: number }[]>;
  /** Of GLIGEN's kind of model: the first denoising steps, in which its gated layers were on; no boxes were told. */
  grounded?: number;
}

/** What the first worker asks of the others, who have drawn some of the pictures that are kept. */
export interface KeptCommand {
  do: 'kept';
}

/** Pictures that belong to one line. */
interface Noted {
  /** The first ones of the line, as far as they were drawn here, by their place in it. */
  pictures: Map<number, Picture>;
  prompts: string[];
  total: number[];
  parts: Record<string, number[]>;
  behaviours: Behaviour[];
}

/** What a training draws, on all workers, until its step is over. */
export class PictureLog {
  #noted: Noted | undefined;

  /**
   * Pictures were drawn for training and scored. Several batches of a step are put together.
   * @param images uint8 [B, H, W, 3], the caller's
   * @param behaviours how each was drawn, where the method knows
   * @param rows of the pictures among all, where other workers have the rest
   */
  note(
    images: Tensor,
    prompts: readonly string[],
    { total, parts }: Scores,
    behaviours: readonly Behaviour[] = [],
    rows: readonly number[] = [...prompts.keys()],
  ): void {
    this.#noted ??= { pictures: new Map(), prompts: [], total: [], parts: {}, behaviours: [] };
    const noted = this.#noted;
    for (const [i, row] of rows.entries()) {
      const place = noted.prompts.length + row;
      if (place >= mostKept && noted.pictures.size > 0) continue; // one tells the size
      const image = images.narrow(0, i, 1); // [1, H, W, 3]
      noted.pictures.set(place, picturesOf(image)[0] as Picture);
      image.free();
    }
    noted.prompts.push(...prompts);
    noted.total.push(...total);
    for (const [name, values] of Object.entries(parts))
      noted.parts[name] = [...(noted.parts[name] ?? []), ...values];
    noted.behaviours.push(...behaviours);
  }

  /** A step begins: what was noted before is over. */
  forget(): void {
    this.#noted = undefined;
  }

  /** Another worker's side of `write`, where pictures are kept: hands over its own. */
  async handOver(): Promise<void> {
    await crew().meet('kept pictures', this.#noted?.pictures);
    this.forget();
  }

  /** The step is over: writes what was noted. @param keep whether as files too */
  async write(run: Run, step: number, keep: boolean): Promise<void> {
    const noted = this.#noted;
    this.forget();
    if (noted === undefined) return;
    const { prompts, total: rewards, parts, behaviours } = noted;
    let shares = [noted.pictures];
    if (keep) {
      crew().tell({ do: 'kept' } satisfies KeptCommand);
      shares = await crew().meet('kept pictures', noted.pictures);
    }
    const pictures = shares.flatMap((share) => [...share]).sort(([a], [b]) => a - b);
    const known = behaviours.length === prompts.length ? behavioursOf(behaviours) : {};
    const line = { step, kind: 'rollout' as const, prompts, rewards, parts, ...known };
    await logPictures(
      run,
      line,
      pictures.map(([, picture]) => picture),
      keep,
    );
  }
}

/** Whether the pictures of a validated step are kept as files: all, or every so many of a long run. */
export function keepsPictures(step: number, steps: number, every: number): boolean {
  const stride = Math.max(1, Math.ceil(steps / every / mostSteps));
  return step === steps || Math.floor(step / every) % stride === 0;
}

/**
 * Writes a line and its files.
 * @param pictures the first ones of the line's, at least those that are kept
 * @returns the kept ones as PNG
 */
export async function logPictures(
  run: Run,
  line: Omit<PictureLine, 'width' | 'height' | 'kept'>,
  pictures: readonly Picture[],
  keep: boolean,
): Promise<Buffer[]> {
  const { width = 0, height = 0 } = pictures[0] ?? {};
  const kept = keep ? Math.min(pictures.length, width * height > largePixels ? mostKept / 2 : mostKept) : 0;
  if (kept > 0) makeFolder(join(pictureFile(run, line.kind, line.step, 0), '..'));
  const files: Buffer[] = [];
  for (const [index, picture] of pictures.slice(0, kept).entries()) {
    const { step, kind } = line;
    const seed = line.seeds?.[index] ?? `${line.seed}:${line.paths?.[index]?.join('.') ?? ''}`;
    const texts = settingsTexts({ prompt: line.prompts[index], seed, run: run.name, step, kind });
    const png = await encodePng(picture, texts);
    const path = pictureFile(run, kind, step, index);
    fileOperation('write', path, () => writeFileSync(path, png)); // drawn again where a kill tears it
    files.push(png);
  }
  const path = pictureLogPath(run);
  const descriptor = openForAppend(path);
  try {
    append(descriptor, path, `${JSON.stringify({ ...line, width, height, kept }, rounded)}\n`);
  } finally {
    closeSync(descriptor);
  }
  return files;
}

/** What a resumed run has not drawn yet goes. */
export function truncatePictureLog(run: Run, step: number): void {
  truncateMetrics(pictureLogPath(run), step);
}

export const pictureLogPath = (run: Run) => join(run.samplesFolder, 'pictures.jsonl');

export const pictureFile = (run: Run, kind: LoggedKind, step: number, index: number) =>
  join(
    run.samplesFolder,
    `step-${String(step).padStart(5, '0')}`,
    `${kind}-${String(index).padStart(3, '0')}.png`,
  );

function behavioursOf(
  behaviours: readonly Behaviour[],
): Pick<PictureLine, 'seed' | 'paths' | 'guidance' | 'words' | 'grounded'> {
  const [{ seed, guidance, grounding }] = behaviours as [Behaviour];
  const same = behaviours.every((one) => one.guidance.every((scale, step) => scale === guidance[step]));
  const words = behaviours.flatMap(({ wordWeights }, i) =>
    wordWeights === undefined ? [] : [[i, wordWeights]],
  );
  return {
    seed,
    paths: behaviours.map(({ path }) => path),
    guidance: same ? guidance : behaviours.map((one) => one.guidance),
    ...(words.length === 0 ? {} : { words: Object.fromEntries(words) }),
    ...(grounding && { grounded: grounding.steps }),
  };
}

/** Six digits are enough to look at; seeds may be larger than numbers are exact. */
function rounded(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return `${value}`;
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(6)) : value;
}
