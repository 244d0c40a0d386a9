/** Pictures of a run with their numbers: `samples/pictures.jsonl` (one line a step and kind) and `report/evaluation.json`. */

import { join } from 'node:path';
import type { HistogramAnswer, PictureInfo, PictureKind, PicturesAnswer, PromptsAnswer } from './api.js';
import { checkpointSteps, type Recipe } from './catalogue.js';
import type { RunsFolder } from './folder.js';
import { Follower } from './lines.js';

const mostPrompts = 500;
const mostPoints = 200;
const bins = 30;

/** A line of samples/pictures.jsonl: all pictures of a step, as columns. packages/rldf/src/run/picture-log.ts writes it. */
export interface PictureLine {
  step: number;
  kind: 'rollout' | 'validation';
  width: number;
  height: number;
  /** The first so many are kept as samples/step-NNNNN/KIND-NNN.png. */
  kept: number;
  prompts: string[];
  rewards: number[];
  parts: Record<string, number[]>;
  /** Of deterministic pictures: one a picture. */
  seeds?: (number | string)[];
  /** Of rollouts: seed of the run, and identity of each picture's noise under it. */
  seed?: number | string;
  paths?: number[][];
  /** Of each denoising step; one for all, or one a picture. */
  guidance?: number[] | number[][];
  /** Weighted words by the picture's place. */
  words?: Record<string, { word: number; weight: number }[]>;
}

interface Pair {
  prompt: string;
  seed: number | string;
  rewardBefore: number;
  rewardAfter: number;
  before: string;
  after: string;
}

/** All lines of one run, read on while it trains. */
export class PictureLines {
  readonly #follower: Follower;
  lines: PictureLine[] = [];
  #turn: Promise<unknown> = Promise.resolve();

  constructor(folder: RunsFolder, path: string) {
    this.#follower = new Follower(folder, join(path, 'samples', 'pictures.jsonl'));
  }

  refresh(): Promise<void> {
    const next = this.#turn.then(async () => {
      await this.#follower.read(
        (lines) => {
          for (const line of lines) {
            const parsed = parseLine(line);
            if (parsed !== undefined) this.lines.push(parsed);
          }
        },
        () => {
          this.lines = [];
        },
      );
    });
    this.#turn = next.catch(() => {});
    return next;
  }

  /** The line of a step; of several the last. */
  at(kind: PictureKind, step: number): PictureLine | undefined {
    return this.lines.findLast((line) => line.kind === kind && line.step === step);
  }

  steps(kind: PictureKind): number[] {
    return [
      ...new Set(this.lines.flatMap((line) => (line.kind === kind && line.kept > 0 ? [line.step] : []))),
    ];
  }
}

export function parseLine(line: string): PictureLine | undefined {
  try {
    const found = JSON.parse(line) as PictureLine | null;
    const good =
      typeof found?.step === 'number' &&
      (found.kind === 'rollout' || found.kind === 'validation') &&
      Array.isArray(found.prompts) &&
      Array.isArray(found.rewards) &&
      found.prompts.length === found.rewards.length;
    return good ? found : undefined;
  } catch {
    return undefined;
  }
}

export const pictureFile = (path: string, kind: PictureKind, step: number, index: number) =>
  join(
    path,
    'samples',
    `step-${String(step).padStart(5, '0')}`,
    `${kind}-${String(index).padStart(3, '0')}.png`,
  );

export interface PictureSource {
  folder: RunsFolder;
  path: string;
  /** The run as it is named in commands. */
  named: string;
  recipe: Recipe;
  lines: PictureLines;
}

export async function picturesOf(
  source: PictureSource,
  kind: PictureKind,
  asked: number | undefined,
  offset: number,
  limit: number,
): Promise<PicturesAnswer> {
  if (kind === 'test') return testPictures(source, offset, limit);
  const { folder, path, lines } = source;
  const steps = lines.steps(kind);
  const step = asked ?? steps.at(-1) ?? 0;
  const line = lines.at(kind, step);
  if (line === undefined) return { kind, step, steps, pictures: [], total: 0 };
  const checkpoints = await checkpointSteps(path);
  const places = line.prompts.map((_, index) => index).slice(offset, offset + limit);
  const pictures = places.map((index): PictureInfo => {
    const id = `${kind}-${step}-${String(index).padStart(3, '0')}`;
    return {
      id,
      kind,
      step,
      index,
      prompt: line.prompts[index] as string,
      seed: seedOf(line, index),
      file: index < line.kept ? folder.idOfFile(pictureFile(path, kind, step, index)) : null,
      width: line.width,
      height: line.height,
      reward: finite(line.rewards[index]),
      rewards: partsAt(line.parts, index),
      advantage: null,
      behaviour: behaviourOf(source.recipe.value, line, index),
      before: null,
      redraw: redrawOf(source, checkpoints, kind, step, id),
    };
  });
  return { kind, step, steps, pictures, total: line.prompts.length };
}

