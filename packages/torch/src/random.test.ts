import { expect, test } from 'vitest';
import {
  largestSeed,
  noiseKey,
  normal,
  Random,
  type Seed,
  scope,
  seedAfter,
  seedOf,
  uniform,
} from './index.js';

type Words = [number, number, number, number];

/** Philox 4x32-10 written out from the paper (Salmon et al. 2011, section 3.3), as the reference. */
function philox(counter: Words, key: [number, number]): Words {
  let [a, b, c, d] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const first = BigInt(0xd2511f53) * BigInt(a);
    const second = BigInt(0xcd9e8d57) * BigInt(c);
    const high = (product: bigint) => Number(product >> 32n);
    const low = (product: bigint) => Number(product & 0xffffffffn);
    [a, b, c, d] = [(high(second) ^ b ^ k0) >>> 0, low(second), (high(first) ^ d ^ k1) >>> 0, low(first)];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [a, b, c, d];
}

const hex = (words: readonly number[]) => words.map((word) => word.toString(16).padStart(8, '0')).join(' ');

test('the reference gives the known answers of the Random123 distribution (kat_vectors, philox4x32 10)', () => {
  expect(hex(philox([0, 0, 0, 0], [0, 0]))).toBe('6627e8d5 e169c58d bc57ac4c 9b00dbd8');
  const ones = 0xffffffff;
  expect(hex(philox([ones, ones, ones, ones], [ones, ones]))).toBe('408f276d 41c83b0e a20bc7c6 6d5451fd');
  expect(hex(philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]))).toBe(
    'd16cfe09 94fdcceb 5001e420 24126ea1',
  );
});

/** The generator's words: uniform() in float64 is (word + 1/2) / 2^32. */
const wordsOf = (key: Uint32Array, count: number) =>
  scope(() =>
    uniform([key], [count], { dtype: 'float64' })
      .toNumbers()
      .map((u) => u * 2 ** 32 - 0.5),
  );

test('uniform noise is Philox 4x32-10 with the key in words 0-1 and the sub-sequence in words 2-3', () => {
  expect(hex(wordsOf(new Uint32Array(4), 4))).toBe('6627e8d5 e169c58d bc57ac4c 9b00dbd8');
  const key = noiseKey(11, 'philox', 3);
  const [k0, k1, s0, s1] = key as unknown as Words;
  const expected = Array.from({ length: 5 }, (_, block) => philox([block, 0, s0, s1], [k0, k1])).flat();
  expect(wordsOf(key, 20)).toEqual(expected);
});

test('normal noise is Box-Muller of the same words', () => {
  const key = noiseKey(11, 'box-muller');
  const u = scope(() => uniform([key], [5], { dtype: 'float64' }).toNumbers());
  const expected = [0, 2].flatMap((i) => {
    const radius = Math.sqrt(-2 * Math.log(u[i] as number));
    const angle = 2 * Math.PI * (u[i + 1] as number);
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  });
  const drawn = scope(() => normal([key], [4], { dtype: 'float64' }).toNumbers());
  drawn.forEach((value, i) => {
    expect(value).toBeCloseTo(expected[i] as number, 13);
  });
});

test('a sample depends on its key alone, bit for bit: not on batch, order, or the length before an odd end', () => {
  const keys = Array.from({ length: 7 }, (_, i) => noiseKey(5, 'sample', i));
  for (const draw of [normal, uniform]) {
    scope(() => {
      const batch = draw(keys, [3, 5]);
      const backwards = draw([...keys].reverse(), [3, 5]);
      keys.forEach((key, i) => {
        const alone = Buffer.from(draw([key], [3, 5]).bytes());
        expect(alone.equals(batch.select(0, i).bytes())).toBe(true);
        expect(alone.equals(backwards.select(0, 6 - i).bytes())).toBe(true);
        expect(alone.subarray(0, 28).equals(draw([key], [7]).bytes())).toBe(true);
      });
      expect(draw([], [3]).shape).toEqual([0, 3]);
      expect(draw(keys, []).shape).toEqual([7]);
    });
  }
});

test('dtypes: the same numbers, rounded', () => {
  scope(() => {
    const key = [noiseKey(5, 'dtype')];
    const wide = normal(key, [100], { dtype: 'float64' });
    for (const dtype of ['float32', 'bfloat16', 'float16'] as const) {
      const narrow = normal(key, [100], { dtype });
      expect(narrow.dtype).toBe(dtype);
      expect(narrow.toNumbers()).toEqual(wide.to('float32').to(dtype).toNumbers());
    }
  });
});

