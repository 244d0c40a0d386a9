/**
 * Host-side random numbers of the world: a counter-based 32-bit hash, so that draw k of scene (seed, index) depends
 * on nothing else. (The finaliser is the public-domain "lowbias32" of Chris Wellons' hash prospector.)
 */
export class HashRandom {
  #key: number;
  #counter = 0;

  /** @param path integers (any sign, up to 2^53) that name the stream. */
  constructor(...path: number[]) {
    let key = 0x9e3779b9;
    for (const part of path) {
      key = mix(key ^ (part >>> 0));
      key = mix(key ^ (Math.floor(part / 0x1_0000_0000) >>> 0));
    }
    this.#key = key;
  }

  /** The next 32 bits, 0 .. 2^32 - 1. */
  bits(): number {
    this.#counter++;
    return mix(mix(this.#key ^ Math.imul(this.#counter, 0x9e3779b1)) ^ this.#key);
  }

  /** Uniform in [0, 1). */
  uniform(): number {
    return this.bits() / 0x1_0000_0000;
  }

  /** Uniform integer in [0, count). */
  integer(count: number): number {
    return Math.floor(this.uniform() * count);
  }

  chance(probability: number): boolean {
    return this.uniform() < probability;
  }

  choice<T>(items: readonly T[]): T {
    return items[this.integer(items.length)] as T;
  }

  /** An item with probability proportional to its weight (zero or more; at least one positive). */
  weighted<T>(items: readonly (readonly [T, number])[]): T {
    let total = 0;
    for (const [, weight] of items) total += weight;
    let at = this.uniform() * total;
    for (const [item, weight] of items) {
      at -= weight;
      if (at < 0) return item;
    }
    return items.findLast(([, weight]) => weight > 0)?.[0] as T;
  }

  /** `count` different items, in random order. */
  sample<T>(items: readonly T[], count: number): T[] {
    const pool = [...items];
    for (let i = 0; i < count; i++) {
      const j = i + this.integer(pool.length - i);
      [pool[i], pool[j]] = [pool[j] as T, pool[i] as T];
    }
    return pool.slice(0, count);
  }
}

function mix(value: number): number {
  let x = value >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

/** 32-bit hash of a string (FNV-1a over its UTF-16 units, then mixed). */
export function hashString(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return mix(hash);
}
