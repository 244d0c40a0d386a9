import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tensorOfPictures } from '@rldf/common/base/picture';
import { loadClipFolder, pixelsOf, worldClip } from '@rldf/common/instruments/frozen-clip';
import { AestheticPredictor } from '@rldf/models';
import { grad, noGrad, Parameters, setThreads, writeSafetensors } from '@rldf/torch';
import { afterAll, expect, test } from 'vitest';
import { loadClipScore } from './clip-score.js';
import { aestheticReward, clipModelReward } from './public-scorers.js';

setThreads(1);
const folder = mkdtempSync(join(tmpdir(), 'rldf-scorers-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const prompts = ['a cat', 'a dog'];
const size = 64;
const images = [0, 1].map((shift) => ({
  width: size,
  height: size,
  channels: 3 as const,
  data: Uint8Array.from({ length: size * size * 3 }, (_, i) => (i * (7 + shift) + 31 * shift) % 256),
}));
const batch = tensorOfPictures(images);
const images01 = noGrad(() => batch.permute([0, 3, 1, 2]).to('float32').div(255)); // [B, 3, H, W]
const frozen = loadClipFolder(worldClip());

test('a CLIP folder scores by its cosine, times its scale if asked for; both functions agree', async () => {
  const cosines = (await loadClipScore().score({ images: batch, prompts, meta: [null, null] })).map(
    (s) => s / 100,
  );
  const scale = Math.exp(frozen.clip.logitScale.item());
  for (const [scaled, factor] of [
    [true, scale],
    [false, 1],
  ] as const) {
    const { reward, differentiable } = clipModelReward(worldClip(), { scaled });
    const scores = await reward({ images, prompts, meta: [null, null] });
    const followed = noGrad(() => differentiable(images01, prompts)).toNumbers() as number[];
    scores.forEach((score, i) => {
      expect(score).toBeCloseTo((cosines[i] as number) * factor, 4);
      expect(followed[i]).toBeCloseTo(score, 4);
    });
  }
});

test('LAION’s head: five layers without activations on unit vectors, and a gradient down to the pixels', async () => {
  const dims = frozen.clip.config.projection_dim as number;
  const random = Parameters.random(3);
  const options = { widths: [1024, 128, 64, 16], relu: false };
  const head = new AestheticPredictor(random.at(), dims, options);
  const file = join(folder, 'head.safetensors');
  writeSafetensors(file, random.state());
  const { reward, differentiable } = aestheticReward(worldClip(), file);
  const embeddings = noGrad(() => frozen.clip.encodeImage(pixelsOf(frozen, images01)));
  const expected = noGrad(() => head.forward(embeddings)).toNumbers() as number[];
  const scores = await reward({ images, prompts, meta: [null, null] });
  scores.forEach((score, i) => {
    expect(score).toBeCloseTo(expected[i] as number, 5);
  });
  const pixels = images01.clone().requiresGrad_();
  const [gradient] = grad(differentiable(pixels, prompts).sum(), [pixels]);
  expect(gradient!.abs().sum().item()).toBeGreaterThan(0);
});

test('weights are looked for when they are needed, and then missed by name', async () => {
  const { reward } = clipModelReward(join(folder, 'nowhere'));
  await expect(reward({ images, prompts, meta: [] })).rejects.toThrow(/no folder .*nowhere.*README/);
  const { reward: aesthetic } = aestheticReward(worldClip(), join(folder, 'no-head'));
  await expect(aesthetic({ images, prompts, meta: [] })).rejects.toThrow(/no file .*no-head/);
});
