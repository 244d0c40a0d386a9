import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { imagesOf, quantise, sceneBatch } from '@rldf/common/instruments/scenes';
import { saveCheckpoint } from '@rldf/common/storage/checkpoint';
import { loadArt } from '@rldf/emoji-world';
import { NoiseSchedule } from '@rldf/models';
import { Linear, noiseKey, normal, Parameters, scope, setThreads, type Tensor, tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { fitTrainee, type Trainee } from './fit.js';
import { loadAveraged } from './parts.js';
import { fitPatchBasis, project, reconstruct } from './patch-basis.js';
import { snrWeight } from './unet.js';

setThreads(1);

test('pictures become tensors and come back', () => {
  const picture = Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * 7) % 256);
  expect(quantise(imagesOf([picture, picture]))).toEqual([picture, picture]);
});

test('all 192 components of the patch basis give the picture back; the latents have unit variance', async () => {
  const art = await loadArt('noto');
  const basis = fitPatchBasis(art, 1, 192, 0.5, 400);
  const { images } = sceneBatch(art, 'validation', 2, 0, 8);
  const error = reconstruct(basis, project(basis, images)).sub(images).abs().amax().item();
  expect(error).toBeLessThan(1e-3);
  const train = sceneBatch(art, 'train', 1, 0, 200).images;
  const variance = project(basis, train).square().mean().item();
  expect(variance).toBeGreaterThan(0.7);
  expect(variance).toBeLessThan(1.4);
});

test('fewer components lose less than the mean picture does', async () => {
  const art = await loadArt('noto');
  const { images } = sceneBatch(art, 'validation', 2, 0, 32);
  const lost = [8, 32].map((components) => {
    const basis = fitPatchBasis(art, 1, components, 0.5, 400);
    return reconstruct(basis, project(basis, images)).sub(images).square().mean().item();
  }) as [number, number];
  expect(lost[1]).toBeLessThan(lost[0]);
  expect(lost[0]).toBeLessThan(images.variance().item());
});

test('the weight of a timestep is the bounded signal-to-noise ratio, whatever is predicted', () => {
  const config = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: 'scaled_linear' } as const;
  const of = (prediction_type: 'sample' | 'epsilon' | 'v_prediction') =>
    new NoiseSchedule({ ...config, prediction_type });
  const alphaBar = of('sample').alphaBar(500);
  const snr = alphaBar / (1 - alphaBar);
  expect(snrWeight(of('sample'), 500, [0, 100])).toBeCloseTo(snr, 12);
  expect(snrWeight(of('sample'), 500, [1, 5])).toBe(1);
  expect(snrWeight(of('sample'), 0, [1, 5])).toBe(5);
  expect(snrWeight(of('epsilon'), 500, [0, 100])).toBeCloseTo(1, 12);
  expect(snrWeight(of('v_prediction'), 500, [0, 100])).toBeCloseTo(snr / (snr + 1), 12);
});

test('pre-training resumed from a checkpoint ends with the weights of an uninterrupted one', async () => {
  type Abort = (controller: AbortController) => void;
  const at: Abort = (controller) => controller.abort();
  // as Ctrl-C is served: between two updates
  const between: Abort = (controller) => setImmediate(() => controller.abort());
  const run = async (folder: string, legs: number[], abort = at): Promise<number[]> => {
    let weights: number[] = [];
    for (const stop of legs) {
      const parameters = Parameters.random(3);
      const layer = new Linear(parameters.at('layer'), 4, 4);
      const controller = new AbortController();
      const trainee: Trainee = {
        parameters: parameters.trainable(),
        loss: (step): Tensor =>
          scope(() => {
            if (step + 1 === stop) abort(controller);
            return layer
              .forward(normal([noiseKey(1, 'x', step)], [8, 4]).squeeze(0))
              .square()
              .mean();
          }),
      };
      const options = { folder, steps: 12, learningRate: 0.05, warmup: 2, signal: controller.signal };
      for await (const _ of fitTrainee(trainee, options));
      weights = [...parameters.entries.values()].flatMap((tensor) => tensor.toNumbers());
    }
    return weights;
  };
  const folder = () => mkdtempSync(join(tmpdir(), 'rldf-pretrain-'));
  const whole = await run(folder(), [12]);
  expect(await run(folder(), [5, 9, 12])).toEqual(whole);
  expect(await run(folder(), [5, 9, 12], between)).toEqual(whole);
});

test('a leg whose text encoder was frozen is packed as well: the auxiliary head is not taken for it', () => {
  const stage = mkdtempSync(join(tmpdir(), 'rldf-averaged-'));
  const network = [tensor([0, 0])];
  const text = [tensor([5]), tensor([6])];
  const values = () => [...network, ...text].map((one) => one.toNumbers());
  const saved = (step: number, ...averaged: number[][]) =>
    saveCheckpoint(join(stage, 'checkpoints'), step, {
      average: { averaged: averaged.map((one) => tensor(one)) },
    });
  saved(1, [1, 2], [9]); // the network, and a head
  expect(() => loadAveraged(stage, network, { more: text })).toThrow(/holds 2 tensors, the network has 1/);
  expect(loadAveraged(stage, network, { more: text, further: true })).toBe(true);
  expect(values()).toEqual([[1, 2], [5], [6]]);
  saved(2, [3, 4], [7], [8], [9]);
  loadAveraged(stage, network, { more: text, further: true });
  expect(values()).toEqual([[3, 4], [7], [8]]);
});
