// Rankings of pictures by written rules, with the noise of human judgement: what the preference models are trained on.

import { imagesOf } from '@rldf/common/instruments/scenes';
import {
  type ArtSet,
  captionOf,
  HashRandom,
  type SampleOptions,
  type Scene,
  type Split,
  sampleScene,
  splits,
} from '@rldf/emoji-world';
import type { Tensor } from '@rldf/torch';
import type { DrawnPictures } from './rankings-drawn.js';
import { type Blur, drawFlawed, type FlawedPicture, type Flaws } from './rankings-flaws.js';

/** What each flaw costs; a picture's quality is minus the sum of cost x amount. */
export type Rules = Readonly<Flaws>;

/** The rules behind the training rewards: right objects first, then sharpness, cleanness and contrast. */
export const feedbackRules: Rules = {
  missing: 4,
  wrong: 4,
  relation: 1.5,
  count: 1.5,
  colour: 2,
  background: 1,
  incomplete: 2,
  blur: 2.5,
  noise: 2.5,
  faded: 2,
  nothing: 6,
  generated: 0.5,
};

/** The rules behind the unseen judge: obedience weighs more, softness less; fading costs little, missing parts much. */
export const judgeRules: Rules = {
  missing: 4,
  wrong: 5,
  relation: 3,
  count: 3,
  colour: 3,
  background: 2,
  incomplete: 3,
  blur: 1,
  noise: 3,
  faded: 0.5,
  nothing: 6,
  generated: 0,
};

/** @returns 0 for a flawless picture, below 0 else */
export function qualityOf(flaws: Flaws, rules: Rules): number {
  return -(Object.keys(rules) as (keyof Flaws)[]).reduce((sum, flaw) => sum + rules[flaw] * flaws[flaw], 0);
}

/** Pictures for one prompt are ranked in groups of so many. */
export const GROUP = 4;

/** Width of the judgement noise, in units of quality: at 0.5 a difference of 1 is told right 88 times of 100. */
const JUDGEMENT_NOISE = 0.5;
/** Share of groups that were ranked carelessly: at random. */
const CARELESS = 0.03;

/** G groups of `GROUP` pictures, each group for one prompt. */
export interface RankingBatch {
  captions: string[];
  /** [G * GROUP, 3, 64, 64] in [-1, 1] */
  images: Tensor;
  flaws: Flaws[];
  /** Rank by the noisy judgement of each picture within its group, 0 the best; length G * GROUP. */
  ranks: number[];
  /** By the rules alone, length G * GROUP. */
  qualities: number[];
}

export interface RankingOptions {
  rules: Rules;
  blur: Blur;
  /** Pictures drawn by the base model, mixed in. */
  drawn?: DrawnPictures;
}

/** Share of groups that hold pictures of the base model. */
const SHARE_DRAWN = 0.3;

const WORLD: SampleOptions = {
  kinds: {
    single: 0.34,
    colour: 0.14,
    background: 0.09,
    count: 0.11,
    relation: 0.15,
    and: 0.1,
    activity: 0.04,
    style: 0.03,
  },
};

/** Groups `start` to `start + groups` of an endless series. */
export function rankingBatch(
  art: ArtSet,
  split: Split,
  seed: number,
  start: number,
  groups: number,
  options: RankingOptions,
): RankingBatch {
  const all = Array.from({ length: groups }, (_, i) => rankedGroup(art, split, seed, start + i, options));
  const pictures = all.flatMap((group) => group.pictures);
  return {
    captions: all.map(({ caption }) => caption),
    images: imagesOf(pictures.map(({ picture }) => picture)),
    flaws: pictures.map(({ flaws }) => flaws),
    qualities: all.flatMap(({ qualities }) => qualities),
    ranks: all.flatMap(({ ranks }) => ranks),
  };
}

function rankedGroup(
  art: ArtSet,
  split: Split,
  seed: number,
  index: number,
  { rules, blur, drawn }: RankingOptions,
): { caption: string; pictures: FlawedPicture[]; qualities: number[]; ranks: number[] } {
  const random = new HashRandom(seed, index, splits.indexOf(split), 0x72616e6b);
  const fromModel = drawn !== undefined && random.chance(SHARE_DRAWN);
  const scene: Scene = fromModel ? drawn.choose(random) : sampleScene(split, seed, index, WORLD);
  const pictures = Array.from({ length: GROUP }, (_, place) =>
    fromModel && place > 0 ? drawn.picture(scene, random) : drawFlawed(scene, art, random, blur),
  );
  const qualities = pictures.map(({ flaws }) => qualityOf(flaws, rules));
  const careless = random.chance(CARELESS);
  // Gumbel noise: every pair is told right with the probability of Bradley & Terry 1952
  const judged = qualities.map(
    (quality) => (careless ? 0 : quality) - JUDGEMENT_NOISE * Math.log(-Math.log(random.uniform() + 1e-12)),
  );
  const ranks = judged.map((value) => judged.filter((other) => other > value).length);
  const caption = captionOf(scene, random.chance(0.5) ? 0 : random.bits(), { partial: false });
  return { caption, pictures, qualities, ranks };
}

/** Rows of the preferred and of the other picture of every pair within a group, by rank. */
export function rankedPairs(ranks: readonly number[]): { preferred: number[]; other: number[] } {
  const preferred: number[] = [];
  const other: number[] = [];
  for (let a = 0; a < ranks.length; a++) {
    const end = a - (a % GROUP) + GROUP;
    for (let b = a + 1; b < end; b++) {
      const aFirst = (ranks[a] as number) < (ranks[b] as number);
      preferred.push(aFirst ? a : b);
      other.push(aFirst ? b : a);
    }
  }
  return { preferred, other };
}