async function testPictures(source: PictureSource, offset: number, limit: number): Promise<PicturesAnswer> {
  const { folder, path, recipe } = source;
  const evaluation = await folder.json<{ pairs?: Pair[]; reward?: string }>(
    join(path, 'report', 'evaluation.json'),
  );
  const pairs = evaluation?.pairs ?? [];
  const inReport = (name: string) =>
    folder.idOfFile(join(path, 'report', 'pictures', name.split(/[/\\]/).at(-1) as string));
  const step = 0;
  const pictures = pairs.slice(offset, offset + limit).map((pair, i): PictureInfo => {
    const index = offset + i;
    return {
      id: `test-${String(index).padStart(3, '0')}`,
      kind: 'test',
      step,
      index,
      prompt: pair.prompt,
      seed: pair.seed,
      file: inReport(pair.after),
      width: 0,
      height: 0,
      reward: finite(pair.rewardAfter),
      rewards: evaluation?.reward === undefined ? {} : { [evaluation.reward]: pair.rewardAfter },
      advantage: null,
      behaviour: behaviourOf(recipe.value, undefined, index),
      before: { file: inReport(pair.before), reward: pair.rewardBefore },
      redraw: {
        command: `rldf redraw ${quoted(source.named)} test-${String(index).padStart(3, '0')}`,
        exact: true,
        note: 'the weights that the report compares, and the same noise',
      },
    };
  });
  return { kind: 'test', step, steps: pairs.length > 0 ? [0] : [], pictures, total: pairs.length };
}

/** Which weights drew a picture, and whether they are still there. */
function redrawOf(
  { named }: PictureSource,
  checkpoints: readonly number[],
  kind: PictureKind,
  step: number,
  id: string,
): PictureInfo['redraw'] {
  const drawnBy = kind === 'rollout' ? step - 1 : step;
  const exact = checkpoints.includes(drawnBy);
  const nearest = checkpoints.filter((one) => one <= drawnBy).at(-1) ?? checkpoints[0];
  const note = exact
    ? `the weights of step ${drawnBy} and the same noise`
    : nearest === undefined
      ? 'no checkpoint is kept: it cannot be drawn again'
      : `the weights of step ${drawnBy} are not kept any more; those of step ${nearest} are taken, with the same noise`;
  return { command: `rldf redraw ${quoted(named)} ${id}`, exact, note };
}

function behaviourOf(
  recipe: Record<string, unknown>,
  line: PictureLine | undefined,
  index: number,
): PictureInfo['behaviour'] {
  const sample = (recipe.sample ?? {}) as { steps?: unknown; eta?: unknown; guidanceScale?: unknown };
  const steps = typeof sample.steps === 'number' ? sample.steps : 0;
  const rollout = line?.kind === 'rollout';
  const scale = typeof sample.guidanceScale === 'number' ? sample.guidanceScale : 1;
  const prompt = line?.prompts[index] ?? '';
  const words = prompt.split(/\s+/);
  return {
    steps,
    eta: rollout && typeof sample.eta === 'number' ? sample.eta : 0,
    guidance: guidanceOf(line, index) ?? new Array<number>(steps).fill(scale),
    wordWeights: (line?.words?.[index] ?? []).map(({ word, weight }) => ({
      word: words[word] ?? `word ${word + 1}`,
      weight,
    })),
    negativePrompt: typeof recipe.negativePrompt === 'string' ? recipe.negativePrompt : '',
  };
}

function guidanceOf(line: PictureLine | undefined, index: number): number[] | undefined {
  const guidance = line?.guidance;
  if (guidance === undefined) return undefined;
  return Array.isArray(guidance[0]) ? (guidance as number[][])[index] : (guidance as number[]);
}

function seedOf(line: PictureLine, index: number): number | string {
  const seed = line.seeds?.[index];
  if (seed !== undefined) return seed;
  const path = line.paths?.[index];
  return path === undefined ? (line.seed ?? '') : `${line.seed ?? ''}:${path.join('.')}`;
}

