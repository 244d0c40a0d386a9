/** The world of one input picture: what is recognised in it, the grammar's axes around that, and a reward. */

import type { Picture } from '@rldf/common/base/picture';
import { UserError } from '@rldf/torch/errors';
import { Encoding } from '../world/encoding.js';
import type { Grammar } from '../world/grammar.js';
import { type AxisOrder, type Locality, localEncoding } from '../world/locality.js';
import { type Observation, type RewardName, type RewardOptions, semanticReward } from '../world/rewards.js';
import { drawSet, plainRequests } from './final-pictures.js';
import { GridWorld } from './grid-world.js';
import type { ImageSource } from './image-source.js';
import { PictureMemory } from './memory.js';
import type { Embedder, Recogniser } from './recogniser.js';

export interface WorldOptions {
  input: Picture;
  /** Names the input in messages. */
  where: string;
  grammar: Grammar;
  /** Draws the states during the search. */
  source: ImageSource;
  recogniser: Recogniser;
  /** For the order of the axes. */
  embedder: Pick<Embedder, 'texts'>;
  /** Default `clip`. */
  order?: AxisOrder;
  /** Least confidence of the input's objects and scenes, in [0, 1]. Default 0.3. */
  minConfidence?: number;
  /** Of the states' pictures, and of where in its window the goal lies. */
  pictureSeed: number;
  /** Folder of pictures and observations; searches may share it. */
  memory: string;
  signal?: AbortSignal;
}

export interface RewardedOptions {
  reward: RewardName;
  rewardConstants?: Omit<RewardOptions, 'scenes'>;
  /** γ, default 0.9. The paper does not state it. */
  gamma?: number;
  /** Added at the goal; default: `goalBonus`. */
  bonus?: number;
  dynamicSeeds?: boolean;
  pictureSeed: number;
  signal?: AbortSignal;
}

/** A prepared world: what tables over agents and rewards share. */
export interface PreparedWorld {
  encoding: Encoding;
  locality: Record<string, Locality>;
  input: Observation;
  memory: PictureMemory;
}

/** Recognises the input and makes the world around it. @throws UserError for an input below the confidence */
export async function prepareWorld(options: WorldOptions): Promise<PreparedWorld> {
  const { grammar, recogniser, where, minConfidence = 0.3, order = 'clip', embedder, signal } = options;
  const [input] = (await recogniser.recognise([options.input])) as [Observation];
  const plain = new Encoding(grammar);
  const named = plain.axes.filter(({ role }) => role === 'object' || role === 'scene');
  const doubtful = named.filter(({ name }) => (input.confidence[name] ?? 0) < minConfidence);
  if (doubtful.length > 0) {
    const seen = named.map(
      ({ name }) => `${name} ${input.meanings[name]} (${(input.confidence[name] ?? 0).toFixed(2)})`,
    );
    throw new UserError(
      `${where}: recognised as ${seen.join(', ')} — ${doubtful.map(({ name }) => name).join(' and ')} below --min-confidence ${minConfidence}. Choose a picture of what the grammar names, another grammar, or a lower confidence`,
    );
  }
  const memory = new PictureMemory(options.memory, options.source, recogniser);
  const { encoding, locality } = await localEncoding({
    grammar,
    goal: input.meanings,
    order,
    seed: options.pictureSeed,
    embed: async (sentences) => {
      const words = embedder.texts(sentences);
      if (order !== 'clip-pictures') return [words];
      const set = await drawSet(
        memory,
        sentences.flatMap((sentence) => plainRequests(sentence, 1, options.pictureSeed)),
        signal,
      );
      return [words, set.observations.map(({ embedding }) => embedding)];
    },
  });
  if (encoding.size < 2) throw new UserError(`${grammar.where}: one state only — a search needs a choice`);
  return { encoding, locality, input, memory };
}

/** The world with a reward: what an agent walks in. */
export function rewardedWorld(
  { encoding, input, memory }: PreparedWorld,
  options: RewardedOptions,
): GridWorld {
  const { gamma = 0.9, bonus, dynamicSeeds, signal, pictureSeed } = options;
  if (!(gamma >= 0 && gamma < 1)) throw new UserError(`--gamma ${gamma}: at least 0 and below 1`);
  const scenes = encoding.axes.filter(({ role }) => role === 'scene').map(({ name }) => name);
  return new GridWorld({
    encoding,
    memory,
    reward: semanticReward(options.reward, input, { ...options.rewardConstants, scenes }),
    goal: encoding.encode(input.meanings),
    seed: pictureSeed,
    gamma,
    ...(bonus === undefined ? {} : { bonus }),
    ...(dynamicSeeds === undefined ? {} : { dynamicSeeds }),
    ...(signal === undefined ? {} : { signal }),
  });
}
