/** Pictures of what a search found: diverse ones by the control axes, plain re-seeded ones beside them, and sliders. */

import { meanPairwiseDistance } from '@rldf/common/base/pairwise-distance';
import type { Picture } from '@rldf/common/base/picture';
import { mean } from '@rldf/common/base/stats';
import { noiseKey, Random } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import type { Axis, Encoding, State } from '../world/encoding.js';
import type { Observation } from '../world/rewards.js';
import type { PictureRequest } from './image-source.js';
import type { PictureMemory } from './memory.js';

/** Someone who shares nothing with the recogniser. All lists are one entry a picture. */
export interface SearchJudge {
  name: string;
  /** All that `styles` can say. */
  styleLabels: readonly string[];
  /** The one noun of each picture. */
  nouns(pictures: readonly Picture[]): Promise<string[]>;
  styles(pictures: readonly Picture[]): Promise<string[]>;
  /** An embedding of each picture. */
  features(pictures: readonly Picture[]): Promise<number[][]>;
}

export interface PictureSet {
  requests: PictureRequest[];
  pictures: Picture[];
  observations: Observation[];
}

export interface SetMeasures {
  /** Share of pictures in which the found object is recognised, in [0, 1]; null where no axis names an object. */
  consistency: number | null;
  /** Mean 1 - cosine over pairs of pictures; null below two. */
  diversity: number | null;
  /** The same by the judge, and how many pictures it gives each style. */
  judged?: {
    by: string;
    consistency: number | null;
    diversity: number | null;
    styles: Record<string, number>;
  };
}

/** Draws or remembers, and recognises. */
export async function drawSet(
  memory: PictureMemory,
  requests: PictureRequest[],
  signal?: AbortSignal,
): Promise<PictureSet> {
  const observations: Observation[] = [];
  for (let start = 0; start < requests.length; start += memory.source.batchSize)
    observations.push(
      ...(await memory.observe(requests.slice(start, start + memory.source.batchSize), signal)),
    );
  const pictures: Picture[] = [];
  for (const request of requests) pictures.push(await memory.picture(request));
  return { requests, pictures, observations };
}

/**
 * Sentences of one state, each control drawn uniformly: every value of a control comes equally often, give or take one.
 * @returns also how often each value came, by control and meaning, and what was drawn for each picture
 */
export function diverseRequests(
  encoding: Encoding,
  state: State,
  count: number,
  seed: number,
): { requests: PictureRequest[]; balance: Record<string, Record<string, number>>; drawn: string[] } {
  const values = encoding.controls.map(({ order }, control) => {
    const random = new Random(noiseKey(seed, 'search-controls', control));
    const rounds = Array.from({ length: Math.ceil(count / order.length) }, () =>
      random.shuffle(order.map((_, i) => i)),
    );
    return rounds.flat().slice(0, count);
  });
  const requests = Array.from({ length: count }, (_, i) => ({
    sentence: encoding.sentence(
      state,
      values.map((ofControl) => ofControl[i]!),
    ),
    seed: pictureSeed(seed, i),
  }));
  const balance = Object.fromEntries(
    encoding.controls.map(({ name, meanings, order }, control) => {
      const times = (value: number) => values[control]!.filter((other) => other === value).length;
      return [
        name,
        Object.fromEntries(order.map((alternative, value) => [meanings[alternative]!, times(value)])),
      ];
    }),
  );
  const drawn = requests.map((_, i) =>
    encoding.controls
      .map(({ meanings, order }, control) => meanings[order[values[control]![i]!]!]!)
      .join(', '),
  );
  return { requests, balance, drawn };
}

/** The same sentence with the same seeds: what one gets without controls. */
export function plainRequests(sentence: string, count: number, seed: number): PictureRequest[] {
  return Array.from({ length: count }, (_, i) => ({ sentence, seed: pictureSeed(seed, i) }));
}

const pictureSeed = (seed: number, index: number) => noiseKey(seed, 'search-picture', index)[0]!;

/** @param object label of the found object, if an axis names one */
export async function measureSet(
  { pictures, observations }: PictureSet,
  object: string | undefined,
  judge?: SearchJudge,
): Promise<SetMeasures> {
  const share = (hits: readonly boolean[]) => (hits.length === 0 ? null : mean(hits.map(Number)));
  const consistency =
    object === undefined ? null : share(observations.map(({ objects }) => objects[object] !== undefined));
  const diversity = meanPairwiseDistance(observations.map(({ embedding }) => embedding));
  if (judge === undefined || pictures.length === 0) return { consistency, diversity };
  const nouns = await judge.nouns(pictures);
  return {
    consistency,
    diversity,
    judged: {
      by: judge.name,
      consistency: object === undefined ? null : share(nouns.map((noun) => noun === object)),
      diversity: meanPairwiseDistance(await judge.features(pictures)),
      styles: countsOf(await judge.styles(pictures)),
    },
  };
}

export function countsOf(values: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const value of values) counts[value] = (counts[value] ?? 0) + 1;
  return counts;
}

/** The axis or control to slide along. @throws UserError if the grammar has none of this name */
export function axisNamed(encoding: Encoding, name: string): Axis {
  const axis = encoding.choices.find((choice) => choice.name === name);
  if (axis !== undefined) return axis;
  const names = encoding.choices.map((choice) => choice.name).join(', ');
  throw new UserError(`--slide ${name}: the grammar has no such axis — it has ${names}`);
}

export interface Slide extends PictureSet {
  axis: string;
  /** Meaning of the axis in each picture. */
  values: string[];
  /** Share of pictures in which the axis is recognised as asked; of a control, by the judge of styles, else null. */
  moved: number | null;
  /** Mean share of the other axes that are recognised as in the sentence. */
  held: number;
}

/**
 * Moves one axis over all its values and holds the rest and the seed (paper, figure 13).
 * @param name an axis or a control
 * @throws UserError if the grammar has no such axis
 */
export async function slide(
  encoding: Encoding,
  state: State,
  name: string,
  seed: number,
  memory: PictureMemory,
  { judge, signal }: { judge?: SearchJudge; signal?: AbortSignal } = {},
): Promise<Slide> {
  const axis = axisNamed(encoding, name);
  const found = encoding.meaningsOf(state);
  const values = axis.wholeOrder.map((alternative) => axis.meanings[alternative]!);
  const requests = values.map((value) => ({
    sentence: encoding.sentenceOf({ ...found, [name]: value }),
    seed: pictureSeed(seed, 0),
  }));
  const set = await drawSet(memory, requests, signal);
  const judged =
    axis.control && judge !== undefined && values.every((value) => judge.styleLabels.includes(value));
  const seen = judged
    ? await judge.styles(set.pictures)
    : set.observations.map(({ meanings }) => meanings[name]);
  const others = encoding.axes.filter((other) => other !== axis).map((other) => other.name);
  return {
    ...set,
    axis: name,
    values,
    moved: axis.control && !judged ? null : mean(values.map((value, i) => Number(seen[i] === value))),
    held: mean(
      set.observations.map(({ meanings }) =>
        others.length === 0 ? 1 : mean(others.map((other) => Number(meanings[other] === found[other]))),
      ),
    ),
  };
}
