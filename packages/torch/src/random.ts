import { UserError } from './errors.js';
import type { TensorOptions } from './factories.js';
import { native } from './native.js';
import { scope } from './scope.js';
import { largestSeed, type Seed } from './seeds.js';
import { type Tensor, wrap } from './tensor.js';

/**
 * What a random number belongs to: four 32-bit words for the counter-based generator Philox 4x32-10 (Salmon et al.,
 * "Parallel random numbers: as easy as 1, 2, 3", 2011). There is no generator state: the same key always gives the
 * same numbers, whatever the batch size, order, device or number of workers.
 */
export type NoiseKey = Uint32Array;

/**
 * Key of (run seed, purpose, path), such as `noiseKey(7, 'step-noise', epoch, prompt, sample, step)`.
 * @param path integers in [0, 2^53)
 */
export function noiseKey(seed: Seed, purpose: string, ...path: number[]): NoiseKey {
  const key = new Uint32Array(4);
  // Four murmur3-style lanes over all words; each lane starts from its own constant.
  const lanes = [0x9e3779b9, 0x85ebca6b, 0xc2b2ae35, 0x27d4eb2f];
  const words = [...integerWords(seed), purpose.length, ...textWords(purpose), ...path.flatMap(integerWords)];
  for (let lane = 0; lane < 4; lane++) {
    let hash = lanes[lane] as number;
    for (const word of words) {
      hash ^= rotate(Math.imul(word, 0xcc9e2d51), 15);
      hash = (Math.imul(rotate(hash, 13), 5) + 0xe6546b64) | 0;
    }
    key[lane] = finalise(hash ^ words.length);
  }
  return key;
}

function integerWords(value: Seed): [number, number] {
  if (typeof value === 'bigint' && value >= 0n && value <= largestSeed)
    return [Number(value & 0xffffffffn), Number(value >> 32n)];
  if (typeof value === 'bigint' || !Number.isSafeInteger(value) || value < 0) {
    throw new UserError(
      `noiseKey: ${value} cannot be a seed or index — integers from 0 to 2^53 - 1, of seeds as BigInt to 2^64 - 1.`,
    );
  }
  return [value >>> 0, Math.floor(value / 4294967296)];
}

const textWords = (text: string) => Array.from(text, (char) => char.codePointAt(0) as number);
const rotate = (value: number, by: number) => (value << by) | (value >>> (32 - by));

function finalise(value: number): number {
  let hash = value;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

const philox = native.resolve('rldf::philox', '');

function draw(
  keys: readonly NoiseKey[],
  shape: readonly number[],
  options: TensorOptions,
  normal: boolean,
): Tensor {
  const { dtype = 'float32', device = 'cpu' } = options;
  const words = keys.flatMap((key) => [...key]);
  return scope(() => {
    const count = shape.reduce((product, size) => product * size, 1);
    const exact = wrap(native.call(philox, words, count, normal)).reshape([keys.length, ...shape]); // float64
    if (dtype === 'float64') return exact.to({ dtype, device });
    const scale = 2 ** 24; // to the nearest float32 a uniform number would reach 1
    const rounded = normal ? exact : exact.mul(scale).floor().div(scale);
    return rounded.to('float32').to({ dtype, device }); // half precisions are rounded from float32
  });
}

/** Standard normal noise, [keys.length, ...shape]; entry i depends on keys[i] alone. */
export function normal(
  keys: readonly NoiseKey[],
  shape: readonly number[],
  options: TensorOptions = {},
): Tensor {
  return draw(keys, shape, options, true);
}

/** Uniform noise in [0, 1), [keys.length, ...shape]; entry i depends on keys[i] alone. */
export function uniform(
  keys: readonly NoiseKey[],
  shape: readonly number[],
  options: TensorOptions = {},
): Tensor {
  return draw(keys, shape, options, false);
}

/** Decisions of the host (which prompt, which timestep) from the same keys: splitmix-style counter generator. */
export class Random {
  readonly #key: NoiseKey;
  #counter = 0;

  constructor(key: NoiseKey) {
    this.#key = key;
  }

  #word(): number {
    const counter = this.#counter++;
    let hash = finalise((this.#key[0] as number) ^ Math.imul(counter + 1, 0x9e3779b9));
    hash = finalise(hash ^ (this.#key[1] as number));
    hash = finalise(hash ^ (this.#key[2] as number) ^ counter);
    return finalise(hash ^ (this.#key[3] as number));
  }

  /** In [0, 1), 53 random bits. */
  uniform(): number {
    return ((this.#word() >>> 5) * 67108864 + (this.#word() >>> 6)) / 9007199254740992;
  }

  /** Integer in [0, count). */
  integer(count: number): number {
    if (!Number.isSafeInteger(count) || count < 1)
      throw new UserError(`Random.integer: count is ${count} — a positive integer is needed.`);
    return Math.floor(this.uniform() * count);
  }

  choice<T>(list: readonly T[]): T {
    if (list.length === 0) throw new UserError('Random.choice: the list is empty.');
    return list[this.integer(list.length)] as T;
  }

  /** A shuffled copy (Fisher-Yates). */
  shuffle<T>(list: readonly T[]): T[] {
    const copy = [...list];
    for (let i = copy.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      [copy[i], copy[j]] = [copy[j] as T, copy[i] as T];
    }
    return copy;
  }
}
