import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { schedulerConfig } from '@rldf/common/instruments/configs';
import { findModel } from '@rldf/common/instruments/models';
import {
  type GroundedObject,
  generate,
  loadPipeline,
  NoiseSchedule,
  type Pipeline,
  readJson,
} from '@rldf/models';
import { setThreads, type Tensor, tensor, zeros } from '@rldf/torch';
import { expect, test } from 'vitest';
import { groundedBatch, withGatedLayers } from './gligen.js';
import { runPretraining } from './index.js';

setThreads(1);

const cat: GroundedObject[] = [{ phrase: 'a cat', box: [0, 0.5, 0.5, 1] }];

async function drawn(pipeline: Pipeline, objects?: GroundedObject[]): Promise<Uint8Array> {
  const options = { prompts: ['a cat'], seeds: [1], steps: 2, groundingBeta: 1 };
  const { images, latents } = await generate(pipeline, {
    ...options,
    ...(objects && { objects: [objects] }),
  });
  images.free();
  return latents.bytes();
}

test('the stage trains gated layers and position net alone, and writes a model that hears boxes', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gligen-stage-'));
  const { path } = findModel('emoji');
  const base = loadPipeline(path);
  expect(await drawn(withGatedLayers(base, 0), cat)).toEqual(await drawn(base)); // before: exactly the base
  const options = { folder, steps: 3, batchSize: 2, cachedScenes: 12, learningRate: 0.5, seed: 1 };
  await runPretraining('gligen', { ...options, onEvent: () => {} });
  const model = join(folder, 'gligen', 'model');
  expect(readJson(join(model, 'model_index.json'))._class_name).toBe('StableDiffusionGLIGENPipeline');
  const trained = loadPipeline(model);
  expect(trained.unet.grounded).toBe(true);
  const weights = trained.parameters.unet.entries;
  const same = (name: string, bytes: Uint8Array) => Buffer.from(bytes).equals(weights.get(name)!.bytes());
  const moved = [...base.parameters.unet.entries].filter(([name, weight]) => !same(name, weight.bytes()));
  expect(moved.map(([name]) => name)).toEqual([]); // float16 on disk, before and after
  expect(await drawn(trained, cat)).not.toEqual(await drawn(trained));
});

test('boxes go with dropped captions and alone; all else is told where it is; half of the pictures are noise alone', () => {
  const cache = { latents: zeros([3, 1, 2, 2]), tokens: tensor([[1], [2], [3]], { dtype: 'int64' }) };
  const objects: GroundedObject[][] = [cat, [{ phrase: 'a dog', box: [0.25, 0, 1, 0.5] }, ...cat], []];
  const features = tensor([[1, 2], [3, 4]]); // biome-ignore format: rows
  const shown = { objects, phrases: ['a cat', 'a dog'], features };
  const options = { batchSize: 300, seed: 0, captionDropout: 0.2, boxDropout: 0.25 };
  const empty = tensor([[9]], { dtype: 'int64' });
  const batch = groundedBatch(cache, shown, empty, new NoiseSchedule(schedulerConfig), 0, {
    ...options,
    folder: '',
    steps: 1,
    learningRate: 1,
  });
  const { masks, boxes, phrases } = batch.grounding;
  const counts = masks.sum(1).toNumbers();
  const share = { told: 0, quiet: 0 };
  for (const [i, id] of batch.ids.toNumbers().entries()) {
    const own = objects[id - 1];
    if (own === undefined)
      expect(counts[i]).toBe(0); // its caption was dropped
    else if (own.length > 0) share[counts[i] === 0 ? 'quiet' : 'told']++;
    if (own !== undefined && counts[i] !== 0) {
      expect(counts[i]).toBe(own.length);
      const row = boxes.select(0, i).toNumbers();
      expect(row.slice(0, 4 * own.length)).toEqual(own.flatMap(({ box }) => [...box]));
      const said = phrases.select(0, i).toNumbers();
      const expected = own.flatMap(({ phrase }) => (phrase === 'a cat' ? [1, 2] : [3, 4]));
      expect(said.slice(0, 2 * own.length)).toEqual(expected);
      expect(said.slice(2 * own.length).every((value) => value === 0)).toBe(true);
    }
  }
  expect(share.quiet / (share.quiet + share.told)).toBeGreaterThan(0.15);
  expect(share.quiet / (share.quiet + share.told)).toBeLessThan(0.35);
  const [noise, noisy] = [batch.noise, batch.noisy].map((all) => all.flatten(1));
  const apart = noisy!.sub(noise!).abs().sum(1).toNumbers();
  const begun = batch.timesteps.filter((_, i) => apart[i] === 0);
  const later = batch.timesteps.filter((_, i) => apart[i] !== 0);
  expect([begun.length, later.length]).toEqual([150, 150]);
  expect([Math.min(...begun) >= 900, Math.min(...later) >= 650, Math.min(...later) < 700]).toEqual([
    true,
    true,
    true,
  ]);
  expect(Math.max(...batch.timesteps)).toBeLessThan(1000);
});

test('objects begin apart: their keys differ by more than half of their size', async () => {
  const pipeline = withGatedLayers(loadPipeline(findModel('emoji').path), 0);
  const apart: number[] = [];
  for (const layer of pipeline.unet.gatedLayers)
    layer.watch = (_, [keys]) => {
      const [one, other] = [0, 1].map((object) => keys!.select(2, object)); // [B, heads, headDim]
      const size = (all: Tensor) => all.square().mean().sqrt().item();
      apart.push(size(one!.sub(other!)) / size(one!));
    };
  await drawn(pipeline, [...cat, { phrase: 'a dog', box: [0.5, 0, 1, 0.5] }]);
  expect(apart.length).toBeGreaterThanOrEqual(7);
  expect(Math.min(...apart)).toBeGreaterThan(0.5);
});
