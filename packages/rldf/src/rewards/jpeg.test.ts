import { tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { jpegBytes, jpegCompressibility, jpegIncompressibility } from './jpeg.js';

/** Mulberry32. */
function uniforms(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

function picture(kind: string, width: number, height: number): Uint8Array {
  const random = uniforms(7);
  const value = (x: number, y: number, c: number) => {
    if (kind === 'random') return Math.floor(random() * 256);
    if (kind === 'flat') return [200, 30, 90][c]!;
    if (kind === 'gradient') return Math.floor(255 * [x / width, y / height, (x + y) / (width + height)][c]!);
    return ((x >> 3) + (y >> 3)) % 2 ? 240 : [20, 90, 160][c]!;
  };
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < data.length; i++) {
    const pixel = Math.floor(i / 3);
    data[i] = value(pixel % width, Math.floor(pixel / width), i % 3);
  }
  return data;
}

// Byte counts of `Image.save(buffer, 'JPEG', quality=95)`, Pillow 13.0.0, of the same pixels.
test.each([
  ['random', 64, 64, 5430],
  ['flat', 64, 64, 693],
  ['gradient', 64, 64, 1320],
  ['checker', 64, 64, 1461],
  ['random', 512, 512, 308245],
  ['gradient', 512, 512, 21507],
  ['checker', 512, 512, 53625],
  ['random', 48, 80, 5130],
  ['random', 65, 63, 5720],
  ['gradient', 65, 63, 1431],
])('%s picture of %i x %i is %i bytes, as with PIL', async (kind, width, height, bytes) => {
  expect(await jpegBytes(picture(kind, width, height), width, height)).toBe(bytes);
});

test('rewards are the size in kB with its sign, one a picture in order', async () => {
  const pixels = new Uint8Array([...picture('random', 64, 64), ...picture('flat', 64, 64)]);
  using images = tensor(pixels, { shape: [2, 64, 64, 3], dtype: 'uint8' });
  const batch = { images, prompts: ['a', 'b'], meta: [null, null] };
  expect(await jpegCompressibility.score(batch)).toEqual([-5.43, -693 / 1000]);
  expect(await jpegIncompressibility.score(batch)).toEqual([5.43, 693 / 1000]);
});
