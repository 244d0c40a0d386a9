import { mkdirSync, mkdtempSync, renameSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CLIPModel, CLIPTokenizer, fromVocabulary } from '@rldf/models';
import { grad, liveTensors, Parameters, scope, type Tensor, tensor, writeSafetensors } from '@rldf/torch';
import { expect, test } from 'vitest';
import { clipScore, loadClipScore } from './clip-score.js';

const vocabulary = Object.fromEntries(
  ['a', 'b', 'a</w>', 'b</w>', '<|startoftext|>', '<|endoftext|>'].map((token, id) => [token, id]),
);
const tokenizer = new CLIPTokenizer(fromVocabulary(vocabulary, []), { model_max_length: 4 });
const tower = {
  hidden_size: 8,
  intermediate_size: 16,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  hidden_act: 'quick_gelu',
};
const config = {
  projection_dim: 6,
  text_config: {
    ...tower,
    vocab_size: 6,
    max_position_embeddings: 4,
    bos_token_id: 4,
    eos_token_id: 5,
    pad_token_id: 5,
  },
  vision_config: { ...tower, image_size: 8, patch_size: 4, num_channels: 3 },
};
const parameters = Parameters.random(1);
const clip = new CLIPModel(config, parameters.at());
const parts = {
  clip,
  tokenizer,
  imageSize: 8,
  imageMean: [0.5, 0.4, 0.3] as const,
  imageStd: [0.2, 0.3, 0.4] as const,
};

/** Two pictures of the given size, uint8 [2, H, W, 3]. */
const pictures = (height: number, width: number) =>
  tensor(
    Uint8Array.from({ length: 2 * height * width * 3 }, (_, i) => (i * 37 + (i >> 3) * 11) % 256),
    {
      shape: [2, height, width, 3],
    },
  );
const batch = (images: Tensor) => ({ images, prompts: ['a', 'b'], meta: [null, null] });

test('the score is 100 times the cosine of the normalised picture and the prompt', async () => {
  const images = pictures(8, 8);
  const scores = await clipScore(parts).score(batch(images));
  const data = images.toArray() as Uint8Array;
  const pixels = new Float32Array(2 * 3 * 64);
  for (let i = 0; i < data.length; i++) {
    const [picture, pixel, channel] = [Math.floor(i / 192), Math.floor((i % 192) / 3), i % 3];
    const value = data[i]! / 255;
    pixels[picture * 192 + channel * 64 + pixel] =
      (value - parts.imageMean[channel]!) / parts.imageStd[channel]!;
  }
  const image = clip.vision.forward(tensor(pixels, { shape: [2, 3, 8, 8] })).imageEmbeds.toArray();
  const ids = tensor([4, 2, 5, 5, 4, 3, 5, 5], { shape: [2, 4], dtype: 'int64' });
  const text = clip.text.forward(ids).textEmbeds.toArray();
  for (const row of [0, 1]) {
    const [x, y] = [image, text].map((all) =>
      Array.from(all.subarray(row * 6, row * 6 + 6) as Float32Array),
    ) as [number[], number[]];
    const dot = (a: number[], b: number[]) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
    expect(scores[row]).toBeCloseTo((100 * dot(x, y)) / Math.sqrt(dot(x, x) * dot(y, y)), 3);
  }
});

test('pictures of any size are scored, and nothing is left behind', async () => {
  const reward = clipScore(parts);
  await reward.score(batch(pictures(8, 8)));
  const images = pictures(12, 20);
  const before = liveTensors();
  const scores = await reward.score(batch(images));
  expect(scores.every((score) => Math.abs(score) <= 100)).toBe(true);
  expect(liveTensors()).toBe(before);
});

test('the differentiable form agrees, and its gradient is that of finite differences', async () => {
  const reward = clipScore(parts);
  const images = pictures(8, 8);
  const plain = await reward.score(batch(images));
  const images01 = images.permute([0, 3, 1, 2]).to('float32').div(255).contiguous().requiresGrad_();
  const scores = reward.differentiable!(images01, ['a', 'b']);
  expect(scores.toNumbers().map((value) => value.toFixed(3))).toEqual(plain.map((value) => value.toFixed(3)));
  const [gradient] = grad(scores.sum(), [images01]) as [Tensor];
  const step = 1e-2;
  const direction = gradient.div(gradient.norm());
  const at = (sign: number) =>
    scope(() =>
      reward.differentiable!(images01.detach().add(direction.mul(sign * step)), ['a', 'b'])
        .sum()
        .item(),
    );
  const slope = (at(1) - at(-1)) / (2 * step);
  expect(slope / gradient.norm().item()).toBeCloseTo(1, 1);
});

test('a CLIP folder is loaded with its preprocessor, and a missing file is named', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'rldf-clip-'));
  mkdirSync(folder, { recursive: true });
  expect(() => loadClipScore(folder)).toThrow(join(folder, 'config.json'));
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  writeFileSync(
    join(folder, 'preprocessor_config.json'),
    JSON.stringify({ image_mean: parts.imageMean, image_std: parts.imageStd }),
  );
  tokenizer.save(folder);
  expect(() => loadClipScore(folder)).toThrow('model.safetensors');
  writeSafetensors(join(folder, 'model.safetensors'), parameters.state());
  const images = pictures(8, 8);
  const loaded = await loadClipScore(folder).score(batch(images));
  // as half the hub has it
  renameSync(join(folder, 'model.safetensors'), join(folder, 'model.fp16.safetensors'));
  expect(await loadClipScore(folder).score(batch(images))).toEqual(loaded);
  const expected = await clipScore(parts).score(batch(images));
  expect(loaded.map((value) => value.toFixed(4))).toEqual(expected.map((value) => value.toFixed(4)));
});
