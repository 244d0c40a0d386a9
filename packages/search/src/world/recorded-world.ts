/** A world whose pictures were all drawn and looked at before: searches in it cost microseconds a step. */

import { noiseKey, Random } from '@rldf/torch';
import type { Encoding } from './encoding.js';
import type { Grid } from './environment.js';
import type { Observation, SemanticReward } from './rewards.js';
import { SearchWorld } from './search-world.js';

/** What was seen, by state; shared by all searches. */
export interface Recording {
  encoding: Encoding;
  grid: Grid;
  goal: number;
  /** What was seen in the pictures of each state, of which there are one or several. */
  pictures: readonly (readonly Observation[])[];
}

/** Rewards of the recording's pictures, in the same order, without the goal's bonus. */
export function recordedRewards(
  { pictures }: Recording,
  reward: Pick<SemanticReward, 'of'>,
): readonly (readonly number[])[] {
  return pictures.map((ofState) => ofState.map((picture) => reward.of(picture)));
}

export interface RecordedOptions {
  reward: Pick<SemanticReward, 'least' | 'most'>;
  rewards: readonly (readonly number[])[];
  gamma: number;
  /** Default: `goalBonus`. */
  bonus?: number;
  /** Dynamic seeds: each visit shows one of the state's pictures at random. Default: always the first. */
  dynamicSeed?: number;
}

export class RecordedWorld extends SearchWorld {
  readonly #pictures: Recording['pictures'];
  readonly #rewards: RecordedOptions['rewards'];
  readonly #dynamicSeed: number | undefined;
  #looks = 0;

  constructor(recording: Recording, options: RecordedOptions) {
    super({ ...recording, ...options });
    this.#pictures = recording.pictures;
    this.#rewards = options.rewards;
    this.#dynamicSeed = options.dynamicSeed;
  }

  reward(state: number): number {
    this.visited.add(state);
    return this.#shown(this.#rewards[state]!) + (state === this.goal ? this.bonus : 0);
  }

  async observe(state: number): Promise<Observation> {
    this.visited.add(state);
    return this.#shown(this.#pictures[state]!);
  }

  #shown<Value>(values: readonly Value[]): Value {
    if (this.#dynamicSeed === undefined) return values[0]!;
    return values[
      new Random(noiseKey(this.#dynamicSeed, 'search-look', this.#looks++)).integer(values.length)
    ]!;
  }
}
