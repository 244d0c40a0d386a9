import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { contactSheet } from '@rldf/common/drawing/grid';
import { baseKey } from '@rldf/common/instruments/adapter-base';
import { nouns } from '@rldf/emoji-world';
import { LoraAdapter, saveLora, savePipeline, tinyPipeline, UNET_ATTENTION } from '@rldf/models';
import { liveTensors, scope, setThreads, type Tensor } from '@rldf/torch';
import { beforeAll, expect, test, vi } from 'vitest';
import { withBoxes } from './boxes.js';
import { type EvaluateOptions, evaluate } from './evaluate.js';
import type { Judges, LoadedJudges } from './judges.js';
import { writeEvaluation } from './page.js';
import { pictureSeed } from './seeds.js';

setThreads(1);
const folder = mkdtempSync(join(tmpdir(), 'rldf-eval-'));
const model = join(folder, 'model');
const adapter = join(folder, 'adapter.safetensors');

beforeAll(() => {
  const pipeline = tinyPipeline();
  savePipeline(pipeline, model);
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
});

const brightness = (images: Tensor) => {
  const [count] = images.shape as [number];
  const bytes = images.toArray() as Uint8Array;
  const size = bytes.length / count;
  return Array.from({ length: count }, (_, i) =>
    bytes.subarray(i * size, (i + 1) * size).reduce((sum, byte) => sum + byte / size, 0),
  );
};

/** Judges that look at nothing but brightness: enough to see that pictures reach them in order. */
const judges: Judges = {
  classify: (images) => brightness(images).map((value) => nouns[Math.round(value) % nouns.length]!.name),
  detect: (images) => brightness(images).map(() => [{ label: 'cat', score: 0.9, box: [1, 1, 5, 5] }]),
  clipScores: async (images) => brightness(images),
  preferences: async (images) => brightness(images),
  features: (images) => brightness(images).map((value) => [value, 1, value ** 2]),
};
const all: LoadedJudges = { judges, by: { clip: 'brightness' }, missing: {} };
const options: EvaluateOptions = {
  suites: ['clip', 'diversity', 'spatial'],
  arms: [{ model }],
  maxPrompts: 3,
  pictures: 2,
  steps: 2,
  judges: all,
};

test('numbers do not depend on the batch, repeat to the digit, and leave no tensors behind', async () => {
  const before = liveTensors();
  const whole = await evaluate({ ...options, batchSize: 64 });
  const pieces = await evaluate({ ...options, batchSize: 1 });
  expect(liveTensors()).toBe(before);
  expect(whole.suites.clip!.metrics).toEqual(pieces.suites.clip!.metrics);
  expect(Object.keys(whole.suites)).toEqual(['clip', 'diversity', 'spatial']);
  expect(whole.suites.clip!.metrics.clipScore).toMatchObject({ n: 6, prompts: 3 });
  expect(whole.suites.clip!.judges).toEqual(['brightness']);
  expect(whole.pictures.length).toBe(3 * 6);
});

test('a set is drawn once for all suites that ask for it', async () => {
  const seen: number[] = [];
  const counting: Judges = {
    ...judges,
    clipScores: async (images) => {
      seen.push(images.shape[0]!);
      return brightness(images);
    },
  };
  let drawn = 0;
  await evaluate({
    ...options,
    suites: ['clip', 'diversity'],
    judges: { ...all, judges: counting },
    onProgress: (done, total) => {
      drawn = done;
      expect(total).toBe(6);
    },
  });
  expect([seen, drawn]).toEqual([[6], 6]);
});

test('two arms are drawn on the same noise: a model beside itself differs in nothing', async () => {
  const { suites } = await evaluate({ ...options, suites: ['clip'], arms: [{ model }, { model }] });
  expect(suites.clip!.differences).toEqual({
    clipScore: { difference: 0, ci95: [0, 0], winRate: 0.5, winRateCi95: [0.5, 0.5] },
  });
});

test('an adapter changes its own arm only, and is gone afterwards', async () => {
  const pipeline = tinyPipeline();
  const lora = LoraAdapter.attach(pipeline.parameters.unet, { rank: 2, seed: 3, targets: UNET_ATTENTION });
  for (const [i, tensor] of lora.trainable().entries())
    if (i % 2 === 1) scope(() => void tensor.detach().add_(0.5));
  saveLora(adapter, { unet: lora });
  lora.remove();
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  const before = liveTensors();
  const adapters = [{ path: adapter, strength: 1 }];
  const { suites } = await evaluate({ ...options, suites: ['clip'], arms: [{ model, adapters }, { model }] });
  const plain = await evaluate({ ...options, suites: ['clip'] });
  expect(suites.clip!.differences!.clipScore!.difference).not.toBe(0);
  expect(suites.clip!.against).toEqual(plain.suites.clip!.metrics);
  expect(liveTensors()).toBe(before);
});

