import { correlation, mean } from '@rldf/common/base/stats';
import { loadArt, renderScene, sampleScene } from '@rldf/emoji-world';
import { setThreads, tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { jpegCompressibility } from './jpeg.js';
import { loadJpegEstimate } from './jpeg-estimate.js';

setThreads(1);

test('scenes of the world: the estimate follows the size of real files', async () => {
  const art = await loadArt('noto');
  const scenes = Array.from({ length: 60 }, (_, i) => renderScene(sampleScene('train', 1, i), art));
  const pixels = new Uint8Array(scenes.flatMap((scene) => [...scene]));
  using images = tensor(pixels, { shape: [60, 64, 64, 3], dtype: 'uint8' });
  const batch = { images, prompts: scenes.map(() => ''), meta: scenes.map(() => null) };
  const real = await jpegCompressibility.score(batch);
  const estimated = await loadJpegEstimate().score(batch);
  expect(correlation(real, estimated)).toBeGreaterThan(0.98);
  expect(Math.abs(mean(estimated) / mean(real) - 1)).toBeLessThan(0.05);
});

test('one colour has no coefficient but the blocks’ means: the header alone', async () => {
  using images = tensor(new Uint8Array(64 * 64 * 3).fill(77), { shape: [1, 64, 64, 3], dtype: 'uint8' });
  const [score] = await loadJpegEstimate().score({ images, prompts: [''], meta: [null] });
  expect(score).toBeCloseTo(-0.651, 3); // float32 cosines do not sum to 0 exactly
});

test('a wave along one coefficient counts as that coefficient', async () => {
  // 64 x 64 grey: a cosine along one axis, of amplitude 20, in every block
  const data = new Uint8Array(64 * 64 * 3);
  const wave = (x: number) => Math.round(128 + 20 * Math.cos(((2 * (x & 7) + 1) * 3 * Math.PI) / 16));
  for (let i = 0; i < 64 * 64; i++) data.fill(wave(i % 64), 3 * i, 3 * i + 3);
  using images = tensor(data, { shape: [1, 64, 64, 3], dtype: 'uint8' });
  const [score] = await loadJpegEstimate().score({ images, prompts: [''], meta: [null] });
  // c = 1/√2/2 · 1/2 · 8 rows · 20 · Σ cos² (= 4) = 113.1; its step at quality 95 is 2 (16 · 0.1 + 0.5, floored)
  const bits = 64 * 0.5 * Math.log2(1 + (4 * 56.57) ** 2);
  expect((score as number) + 0.651).toBeLessThan(-bits * 2.195e-4 * 0.99);
  expect((score as number) + 0.651).toBeGreaterThan(-bits * 2.195e-4 * 1.25); // rounded pixels leave small others
});
