/** Scores of fixed sets of pictures: how high is high? `rldf rewards NAME` shows them, `rldf rewards percentiles NAME` measures them. */

import { existsSync, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { type Picture, picturesOf, tensorOfPictures } from '@rldf/common/base/picture';
import { mean, quantile } from '@rldf/common/base/stats';
import { baseNouns } from '@rldf/common/instruments/configs';
import { findModel, worldFolder } from '@rldf/common/instruments/models';
import { parseCaption, promptScenes } from '@rldf/emoji-world';
import { generate, loadPipeline, readJson, writeJson } from '@rldf/models';
import { type Device, free } from '@rldf/torch';
import type { Prompt } from '../prompts/prompts.js';
import { checkScores, type Reward } from './reward.js';

/** Scores of a fixed set of pictures. */
export interface Percentiles {
  /** Which pictures. */
  reference: string;
  count: number;
  p5: number;
  p25: number;
  p50: number;
  p75: number;
  p95: number;
  /** Share of the variance that lies between prompts: what centring by prompt takes away. */
  betweenPrompts: number;
}

export interface ReferenceGroup {
  prompt: string;
  meta: unknown;
  pictures: readonly Picture[];
}

export interface Reference {
  description: string;
  groups: readonly ReferenceGroup[];
}

/** Those that ship with rldf. */
export const percentilesFile = join(worldFolder, 'instruments', 'rewards', 'percentiles.json');

/** Those that were measured on this machine, with weights or packages of its own. */
export const ownPercentilesFile = (env: NodeJS.ProcessEnv = process.env): string =>
  join(env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'rldf', 'percentiles.json');

/** Undefined for a reward that was not measured. What was measured here comes first. */
export function percentilesOf(name: string): Percentiles | undefined {
  const files = [ownPercentilesFile(), percentilesFile].filter((file) => existsSync(file));
  return files
    .map((file) => (readJson(file) as Record<string, Percentiles>)[name])
    .find((one) => one !== undefined);
}

export function keepPercentiles(name: string, percentiles: Percentiles, file = ownPercentilesFile()): void {
  mkdirSync(dirname(file), { recursive: true });
  writeJson(file, { ...(existsSync(file) ? readJson(file) : {}), [name]: percentiles });
}

const KINDS = ['single', 'colour', 'count', 'and', 'relation'] as const;
const PROMPTS_OF_KIND = 10;
const PICTURES_OF_PROMPT = 6;

/** The prompts of the built-in world on which its rewards are measured. */
function worldPrompts(): Prompt[] {
  const known = new Set(baseNouns);
  return KINDS.flatMap((kind) =>
    promptScenes('test', kind)
      .filter(({ scene }) => scene.objects.every(({ noun }) => known.has(noun)))
      .slice(0, PROMPTS_OF_KIND)
      .map(({ prompt }) => ({ text: prompt, meta: null })),
  );
}

/** Pictures of a model with its own steps and guidance: always the same prompts and seeds. */
export async function modelReference({
  model = 'emoji',
  prompts,
  each = PICTURES_OF_PROMPT,
  device,
  onProgress,
}: {
  model?: string;
  /** Instead of test prompts of the built-in world. */
  prompts?: { from: string; all: readonly Prompt[] };
  each?: number;
  device?: Device;
  onProgress?: (done: number, total: number) => void;
} = {}): Promise<Reference> {
  const pipeline = loadPipeline(findModel(model).path, device === undefined ? {} : { device });
  const { steps = 30, guidanceScale = 7.5 } = pipeline.defaults;
  const asked = prompts?.all ?? worldPrompts();
  const groups: ReferenceGroup[] = [];
  try {
    for (const [index, { text, meta }] of asked.entries()) {
      const { images, latents } = await generate(pipeline, {
        prompts: Array<string>(each).fill(text),
        seeds: Array.from({ length: each }, (_, i) => 8_000_000 + index * 100 + i),
        steps,
        guidanceScale,
      });
      groups.push({ prompt: text, meta, pictures: picturesOf(images) });
      free([images, latents]);
      onProgress?.(index + 1, asked.length);
    }
  } finally {
    for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  }
  const of = prompts === undefined ? `${asked.length} test prompts of ${KINDS.join(', ')}` : `${asked.length} prompts of ${prompts.from}`; // biome-ignore format: one thought
  return { description: `${model}, ${steps} steps, guidance ${guidanceScale}, ${of}`, groups };
}

/** What a reward that looks at photographs or words is measured on; undefined of others, which score a model's pictures. */
export async function ownReference(name: string): Promise<Reference | undefined> {
  if (!['face', 'geneval', 'composition', 'text'].includes(name)) return undefined;
  const { faceViews, objectViews, signs } = await import('./photographs.js');
  if (name === 'face')
    return { description: 'views of one photograph with a face', groups: await faceViews(48) };
  if (name === 'text')
    return { description: '16 words drawn as signs, in five ways each', groups: await signs() };
  return {
    description: 'views of three photographs, of a person, a cat and a cup',
    groups: await objectViews(16),
  };
}

/** One list of scores a prompt; prompts that a reward cannot score are left out. */
export async function scoreReference(reward: Reward, { groups }: Reference): Promise<number[][]> {
  const fits = ({ prompt }: ReferenceGroup) =>
    reward.name !== 'spatial' || parseCaption(prompt)?.relation !== undefined;
  const scores: number[][] = [];
  for (const group of groups.filter(fits)) scores.push(await scoreGroup(reward, group));
  return scores;
}

async function scoreGroup(reward: Reward, { prompt, meta, pictures }: ReferenceGroup): Promise<number[]> {
  const scores: number[] = [];
  for (const batch of ofOneSize(pictures)) {
    const images = tensorOfPictures(batch);
    const prompts = batch.map(() => prompt);
    const answer = await reward.score({ images, prompts, meta: batch.map(() => meta) });
    scores.push(...checkScores(reward.name, answer, { prompts }));
    images.free();
  }
  return scores;
}

/** Neighbours of one size together. */
export function ofOneSize<P extends Pick<Picture, 'width' | 'height'>>(pictures: readonly P[]): P[][] {
  const batches: P[][] = [];
  for (const picture of pictures) {
    const last = batches.at(-1);
    const first = last?.[0];
    if (last && first && first.width === picture.width && first.height === picture.height) last.push(picture);
    else batches.push([picture]);
  }
  return batches;
}

/** @param scores one list a prompt */
export function percentiles(scores: readonly number[][], reference: string): Percentiles {
  const all = scores.flat();
  const sorted = [...all].sort((a, b) => a - b);
  const squares = (values: readonly number[]) => {
    const middle = mean(values);
    return values.reduce((sum, value) => sum + (value - middle) ** 2, 0);
  };
  const total = squares(all);
  const within = scores.reduce((sum, own) => sum + squares(own), 0);
  const at = (probability: number) => Number(quantile(sorted, probability).toPrecision(5));
  return {
    reference,
    count: all.length,
    p5: at(0.05),
    p25: at(0.25),
    p50: at(0.5),
    p75: at(0.75),
    p95: at(0.95),
    betweenPrompts: total === 0 ? 0 : Number((1 - within / total).toFixed(3)),
  };
}
