// A grounded variant of the built-in model: GLIGEN's gated layers and position net (Li et al. 2023, arXiv 2301.07093), trained on the true boxes of scenes. All else stays as it is.
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { baseModelWorld, schedulerConfig } from '@rldf/common/instruments/configs';
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
import { keep, noGrad, noiseKey, Parameters, Random, scope, type Tensor, tensor, where } from '@rldf/torch';
import { watched } from './attended-boxes.js';
import { truthsOf } from './detection-scenes.js';
import { type FitEvent, type FitOptions, fitTrainee } from './fit.js';
import { basisOf } from './parts.js';
import { loadPatchBasis } from './patch-basis.js';
import type { Stage, StageContext } from './stage.js';
import { cacheLatents, type DenoisingBatch, denoisingBatch, type LatentCache } from './unet.js';

export const gligenStage: Stage = {
  defaults: { steps: 800, batchSize: 32, learningRate: 2e-3, seed: 0, scenes: 16_000 },
  run: trainGligen,
};

/** What the layers are shown: mostly pairs, whose captions say as little of the place as those that the base model was trained on. */
const groundedWorld: CaptionedOptions = {
  ...baseModelWorld,
  kinds: { relation: 0.65, and: 0.1, single: 0.15, count: 0.1 },
};

export interface GligenTrainingOptions extends FitOptions {
  batchSize: number;
  seed: number;
  /** Share of captions left out, their boxes with them. */
  captionDropout?: number;
  /** Share of the other pictures whose boxes are left out. */
  boxDropout?: number;
  /** Share of pictures that are seen as drawing begins: nothing but noise, at a timestep of `FIRST`. */
  beginnings?: number;
  /** Weight of the auxiliary task (attended-boxes.ts). */
  attentionWeight?: number;
}

/** Timesteps in which a drawing of at least ten steps begins, as shares of the schedule: 901 of 1,000 for ten steps, 981 for fifty. */
const FIRST = [0.9, 1] as const;
/** Of the other pictures: those in which boxes are heard. */
const HEARD = [0.65, 1] as const;

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
  const settings = { ...training, scheduler: schedulerConfig, cachedScenes, world: groundedWorld };
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
 * The model with gated layers that answer zero: it draws as before. Gates are open, and what writes behind them is zero. What reads
 * objects begins wider than layers usually do, else all objects look alike: of the usual keys a fifth of the size tells them apart,
 * and attention is even. Weights are its own.
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
      if (closedAtFirst.test(name)) weight.zero_();
      const wider = widths.find(([pattern]) => pattern.test(name));
      if (wider !== undefined) weight.mul_(wider[1]);
    }
  });
  return { ...pipeline, unet, parameters: { ...pipeline.parameters, unet: parameters } };
}

const closedAtFirst =
  /\.fuser\.(attn\.to_out\.0|ff\.net\.2)\.|position_net\.linears\.\d\.bias|\.fuser\.linear\.bias/;
/** By what a weight's usual beginning, uniform with a variance of 1 / (3 inputs), is multiplied; sqrt(3) keeps the size of what is read. */
const KEEPS = Math.sqrt(3);
const widths: readonly (readonly [RegExp, number])[] = [
  [/^position_net\.linears\.0\.weight/, KEEPS],
  [/^position_net\.linears\.[24]\.weight/, 2.2 * KEEPS], // silu lets through less than half
  [/\.fuser\.(linear|attn\.to_v)\.weight/, KEEPS],
  [/\.fuser\.attn\.to_[qk]\.weight/, Math.SQRT2 * KEEPS],
];

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
      const batch = groundedBatch(cache, shown, empty, schedule, step, options);
      return groundedLoss(pipeline, schedule, batch, options);
    });
  return fitTrainee({ parameters: learned, loss }, { warmup: 50, emaDecay: 0.99, decay: 0.5, ...options });
}

export interface GroundedBatch extends Pick<DenoisingBatch, 'latents' | 'noise' | 'timesteps' | 'ids'> {
  /** What is seen of them: noised, or noise alone; [B, C, h, w] */
  noisy: Tensor;
  grounding: Grounding;
  /** Of each object its phrase; 0 where there is none. int64 [B, N] */
  rows: Tensor;
}

/**
 * A drawing begins with noise alone, at a timestep in which a noised picture still shows its layout (at 901 of 1,000 three quarters
 * of its variance can be told): only pictures that are seen so need boxes.
 */
export function groundedBatch(
  cache: Pick<LatentCache, 'latents' | 'tokens'>,
  { objects, phrases, features }: ShownObjects,
  empty: Tensor,
  schedule: NoiseSchedule,
  step: number,
  options: GligenTrainingOptions,
): GroundedBatch {
  const { seed, boxDropout = 0.1, beginnings: share = 0.5 } = options;
  const { trainSteps } = schedule;
  const { index, latents, noise, mask, ids } = denoisingBatch(cache, empty, trainSteps, step, options);
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
  const begins = told.map((_, i) => Math.floor((i + 1) * share) > Math.floor(i * share)); // spread evenly
  const timesteps = begins.map((first) => {
    const [least, most] = first ? FIRST : HEARD;
    return Math.floor((least + (most - least) * random.uniform()) * trainSteps);
  });
  const noised = schedule.addNoise(latents, noise, timesteps);
  const noisy = where(tensor(begins.map(Number)).gt(0).reshape([-1, 1, 1, 1]), noise, noised);
  const grounding = { boxes, masks, phrases: ofPhrases };
  return { latents, noise, timesteps, noisy, ids, rows, grounding };
}

function groundedLoss(
  { unet, textEncoder }: Pick<Pipeline, 'unet' | 'textEncoder'>,
  schedule: NoiseSchedule,
  { latents, noise, noisy, timesteps, ids, grounding }: GroundedBatch,
  { attentionWeight = 0.1 }: GligenTrainingOptions,
): Tensor {
  const hiddenStates = noGrad(() => textEncoder.forward(ids).lastHiddenState); // [B, L, D]
  const times = tensor([...timesteps], { dtype: 'int64' });
  const target = schedule.target(latents, noise, timesteps);
  const pass = () => unet.forward(noisy, times, { hiddenStates, grounding });
  const errorOf = (prediction: Tensor) => prediction.to('float32').sub(target).square().mean();
  if (attentionWeight === 0) return errorOf(pass());
  const { made, loss } = watched(unet.gatedLayers, grounding, pass);
  return errorOf(made).add(loss, attentionWeight);
}
