/** The torture test: does a reward prefer pictures that nobody would, to good ones of the shipped model? */

import { type Picture, picturesOf, tensorOfPictures } from '@rldf/common/base/picture';
import { mean, meanDifference } from '@rldf/common/base/stats';
import { baseNouns } from '@rldf/common/instruments/configs';
import { type Plan, parseCaption, promptScenes, relations } from '@rldf/emoji-world';
import { type Detector, generate, type Pipeline } from '@rldf/models';
import { free, noiseKey, Random, type Tensor } from '@rldf/torch';
import { ofOneSize, ownReference } from './percentiles.js';
import { type Reward, scorePictures } from './reward.js';

/** A good picture and what it was asked for. */
export interface GoodPicture {
  prompt: string;
  picture: Picture;
  /** What a prompt file would say besides. */
  meta?: unknown;
}

export type Verdict = 'refused' | 'preferred' | 'no difference';

export interface Torment {
  name: string;
  /** Mean score of the good pictures, and of these in their place. */
  good: number;
  tortured: number;
  /** tortured - good, by picture, with its 95 % interval. */
  difference: number;
  ci95: [lo: number, hi: number];
  /** Share of the good pictures that score below what replaced them. */
  preferredShare: number;
  verdict: Verdict;
  count: number;
}

/** What is shown instead of a good picture, or undefined where that would be no fault. */
type Torture = (good: GoodPicture, random: Random) => { picture?: Picture; prompt?: string } | undefined;

const tortures: Record<string, Torture> = {
  noise: ({ picture }, random) => ({ picture: painted(picture, () => random.integer(256)) }),
  blank: ({ picture }) => ({ picture: painted(picture, () => 255) }),
  saturated: ({ picture }) => ({ picture: saturated(picture) }),
  grid: ({ picture }) => ({
    picture: painted(picture, (x, y, c, value) =>
      ((x >> 2) + (y >> 2)) % 2 === 0 ? value : GRID_COLOUR[c]!,
    ),
  }),
  /** Only where it makes the prompt wrong: places and letters. */
  mirrored: ({ picture, prompt }) =>
    /\b(left|right)\b|"/.test(prompt) ? { picture: mirrored(picture) } : undefined,
  'wrong prompt': () => ({}),
};

export const tortureNames: readonly string[] = Object.keys(tortures);

/**
 * Scores good pictures and, for the same prompts, what replaces them. Differences are taken picture by picture, so that
 * easy and hard prompts cancel out.
 */
export async function tortureReward(
  reward: Reward,
  good: readonly GoodPicture[],
  seed = 0,
): Promise<Torment[]> {
  const results: Torment[] = [];
  for (const [name, torture] of Object.entries(tortures)) {
    const random = new Random(noiseKey(seed, 'torture', hash(name)));
    const replaced = good.flatMap((one, i) => {
      const change = torture(one, random);
      if (change === undefined) return [];
      const asked = name === 'wrong prompt' ? another(good, i) : one;
      if (asked === undefined) return [];
      const { prompt, meta } = asked;
      return [{ one, other: { picture: one.picture, ...change, prompt, meta } }];
    });
    if (replaced.length < 2) continue;
    const before = await scoresOf(
      reward,
      replaced.map(({ one }) => one),
    );
    const after = await scoresOf(
      reward,
      replaced.map(({ other }) => other),
    );
    const bootstrap = new Random(noiseKey(seed, 'torture interval', hash(name)));
    const { difference, ci95 } = meanDifference(before, after, bootstrap, 2000);
    results.push({
      name,
      good: mean(before),
      tortured: mean(after),
      difference,
      ci95,
      preferredShare: mean(after.map((score, i) => Number(score > before[i]!))),
      verdict: ci95[0] > 0 ? 'preferred' : ci95[1] < 0 ? 'refused' : 'no difference',
      count: replaced.length,
    });
  }
  return results;
}

/** The next picture whose prompt asks for other nouns but has the same form, so that every reward can score it. */
function another(good: readonly GoodPicture[], index: number): GoodPicture | undefined {
  const plan = parseCaption(good[index]!.prompt);
  const nounsOf = (other: Plan | undefined) => other?.subjects.map(({ noun }) => noun) ?? [];
  const own = nounsOf(plan);
  return [...good.slice(index + 1), ...good.slice(0, index)].find(({ prompt }) => {
    const other = parseCaption(prompt);
    return (
      (other?.relation === undefined) === (plan?.relation === undefined) &&
      prompt !== good[index]!.prompt &&
      nounsOf(other).every((noun) => !own.includes(noun))
    );
  });
}

