// The denoising network of the built-in model, on cached latents: classifier-free guidance training (Ho & Salimans 2022), timesteps weighted by bounded signal-to-noise ratio (after Hang et al. 2023).

import { sceneBatch } from '@rldf/common/instruments/scenes';
import { type CaptionedOptions, loadArt } from '@rldf/emoji-world';
import { type CLIPTokenizer, NoiseSchedule, type Pipeline, type SchedulerConfig } from '@rldf/models';
import { cat, free, keep, noGrad, noiseKey, normal, Random, scope, type Tensor, tensor } from '@rldf/torch';
import { type FitEvent, type FitOptions, fitTrainee, type Trainee } from './fit.js';
import { type Layout, LayoutHead, type LayoutTable, layoutOf, layoutTable } from './layout.js';
import { type PatchBasis, project } from './patch-basis.js';

export interface UNetTrainingOptions extends FitOptions {
  batchSize: number;
  seed: number;
  scheduler: SchedulerConfig;
  /** Scenes encoded once before training. */
  cachedScenes: number;
  /** Share of captions replaced by the empty one. */
  captionDropout?: number;
  /** Bounds of the signal-to-noise ratio as weight of the clean sample's error; [1, 1] weights all timesteps alike. */
  snrBounds?: readonly [number, number];
  world?: CaptionedOptions;
  /** The text encoder's learning rate as a share of the U-Net's; 0 keeps the encoder as it is. */
  textRate?: number;
  /** Weight of the text encoder's auxiliary task (layout.ts). */
  layoutWeight?: number;
}

export interface LatentCache {
  /** float16 [N, C, h, w], scaled */
  latents: Tensor;
  /** int64 [N, L] */
  tokens: Tensor;
  layouts: LayoutTable;
}

/** Encodes scenes 0 to `count` of the training split once; calls `onProgress` with the number done. */
export async function cacheLatents(
  basis: PatchBasis,
  tokenizer: CLIPTokenizer,
  { seed, cachedScenes, world }: UNetTrainingOptions,
  onProgress: (done: number) => void = () => {},
): Promise<LatentCache> {
  const art = await loadArt('noto');
  const latents: Tensor[] = [];
  const tokens: number[][] = [];
  const layouts: (Layout | undefined)[] = [];
  const chunk = 250;
  for (let start = 0; start < cachedScenes; start += chunk) {
    const encoded = noGrad(() =>
      scope(() => {
        const { images, captions, told } = sceneBatch(
          art,
          'train',
          seed,
          start,
          Math.min(chunk, cachedScenes - start),
          world,
        );
        const { ids } = tokenizer.encode(captions);
        tokens.push(...ids);
        layouts.push(...told.map((scene, i) => layoutOf(scene, ids[i] as number[], tokenizer)));
        return project(basis, images).to('float16');
      }),
    );
    latents.push(encoded);
    onProgress(Math.min(start + chunk, cachedScenes));
    await new Promise((resolve) => setImmediate(resolve));
  }
  const all = keep(cat(latents));
  free(latents);
  return {
    latents: all,
    tokens: keep(tensor(tokens, { dtype: 'int64' })),
    layouts: keep(layoutTable(layouts)),
  };
}

/** Trains the U-Net and, at `textRate` of its learning rate, the text encoder. */
export function pretrainUNet(
  pipeline: Pipeline,
  cache: LatentCache,
  options: UNetTrainingOptions,
  sample: NonNullable<Trainee['sample']>,
): AsyncGenerator<FitEvent> {
  const { textRate = 0, layoutWeight = 0 } = options;
  const { parameters, tokenizer } = pipeline;
  const schedule = new NoiseSchedule(options.scheduler);
  const empty = keep(tensor(tokenizer.encode(['']).ids, { dtype: 'int64' })); // [1, L]
  const unet = parameters.unet.trainable();
  const text = textRate > 0 ? parameters.textEncoder.trainable() : [];
  const width = pipeline.textEncoder.config.hidden_size ?? 512;
  const head = layoutWeight > 0 ? new LayoutHead(width, options.seed) : undefined;
  const aside = head?.parameters.trainable() ?? [];
  const trainee: Trainee = {
    parameters: [...unet, ...text, ...aside],
    rates: [...unet.map(() => 1), ...text.map(() => textRate), ...aside.map(() => 1)],
    loss: (step) => scope(() => denoisingLoss(pipeline, empty, cache, schedule, step, options, head)),
    sample,
  };
  return fitTrainee(trainee, options);
}