test('moments and range', () => {
  const count = 100_000;
  scope(() => {
    const n = normal([noiseKey(1, 'moments')], [count]);
    expect(Math.abs(n.mean().item())).toBeLessThan(4 / Math.sqrt(count));
    expect(Math.abs(n.variance().item() - 1)).toBeLessThan(4 * Math.sqrt(2 / count));
    expect(Math.abs(n.pow(3).mean().item())).toBeLessThan(4 * Math.sqrt(15 / count));
    expect(Math.abs(n.pow(4).mean().item() - 3)).toBeLessThan(4 * Math.sqrt(96 / count));
    expect(n.isfinite().to('float32').mean().item()).toBe(1);
    const pairs = n.reshape([-1, 2]);
    expect(Math.abs(pairs.select(1, 0).mul(pairs.select(1, 1)).mean().item())).toBeLessThan(
      4 / Math.sqrt(count / 2),
    );
    const u = uniform([noiseKey(1, 'range')], [count]);
    expect(u.amin().item()).toBeGreaterThanOrEqual(0);
    expect(u.amax().item()).toBeLessThan(1);
    expect(Math.abs(u.mean().item() - 0.5)).toBeLessThan(4 * Math.sqrt(1 / 12 / count));
    expect(Math.abs(u.variance().item() - 1 / 12)).toBeLessThan(4 * Math.sqrt(1 / 180 / count));
  });
});

test('keys: seed, purpose, every part and the order of the path count', () => {
  const keys = [
    noiseKey(1, 'a'),
    noiseKey(2, 'a'),
    noiseKey(2 ** 32 + 1, 'a'),
    noiseKey(1, 'b'),
    noiseKey(1, 'ab'),
    noiseKey(1, 'a', 0),
    noiseKey(1, 'a', 0, 0),
    noiseKey(1, 'a', 1, 2),
    noiseKey(1, 'a', 2, 1),
    noiseKey(1, 'a', 2 ** 32),
  ];
  expect(new Set(keys.map(String)).size).toBe(keys.length);
  expect(String(noiseKey(1, 'a', 1, 2))).toBe(String(noiseKey(1, 'a', 1, 2)));
  for (const bad of [-1, 0.5, Number.NaN, 2 ** 53]) {
    expect(() => noiseKey(bad, 'a')).toThrow(/cannot be a seed or index/);
    expect(() => noiseKey(1, 'a', bad)).toThrow(/cannot be a seed or index/);
  }
});

test('Random: the same key, the same decisions; ranges, evenness, permutations', () => {
  const random = () => new Random(noiseKey(9, 'host'));
  const list = Array.from({ length: 20 }, (_, i) => i);
  expect(random().shuffle(list)).toEqual(random().shuffle(list));
  expect([...random().shuffle(list)].sort((a, b) => a - b)).toEqual(list);
  expect(list).toEqual(Array.from({ length: 20 }, (_, i) => i)); // the argument is left alone
  const drawn = random();
  const counts = new Array(10).fill(0);
  for (let i = 0; i < 10_000; i++) counts[drawn.integer(10)]++;
  const chiSquare = counts.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
  expect(chiSquare).toBeLessThan(27.9); // 99.9 % point at 9 degrees of freedom
  expect(['x', 'y']).toContain(random().choice(['x', 'y']));
  expect(() => random().choice([])).toThrow(/empty/);
  expect(() => random().integer(0)).toThrow(/positive integer/);
});

test('seeds of 64 bits: a BigInt goes on where numbers end, and none is lost', () => {
  const key = (seed: Seed) => String(noiseKey(seed, 'a', 1));
  expect(key(7n)).toBe(key(7));
  expect(key(BigInt(Number.MAX_SAFE_INTEGER))).toBe(key(Number.MAX_SAFE_INTEGER));
  const large = [2n ** 53n, 2n ** 53n + 1n, 2n ** 63n, 2n ** 63n + 1n, largestSeed, largestSeed - 1n];
  expect(new Set(large.map(key)).size).toBe(large.length);
  for (const bad of [-1n, largestSeed + 1n, 2 ** 53])
    expect(() => noiseKey(bad, 'a')).toThrow(/cannot be a seed or index/);
});

test('a seed is read from a text, a number or a BigInt, exactly or not at all', () => {
  expect(['0', ' 12 ', 12n, 9007199254740991n].map(seedOf)).toEqual([0, 12, 12, 9007199254740991]);
  expect(seedOf('18446744073709551615')).toBe(largestSeed);
  expect(() => seedOf('18446744073709551616')).toThrow(
    'expected a whole number from 0 to 18446744073709551615',
  );
  expect(() => seedOf('-1')).toThrow('expected a whole number from 0');
  expect(() => seedOf(1.5)).toThrow('expected a whole number from 0');
  expect(() => seedOf(2 ** 60)).toThrow('has lost digits — from 2^53 on give a BigInt');
  expect([seedAfter(5, 3), seedAfter(Number.MAX_SAFE_INTEGER, 1), seedAfter(largestSeed, 1)]).toEqual([
    8,
    2n ** 53n,
    0,
  ]);
});
