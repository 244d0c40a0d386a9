// A grounded variant of the built-in model: GLIGEN's gated layers and position net (Li et al. 2023, arXiv 2301.07093), trained on the true boxes of scenes. All else stays as it is.
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { schedulerConfig, worlds } from '@rldf/common/instruments/configs';
import { findModel } from '@rldf/common/instruments/models';
import { type CaptionedOptions, loadArt, nounOf, sampleCaptionedScene } from '@rldf/emoji-world';
import {
  encodeObjects,
  type GroundedObject,
  type Grounding,
  loadPipeline,
  MOST_OBJECTS,
  NoiseSchedule,
  type Pipeline,
  readJson,
  saveNetwork,
  UNet2DConditionModel,
  writeJson,
} from '@rldf/models';
import { keep, noGrad, noiseKey, Parameters, Random, scope, type Tensor, tensor } from '@rldf/torch';
import { truthsOf } from './detection-scenes.js';
import { type FitEvent, type FitOptions, fitTrainee } from './fit.js';
import { basisOf } from './parts.js';
import { loadPatchBasis } from './patch-basis.js';
import type { Stage, StageContext } from './stage.js';
import { cacheLatents, type DenoisingBatch, denoisingBatch, type LatentCache } from './unet.js';

export const gligenStage: Stage = {
  defaults: { steps: 2400, batchSize: 32, learningRate: 1e-3, seed: 0, scenes: 16_000 },
  run: trainGligen,
};

export interface GligenTrainingOptions extends FitOptions {
  batchSize: number;
  seed: number;
  /** Share of captions left out, their boxes with them. */
  captionDropout?: number;
  /** Share of the other pictures whose boxes are left out. */
  boxDropout?: number;
}

// B batch · N = 30 objects · L tokens · D text width · P phrases

/** What pictures show: of each its objects, and of all phrases what the text encoder says. */
export interface ShownObjects {
  objects: readonly (readonly GroundedObject[])[];
  phrases: readonly string[];
  /** [P, D] */
  features: Tensor;
}

async function* trainGligen(context: StageContext): AsyncGenerator<FitEvent> {
  const { from = findModel('emoji').path, seed, training, output, log } = context;
  const base = loadPipeline(from);
  const pipeline = withGatedLayers(base, seed);
  const learned = gatedParameters(pipeline.parameters.unet);
  log(`gated layers and position net: ${learned.reduce((sum, [, { numel }]) => sum + numel, 0)} parameters`);
  const { cachedScenes } = context;
  const world: CaptionedOptions = worlds[context.from === undefined ? 'everything' : context.world];
  const settings = { ...training, scheduler: schedulerConfig, cachedScenes, world };
  const cache = await cacheLatents(loadPatchBasis(basisOf(from)), pipeline.tokenizer, settings, (done) => {
    if (done % 4000 === 0) log(`encoded ${done} scenes`);
  });
  const shown = await shownObjects(pipeline, settings);
  yield* pretrainGligen(pipeline, cache, shown, training);
  const target = output === training.folder ? join(training.folder, 'model') : output;
  cpSync(from, target, { recursive: true });
  const { unet, parameters } = pipeline;
  saveNetwork(join(target, 'unet'), 'diffusion_pytorch_model.safetensors', unet.config, parameters.unet, {
    dtype: 'float16',
  });
  const index = join(target, 'model_index.json');
  writeJson(index, { ...readJson(index), _class_name: 'StableDiffusionGLIGENPipeline' });
  log(`wrote ${target}`);
}

/**
 * The model with gated layers that answer zero: it draws as before. Gates are open, and what writes behind them is zero: with
 * gates that begin closed, as GLIGEN's, boxes were not heard after 2,400 updates (docs/models.md). Weights are its own.
 */
export function withGatedLayers(pipeline: Pipeline, seed: number): Pipeline {
  const parameters = Parameters.random(seed);
  const config = { ...pipeline.unet.config, attention_type: 'gated' as const };
  const unet = new UNet2DConditionModel(config, parameters.at());
  noGrad(() => {
    for (const [name, weight] of pipeline.parameters.unet.entries)
      (parameters.entries.get(name) as Tensor).copy_(weight);
    for (const [name, weight] of gatedParameters(parameters)) {
      if (name.includes('.alpha_')) weight.add_(1);
      if (/\.fuser\.(attn\.to_out\.0|ff\.net\.2)\./.test(name)) weight.zero_();
    }
  });
  return { ...pipeline, unet, parameters: { ...pipeline.parameters, unet: parameters } };
}

/** What learns. */
export const gatedParameters = ({ entries }: Parameters): (readonly [string, Tensor])[] =>
  [...entries].filter(([name]) => name.includes('.fuser.') || name.startsWith('position_net.'));

/** Of the scenes that `cacheLatents` encodes. */
export async function shownObjects(
  pipeline: Pipeline,
  { seed, cachedScenes, world }: { seed: number; cachedScenes: number; world?: CaptionedOptions },
): Promise<ShownObjects> {
  const art = await loadArt('noto');
  const objects = Array.from({ length: cachedScenes }, (_, index) => {
    const { scene } = sampleCaptionedScene('train', seed, index, world);
    return truthsOf(scene, art).slice(0, MOST_OBJECTS).map(objectOf);
  });
  return withFeatures(pipeline, objects);
}