// B batch · C, h, w latent · L tokens · D text width

/** What an update is shown. */
export interface DenoisingBatch {
  /** Rows of the cache, int64 [B] */
  index: Tensor;
  /** [B, C, h, w] */
  latents: Tensor;
  /** [B, C, h, w] */
  noise: Tensor;
  timesteps: number[];
  /** 1 where the caption is left out, int64 [B, 1] */
  mask: Tensor;
  /** int64 [B, L] */
  ids: Tensor;
}

/** @param empty the empty caption, [1, L] */
export function denoisingBatch(
  cache: Pick<LatentCache, 'latents' | 'tokens'>,
  empty: Tensor,
  trainSteps: number,
  step: number,
  options: Pick<UNetTrainingOptions, 'batchSize' | 'seed' | 'captionDropout'>,
): DenoisingBatch {
  const { batchSize, seed, captionDropout = 0.1 } = options;
  const random = new Random(noiseKey(seed, 'unet-batch', step));
  const count = cache.latents.shape[0] as number;
  const pick = Array.from({ length: batchSize }, () => random.integer(count));
  // one timestep from each of B equal bins: less variance than B free draws
  const timesteps = Array.from({ length: batchSize }, (_, i) =>
    Math.floor(((i + random.uniform()) / batchSize) * trainSteps),
  );
  const dropped = Array.from({ length: batchSize }, () => (random.uniform() < captionDropout ? 1 : 0));

  const index = tensor(pick, { dtype: 'int64' });
  const latents = cache.latents.indexSelect(0, index).to('float32'); // [B, C, h, w]
  const noise = normal([noiseKey(seed, 'unet-noise', step)], latents.shape).squeeze(0);
  const mask = tensor(dropped, { dtype: 'int64', shape: [batchSize, 1] });
  const tokens = cache.tokens.indexSelect(0, index);
  const ids = tokens.mul(mask.mul(-1).add(1)).add(empty.mul(mask)); // [B, L]
  return { index, latents, noise, timesteps, mask, ids };
}

function denoisingLoss(
  { unet, textEncoder }: Pick<Pipeline, 'unet' | 'textEncoder'>,
  empty: Tensor, // [1, L]
  cache: LatentCache,
  schedule: NoiseSchedule,
  step: number,
  options: UNetTrainingOptions,
  head?: LayoutHead,
): Tensor {
  const { snrBounds = [1, 1], textRate = 0, layoutWeight = 0 } = options;
  const batch = denoisingBatch(cache, empty, schedule.trainSteps, step, options);
  const { index, latents, noise, timesteps, mask, ids } = batch;
  const noisy = schedule.addNoise(latents, noise, timesteps);
  const encode = () => textEncoder.forward(ids).lastHiddenState; // [B, L, D]
  const hiddenStates = textRate > 0 ? encode() : noGrad(encode);
  const prediction = unet.forward(noisy, tensor(timesteps, { dtype: 'int64' }), { hiddenStates });
  const target = schedule.target(latents, noise, timesteps);
  const error = prediction.to('float32').sub(target).square().mean([1, 2, 3]); // [B]
  const loss = error.mul(tensor(timesteps.map((t) => snrWeight(schedule, t, snrBounds)))).mean();
  if (head === undefined) return loss;
  const heard = mask.mul(-1).add(1).to('float32');
  return loss.add(head.loss(hiddenStates, cache.layouts, index, heard), layoutWeight);
}

/** Weight of timestep t in terms of what is predicted: the clean sample's error counts clamp(SNR, low, high) (min-SNR, Hang et al. 2023, equations 6 to 8, with a floor). */
export function snrWeight(
  schedule: NoiseSchedule,
  timestep: number,
  [low, high]: readonly [number, number],
): number {
  const alphaBar = schedule.alphaBar(timestep);
  const snr = alphaBar / (1 - alphaBar);
  const clamped = Math.min(high, Math.max(low, snr));
  if (schedule.predictionType === 'sample') return clamped;
  return schedule.predictionType === 'epsilon' ? clamped / snr : clamped / (snr + 1);
}
