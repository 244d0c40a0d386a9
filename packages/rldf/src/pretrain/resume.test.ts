import { mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { clipConfig, schedulerConfig, unetConfig } from '@rldf/common/instruments/configs';
import { findModel, tokenizerFolder } from '@rldf/common/instruments/models';
import {
  CLIPModel,
  CLIPTextModel,
  CLIPTokenizer,
  type Pipeline,
  tinyPipeline,
  UNet2DConditionModel,
} from '@rldf/models';
import { Parameters, setThreads } from '@rldf/torch';
import { expect, test } from 'vitest';
import { readMetrics } from '../run/metrics.js';
import { pretrainClip } from './clip.js';
import type { FitEvent, FitOptions } from './fit.js';
import { basisOf } from './parts.js';
import { loadPatchBasis } from './patch-basis.js';
import { cacheLatents, pretrainUNet } from './unet.js';

setThreads(1);

const STEPS = 6;
const tokenizer = CLIPTokenizer.load(tokenizerFolder);
const tower = {
  hidden_size: 16,
  intermediate_size: 32,
  num_attention_heads: 2,
  num_hidden_layers: 1,
  projection_dim: 8,
};
const training = {
  steps: STEPS,
  learningRate: 1e-3,
  warmup: 2,
  emaDecay: 0.7,
  eventSeconds: 0,
  batchSize: 4,
  seed: 3,
};

/** A training from its beginning, or from where its folder is. */
type Trained = (options: Pick<FitOptions, 'folder' | 'signal'>) => Promise<AsyncGenerator<FitEvent>>;

/** How a leg ends: with a checkpoint, as Ctrl-C makes it, or without one, as a crash does. */
type Leg = { until: number; crash?: true };

/** Every file of the last checkpoint, and the metrics without times. */
async function trainedIn(trained: Trained, legs: readonly Leg[]) {
  const folder = mkdtempSync(join(tmpdir(), 'rldf-pretrain-'));
  for (const { until, crash } of legs) {
    const controller = new AbortController();
    const events = await trained({ folder, signal: controller.signal });
    for await (const { step } of events) {
      if (step < until) continue;
      if (crash) break;
      controller.abort();
    }
  }
  const checkpoints = join(folder, 'checkpoints');
  expect(readdirSync(checkpoints)).toEqual([`step-${STEPS}`]);
  const last = join(checkpoints, `step-${STEPS}`);
  const files = readdirSync(last).map((name) => [name, readFileSync(join(last, name)).toString('base64')]);
  const metrics = readMetrics(join(folder, 'metrics.jsonl'));
  return {
    files: Object.fromEntries(files) as Record<string, string>,
    metrics: metrics.map(({ step, loss, gradNorm, learningRate }) => ({
      step,
      loss,
      gradNorm,
      learningRate,
    })),
  };
}

async function isResumed(trained: Trained): Promise<void> {
  const whole = await trainedIn(trained, [{ until: STEPS }]);
  expect(whole.metrics.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6]);
  const legs: Leg[] = [{ until: 2 }, { until: 4, crash: true }, { until: 3 }, { until: STEPS }];
  expect(await trainedIn(trained, legs)).toEqual(whole);
}

function smallPipeline(): Pipeline {
  const unet = Parameters.random(1);
  const text = Parameters.random(2);
  const config = {
    ...unetConfig,
    block_out_channels: [16, 16],
    attention_head_dim: [2, 2],
    cross_attention_dim: 16,
    norm_num_groups: 4,
    addition_embed_type_num_heads: 2,
  };
  return {
    ...tinyPipeline(0),
    unet: new UNet2DConditionModel(config, unet.at()),
    textEncoder: new CLIPTextModel({ ...clipConfig(tokenizer).text_config, ...tower }, text.at()),
    tokenizer,
    schedulerConfig,
    parameters: { unet, vae: Parameters.random(0), textEncoder: text },
  };
}

test('the U-Net with its text encoder, the layout head beside and averaged weights is resumed byte for byte', async () => {
  const basis = loadPatchBasis(basisOf(findModel('emoji').path));
  const options = {
    ...training,
    scheduler: schedulerConfig,
    cachedScenes: 16,
    textRate: 0.5,
    layoutWeight: 0.7,
  };
  const cache = await cacheLatents(basis, tokenizer, { ...options, folder: '' });
  await isResumed(async (leg) =>
    pretrainUNet(smallPipeline(), cache, { ...options, ...leg }, async () => {}),
  );
});

test('CLIP with siblings in its batches is resumed byte for byte', async () => {
  const { text_config, vision_config, ...common } = clipConfig(tokenizer);
  const config = { ...common, projection_dim: 8, text_config: { ...text_config, ...tower }, vision_config: { ...vision_config, ...tower } };
  await isResumed(async (leg) => {
    const parameters = Parameters.random(3);
    return pretrainClip(new CLIPModel(config, parameters.at()), parameters, tokenizer, { ...training, ...leg });
  });
}); // biome-ignore format: configurations are tables