test('an adapter of another base model is refused', async () => {
  const pipeline = tinyPipeline();
  const lora = LoraAdapter.attach(pipeline.parameters.unet, { rank: 2, seed: 3, targets: UNET_ATTENTION });
  const path = join(folder, 'other.safetensors');
  saveLora(path, { unet: lora }, { metadata: { [baseKey]: 'another' } });
  lora.remove();
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  const before = liveTensors();
  const arms = [{ model, adapters: [{ path, strength: 1 }] }];
  await expect(evaluate({ ...options, suites: ['clip'], arms })).rejects.toThrow(
    /other\.safetensors: made on another base model \(another\)/,
  );
  expect(liveTensors()).toBe(before);
});

test('page, numbers, records and sheets are written', async () => {
  const output = join(folder, 'out');
  const { numbers, page } = await writeEvaluation(output, await evaluate(options));
  expect(JSON.parse(readFileSync(join(output, 'eval.json'), 'utf8'))).toEqual(numbers);
  expect(Object.keys(numbers.metrics)).toContain('ipRldfAccuracy');
  expect(numbers.settings).toEqual({ steps: 2, guidanceScale: expect.any(Number), eta: 0 });
  const lines = readFileSync(join(output, 'pictures.jsonl'), 'utf8').trim().split('\n');
  expect(lines.length).toBe(2 * 6); // those of diversity are embeddings
  const record = JSON.parse(lines[0]!);
  expect(record.seed).toBe(pictureSeed(record.prompt, record.number));
  expect(readFileSync(page, 'utf8')).toContain('spatial.png');
  for (const name of ['spatial.png', 'clip.png']) expect(existsSync(join(output, name))).toBe(true);
});

test('missing judges are an error, or left out and said so', async () => {
  const missing = { ...all, missing: { detector: 'instrument judge-detector: there is none of that name' } };
  await expect(evaluate({ ...options, judges: missing })).rejects.toThrow(
    'suite spatial: instrument judge-detector',
  );
  const { skipped, suites } = await evaluate({ ...options, judges: missing, skipMissing: true });
  expect([Object.keys(skipped), Object.keys(suites)]).toEqual([['spatial'], ['clip', 'diversity']]);
  await expect(evaluate({ ...options, suites: ['spacial'] })).rejects.toThrow('there are single, spatial');
});

test('what no machine draws, and what this one cannot hold, is refused before a picture', async () => {
  const drawn = {
    judges: { ...all, judges: { ...judges, clipScores: () => Promise.reject(new Error('drawn')) } },
  };
  await expect(evaluate({ ...options, ...drawn, pictures: 1e9 })).rejects.toThrow(
    /suite clip: 1000000000 pictures of each prompt are 3000000000 in all — at most 1000000 .*--pictures or --max-prompts/,
  );
  const memory = vi.spyOn(process, 'constrainedMemory').mockReturnValue(501e6);
  const batch = { pictures: 400, batchSize: 1200 };
  await expect(evaluate({ ...options, ...drawn, ...batch })).rejects.toThrow(
    /^1200 pictures of .* this machine has 501.0 MB/,
  );
  memory.mockRestore();
});

test('noise differs between prompts and pictures, and is named by them alone', () => {
  const seeds = [pictureSeed('a cat', 0), pictureSeed('a cat', 1), pictureSeed('a dog', 0)];
  expect(new Set(seeds).size).toBe(3);
  expect(pictureSeed('a cat', 0)).toBe(seeds[0]);
});

test('frames are drawn where the detections are', async () => {
  const grey = { width: 8, height: 8, channels: 3 as const, data: new Uint8Array(8 * 8 * 3).fill(100) };
  const framed = withBoxes(grey, [{ label: 'cat', score: 1, box: [2, 2, 6, 7] }], 2);
  const tone = (x: number, y: number) => [...framed.data.subarray((y * 16 + x) * 3, (y * 16 + x) * 3 + 3)];
  expect([framed.width, framed.height]).toEqual([16, 16]);
  expect([tone(4, 4), tone(11, 13), tone(8, 4)]).toEqual(Array(3).fill([220, 38, 38]));
  expect([tone(8, 8), tone(3, 4), tone(12, 4)]).toEqual(Array(3).fill([100, 100, 100]));
  expect((await contactSheet([{ pictures: [framed], label: 'x' }])).length).toBeGreaterThan(100);
});