async function scoresOf(reward: Reward, pictures: readonly GoodPicture[]): Promise<number[]> {
  const scores: number[] = [];
  let start = 0;
  for (const batch of ofOneSize(pictures.map(({ picture }) => picture))) {
    const own = pictures.slice(start, start + batch.length);
    start += batch.length;
    const images = tensorOfPictures(batch);
    const [prompts, meta] = [own.map(({ prompt }) => prompt), own.map((one) => one.meta ?? null)];
    try {
      scores.push(...(await scorePictures(reward, { images, prompts, meta })).total);
    } finally {
      images.free();
    }
  }
  return scores;
}

const GRID_COLOUR = [255, 0, 255];

function painted(
  { width, height, data }: Picture,
  value: (x: number, y: number, channel: number, old: number) => number,
): Picture {
  const drawn = data.map((old, i) => {
    const pixel = Math.floor(i / 3);
    return value(pixel % width, Math.floor(pixel / width), i % 3, old);
  });
  return { width, height, channels: 3, data: drawn };
}

/** Each channel driven to its end: colours as loud as can be. */
const saturated = (picture: Picture) => painted(picture, (_x, _y, _c, value) => (value < 128 ? 0 : 255));

function mirrored(picture: Picture): Picture {
  const { width, data } = picture;
  return painted(picture, (x, y, c) => data[(y * width + width - 1 - x) * 3 + c]!);
}

const hash = (name: string) => tortureNames.indexOf(name);

/** Good pictures for a reward that looks at photographs or words: those that it is measured on. Undefined of others. */
export async function goodPicturesOf(name: string, count: number): Promise<GoodPicture[] | undefined> {
  const reference = await ownReference(name);
  if (reference === undefined) return undefined;
  const most = Math.max(...reference.groups.map(({ pictures }) => pictures.length));
  const inTurn = Array.from({ length: most }, (_, i) =>
    reference.groups.flatMap(({ prompt, meta, pictures }) =>
      pictures[i] === undefined ? [] : [{ prompt, meta, picture: pictures[i] }],
    ),
  );
  return inTurn.flat().slice(0, count);
}

const CANDIDATES = 3;

/**
 * The model's own good pictures: of each prompt the one, of three, in which the detector finds best what is asked for.
 * Half of the prompts are single nouns, half two nouns beside each other. Prompts of the test split.
 */
export async function drawGoodPictures(
  pipeline: Pipeline,
  detector: Detector | undefined,
  count: number,
  form: 'any' | 'relation' = 'any',
): Promise<GoodPicture[]> {
  const known = new Set(baseNouns);
  const promptsOf = (kind: 'single' | 'relation', most: number) =>
    promptScenes('test', kind)
      .filter(({ scene }) => scene.objects.every(({ noun }) => known.has(noun)))
      .filter(({ scene }) => scene.relation === undefined || relations.indexOf(scene.relation) < 2)
      .slice(0, most)
      .map(({ prompt }) => prompt);
  const singles = form === 'relation' ? 0 : Math.ceil(count / 2);
  const prompts = [...promptsOf('single', singles), ...promptsOf('relation', count - singles)];
  const good: GoodPicture[] = [];
  for (let start = 0; start < prompts.length; start += 8) {
    const some = prompts.slice(start, start + 8).flatMap((prompt) => Array<string>(CANDIDATES).fill(prompt));
    const { images, latents } = await generate(pipeline, {
      prompts: some,
      seeds: some.map((_, i) => 7_000_000 + start * CANDIDATES + i),
      steps: pipeline.defaults.steps ?? 30,
      guidanceScale: pipeline.defaults.guidanceScale ?? 7.5,
    });
    const points = detector === undefined ? some.map(() => 0) : await rightness(detector, images, some);
    const pictures = picturesOf(images);
    free([images, latents]);
    for (let first = 0; first < some.length; first += CANDIDATES) {
      const own = points.slice(first, first + CANDIDATES);
      const best = first + own.indexOf(Math.max(...own));
      good.push({ prompt: some[best]!, picture: pictures[best]! });
    }
  }
  return good;
}

/** How many of the nouns are found, and half a point for the relation. */
async function rightness(detector: Detector, images: Tensor, prompts: readonly string[]): Promise<number[]> {
  return (await detector.detect(images)).map((found, i) => {
    const { subjects = [], relation } = parseCaption(prompts[i]!) ?? {};
    const boxes = subjects.map(({ noun }) => found.find(({ label }) => label === noun)?.box);
    const present = boxes.filter((box) => box !== undefined).length;
    const [a, b] = boxes;
    const dx = a === undefined || b === undefined ? 0 : b[0] + b[2] - a[0] - a[2];
    return present + (dx !== 0 && dx > 0 === (relation === 'left') ? 0.5 : 0);
  });
}
