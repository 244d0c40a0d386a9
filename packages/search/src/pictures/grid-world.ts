/** The world of a search: an encoding's grid whose rewards come from pictures, each drawn once and remembered. */

import { noiseKey } from '@rldf/torch';
import { InternalError } from '@rldf/torch/errors';
import type { Encoding, State } from '../world/encoding.js';
import { Grid } from '../world/environment.js';
import type { Observation, SemanticReward } from '../world/rewards.js';
import { SearchWorld } from '../world/search-world.js';
import type { PictureRequest } from './image-source.js';
import type { PictureMemory } from './memory.js';

export interface GridWorldOptions {
  encoding: Encoding;
  memory: PictureMemory;
  reward: SemanticReward;
  goal: State;
  /** Of the pictures: each state has one seed of its own, whatever agent visits it. */
  seed: number;
  /** Discount γ. The paper does not state it. */
  gamma: number;
  /** Added to the goal's reward; default: `goalBonus`, which makes reaching it optimal. */
  bonus?: number;
  /** Another seed at each visit: rewards are then no function of the state, which the paper advises against (5.2). */
  dynamicSeeds?: boolean;
  signal?: AbortSignal;
}

/** The seed of a state's picture: a function of what it says, so that windows and orders keep it. */
export function stateSeed(seed: number, sentence: string, visit = 0): number {
  return noiseKey(seed, `state ${sentence}`, visit)[0]!;
}

export class GridWorld extends SearchWorld {
  readonly #options: GridWorldOptions;
  readonly #rewards = new Map<number, number>();
  readonly #visits = new Map<number, number>();

  constructor(options: GridWorldOptions) {
    const { encoding, goal } = options;
    const grid = new Grid(encoding.axes.map(({ order }) => order.length));
    super({ ...options, grid, goal: encoding.indexOf(goal) });
    this.#options = options;
    if (this.states < 2) throw new InternalError('GridWorld: one state — there is nothing to search');
  }

  sentence(state: number): string {
    return this.encoding.sentence(this.encoding.stateOf(state));
  }

  /** What is drawn for a state. @param visit counts the state's pictures with dynamic seeds */
  request(state: number, visit = 0): PictureRequest {
    const sentence = this.sentence(state);
    return { sentence, seed: stateSeed(this.#options.seed, sentence, visit) };
  }

  reward(state: number): number | Promise<number> {
    this.visited.add(state);
    if (this.#options.dynamicSeeds !== true) {
      const known = this.#rewards.get(state);
      if (known !== undefined) return known;
    }
    return this.#lookedUp(state);
  }

  async #lookedUp(state: number): Promise<number> {
    const observation = await this.observe(state);
    const reward = this.#options.reward.of(observation) + (state === this.goal ? this.bonus : 0);
    this.#rewards.set(state, reward);
    return reward;
  }

  /** Draws the picture with its neighbours, as many as the source likes at once. */
  async observe(state: number): Promise<Observation> {
    this.visited.add(state);
    const { memory, dynamicSeeds, signal } = this.#options;
    if (dynamicSeeds === true) {
      const visit = this.#visits.get(state) ?? 0;
      this.#visits.set(state, visit + 1);
      return (await memory.observe([this.request(state, visit)], signal))[0]!;
    }
    const request = this.request(state);
    const batch = memory.knows(request) ? [request] : this.#withNeighbours(state);
    return (await memory.observe(batch, signal))[0]!;
  }

  /** Draws many states at once, for agents that look at all. */
  async prepare(states: Iterable<number>): Promise<void> {
    const { memory, signal } = this.#options;
    const missing = [...states]
      .map((state) => this.request(state))
      .filter((request) => !memory.knows(request));
    const size = memory.source.batchSize;
    for (let start = 0; start < missing.length; start += size)
      await memory.observe(missing.slice(start, start + size), signal);
  }

  /** The state and the nearest ones that were not drawn yet, up to a batch. */
  #withNeighbours(state: number): PictureRequest[] {
    const { memory } = this.#options;
    const batch = [this.request(state)];
    const seen = new Set([state]);
    const { batchSize, ahead = batchSize } = memory.source;
    for (const near of seen) {
      if (batch.length >= ahead || seen.size > 4 * ahead) break;
      for (const neighbour of this.grid.neighbours(near)) {
        if (seen.has(neighbour)) continue;
        seen.add(neighbour);
        const request = this.request(neighbour);
        if (batch.length < ahead && !memory.knows(request)) batch.push(request);
      }
    }
    return batch;
  }
}