const SIZE = 64;
function objectOf({
  label,
  box: [left, top, right, bottom],
}: ReturnType<typeof truthsOf>[number]): GroundedObject {
  const { article, singular } = nounOf(label);
  return { phrase: `${article} ${singular}`, box: [left / SIZE, top / SIZE, right / SIZE, bottom / SIZE] };
}

function withFeatures(pipeline: Pipeline, objects: readonly (readonly GroundedObject[])[]): ShownObjects {
  const phrases = [...new Set(objects.flatMap((those) => those.map(({ phrase }) => phrase)))];
  const features = scope(() => {
    const width = pipeline.textEncoder.config.hidden_size as number;
    const rows = Array.from({ length: Math.ceil(phrases.length / MOST_OBJECTS) }, (_, i) =>
      phrases
        .slice(i * MOST_OBJECTS, (i + 1) * MOST_OBJECTS)
        .map((phrase): GroundedObject => ({ phrase, box: [0, 0, 1, 1] })),
    );
    const { phrases: told } = encodeObjects(pipeline, rows) as Grounding; // [P / N, N, D]
    return keep(told.reshape([-1, width]).narrow(0, 0, phrases.length).contiguous());
  });
  return { objects, phrases, features };
}

/** Trains the gated layers and the position net. */
export function pretrainGligen(
  pipeline: Pipeline,
  cache: Pick<LatentCache, 'latents' | 'tokens'>,
  shown: ShownObjects,
  options: GligenTrainingOptions,
): AsyncGenerator<FitEvent> {
  const { parameters, tokenizer } = pipeline;
  const schedule = new NoiseSchedule(pipeline.schedulerConfig);
  const empty = keep(tensor(tokenizer.encode(['']).ids, { dtype: 'int64' })); // [1, L]
  parameters.unet.trainable(false);
  const learned = gatedParameters(parameters.unet).map(([, weight]) => weight.requiresGrad_());
  const loss = (step: number) =>
    scope(() => {
      const batch = groundedBatch(cache, shown, empty, schedule.trainSteps, step, options);
      return groundedLoss(pipeline, schedule, batch);
    });
  return fitTrainee({ parameters: learned, loss }, { warmup: 50, emaDecay: 0.99, ...options });
}

export interface GroundedBatch extends Pick<DenoisingBatch, 'latents' | 'noise' | 'timesteps' | 'ids'> {
  grounding: Grounding;
  /** Of each object its phrase; 0 where there is none. int64 [B, N] */
  rows: Tensor;
}

/** Timesteps are drawn with a density that grows as t³: boxes are heard in the noisiest steps. */
export function groundedBatch(
  cache: Pick<LatentCache, 'latents' | 'tokens'>,
  { objects, phrases, features }: ShownObjects,
  empty: Tensor,
  trainSteps: number,
  step: number,
  options: GligenTrainingOptions,
): GroundedBatch {
  const { seed, boxDropout = 0.1 } = options;
  const { index, latents, noise, timesteps, mask, ids } = denoisingBatch(
    cache,
    empty,
    trainSteps,
    step,
    options,
  );
  const random = new Random(noiseKey(seed, 'box dropout', step));
  const heard = mask.toNumbers().map((dropped) => dropped === 0 && random.uniform() >= boxDropout);
  const told = index
    .toNumbers()
    .map((row, i) => (heard[i] ? (objects[row] as readonly GroundedObject[]) : []));
  const padded = <T>(of: (object: GroundedObject) => T, nothing: T): T[] =>
    told.flatMap((those) =>
      Array.from({ length: MOST_OBJECTS }, (_, i) => (those[i] ? of(those[i]) : nothing)),
    );
  const shape = [told.length, MOST_OBJECTS];
  const boxes = tensor(padded<readonly number[]>(({ box }) => box, [0, 0, 0, 0]).flat(), {
    shape: [...shape, 4],
  });
  const masks = tensor(
    padded(() => 1, 0),
    { shape, dtype: 'float32' },
  );
  const rows = tensor(
    padded(({ phrase }) => phrases.indexOf(phrase), 0),
    { shape, dtype: 'int64' },
  );
  const ofPhrases = features
    .indexSelect(0, rows.flatten(0))
    .reshape([...shape, -1])
    .mul(masks.unsqueeze(2));
  const noisier = timesteps.map((t) => Math.floor(((t + 0.5) / trainSteps) ** (1 / 4) * trainSteps));
  return { latents, noise, timesteps: noisier, ids, rows, grounding: { boxes, masks, phrases: ofPhrases } };
}

function groundedLoss(
  { unet, textEncoder }: Pick<Pipeline, 'unet' | 'textEncoder'>,
  schedule: NoiseSchedule,
  { latents, noise, timesteps, ids, grounding }: GroundedBatch,
): Tensor {
  const noisy = schedule.addNoise(latents, noise, timesteps);
  const hiddenStates = noGrad(() => textEncoder.forward(ids).lastHiddenState); // [B, L, D]
  const times = tensor([...timesteps], { dtype: 'int64' });
  const prediction = unet.forward(noisy, times, { hiddenStates, grounding });
  const target = schedule.target(latents, noise, timesteps);
  return prediction.to('float32').sub(target).square().mean();
}