const partsAt = (parts: PictureLine['parts'] | undefined, index: number) =>
  Object.fromEntries(
    Object.entries(parts ?? {}).flatMap(([name, values]) => {
      const value = finite(values[index]);
      return value === null ? [] : [[name, value]];
    }),
  );

const finite = (value: unknown) => (typeof value === 'number' && Number.isFinite(value) ? value : null);

/** For a shell: in single quotes where it must be. */
export const quoted = (text: string) =>
  /^[A-Za-z0-9_./~-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;

/** Mean reward of each prompt over time, of training pictures; of validation where a method draws none. */
export function promptsOf(lines: readonly PictureLine[]): PromptsAnswer {
  const kind = lines.some((line) => line.kind === 'rollout') ? 'rollout' : 'validation';
  const byPrompt = new Map<string, { step: number; reward: number }[]>();
  for (const line of lines) {
    if (line.kind !== kind) continue;
    line.prompts.forEach((prompt, i) => {
      const reward = finite(line.rewards[i]);
      if (reward === null) return;
      const seen = byPrompt.get(prompt);
      if (seen === undefined) byPrompt.set(prompt, [{ step: line.step, reward }]);
      else seen.push({ step: line.step, reward });
    });
  }
  const names = [...byPrompt.keys()].sort();
  const prompts = names.slice(0, mostPrompts).map((prompt) => {
    const seen = byPrompt.get(prompt) as { step: number; reward: number }[];
    const fifth = Math.max(1, Math.floor(seen.length / 5));
    return {
      prompt,
      points: pointsOf(seen),
      first: mean(seen.slice(0, fifth)),
      last: mean(seen.slice(-fifth)),
      pictures: seen.length,
    };
  });
  return { prompts, more: Math.max(0, names.length - mostPrompts) };
}

const mean = (seen: readonly { reward: number }[]) =>
  seen.reduce((sum, { reward }) => sum + reward, 0) / seen.length;

function pointsOf(
  seen: readonly { step: number; reward: number }[],
): PromptsAnswer['prompts'][number]['points'] {
  const steps = [...new Set(seen.map(({ step }) => step))];
  const every = Math.ceil(steps.length / mostPoints);
  const bucketOf = new Map(steps.map((step, i) => [step, Math.floor(i / every)]));
  const buckets: { step: number; sum: number; pictures: number }[] = [];
  for (const { step, reward } of seen) {
    const place = bucketOf.get(step) as number;
    buckets[place] ??= { step, sum: 0, pictures: 0 };
    const bucket = buckets[place];
    bucket.step = step;
    bucket.sum += reward;
    bucket.pictures++;
  }
  return buckets.map(({ step, sum, pictures }) => ({ step, mean: sum / pictures, pictures }));
}

/** Rewards of single pictures in 30 bins that are the same at all steps, at most 200 columns: steps in equal numbers. */
export function histogramOf(lines: readonly PictureLine[], kind: PictureKind): HistogramAnswer {
  const own = lines.filter((line) => line.kind === kind);
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const { rewards } of own) {
    for (const reward of rewards) {
      if (!Number.isFinite(reward)) continue;
      if (reward < low) low = reward;
      if (reward > high) high = reward;
    }
  }
  if (!(low <= high)) return { kind, edges: [], columns: [] };
  if (low === high) high = low + (Math.abs(low) || 1) * 1e-6;
  const edges = Array.from({ length: bins + 1 }, (_, i) => low + ((high - low) * i) / bins);
  const every = Math.ceil(own.length / mostPoints);
  const columns: HistogramAnswer['columns'] = [];
  for (let start = 0; start < own.length; start += every) {
    const part = own.slice(start, start + every);
    const counts = new Array<number>(bins).fill(0);
    let sum = 0;
    let pictures = 0;
    for (const reward of part.flatMap(({ rewards }) => rewards)) {
      if (!Number.isFinite(reward)) continue;
      const bin = Math.min(bins - 1, Math.floor(((reward - low) / (high - low)) * bins));
      counts[bin] = (counts[bin] as number) + 1;
      sum += reward;
      pictures++;
    }
    columns.push({
      step: (part.at(-1) as PictureLine).step,
      counts,
      mean: pictures === 0 ? 0 : sum / pictures,
      pictures,
    });
  }
  return { kind, edges, columns };
}
