import {
  cat,
  free,
  type NoiseKey,
  noGrad,
  noiseKey,
  normal,
  type Parameters,
  type Seed,
  scope,
  type Tensor,
  tensor,
  UserError,
} from '@rldf/torch';
import type { AutoencoderKL } from './autoencoder-kl.js';
import type { AutoencoderTiny } from './autoencoder-tiny.js';
import type { CLIPTextModel, CLIPTextModelWithProjection } from './clip-text.js';
import type { CLIPTokenizer } from './clip-tokenizer.js';
import { type Conditioning, selectRows, withoutGrounding } from './conditioning.js';
import type { SchedulerConfig } from './configs.js';
import { type GroundedObject, groundedSteps } from './grounding.js';
import { predictGuided } from './guidance.js';
import { LatentsWatch, refuseBlack } from './latents-watch.js';
import { latentShape, type PictureSize, pixelsOf } from './picture-size.js';
import { encodePrompts, type MicroConditioning, toldOf } from './prompts.js';
import { resident } from './residency.js';
import { DDIMScheduler } from './schedulers/ddim.js';
import { createScheduler, type SchedulerName } from './schedulers/scheduler.js';
import type { UNet2DConditionModel } from './unet.js';

/** A text-to-image latent diffusion model of the Stable Diffusion 1.x / 2.x kind; or of XL's, with a second text encoder. */
export interface Pipeline {
  unet: UNet2DConditionModel;
  vae: AutoencoderKL | AutoencoderTiny;
  textEncoder: CLIPTextModel;
  tokenizer: CLIPTokenizer;
  /** XL's second text encoder, whose summary of the prompt the network is told too, and its tokenizer: both or neither. */
  textEncoder2?: CLIPTextModelWithProjection;
  tokenizer2?: CLIPTokenizer;
  /** What makes schedulers: each trajectory gets its own. */
  schedulerConfig: SchedulerConfig;
  /** The weights of the networks; adapters attach to them. */
  parameters: { unet: Parameters; vae: Parameters; textEncoder: Parameters; textEncoder2?: Parameters };
  /** What it was loaded from. */
  location?: string;
  /** Settings the model was made for; those of a call come first. */
  defaults: { steps?: number; guidanceScale?: number };
  /** Pieces of the text encoder's length that every prompt is read in; 1 cuts longer ones. A piece more changes the picture. */
  promptChunks?: number;
  /** Whether no prompt is told as zeros, and not as the empty prompt; as XL was trained. */
  forceZerosForEmptyPrompt?: boolean;
  /** Of pictures, where nothing else is said; the model's own by default. */
  size?: PictureSize;
  /** Whether the network's blocks run again for their gradient, so that only what goes from block to block is kept. */
  checkpointing?: boolean;
  /** Weights that lie in the host's memory while nothing is computed with them (`resident`). */
  offloaded?: ReadonlySet<Parameters>;
  /** Weights of the networks that judge its pictures, where they are among these. */
  judges?: readonly Parameters[];
  /** What XL is told of a picture besides its prompt. */
  microConditioning?: MicroConditioning;
  /** Of GLIGEN's kind: the share of denoising steps, the first ones, in which boxes are heard; 0.3 by default. */
  groundingBeta?: number;
}

export interface GenerateOptions {
  prompts: readonly string[];
  /** What to steer away from: one for all prompts or one each; null, which is not the empty prompt everywhere, by default. */
  negativePrompts?: string | null | readonly (string | null)[];
  /** One per prompt; a picture depends on its own seed only, not on the batch. */
  seeds: readonly Seed[];
  /** Objects of each picture with their places, for a model of GLIGEN's kind; none by default. */
  objects?: readonly (readonly GroundedObject[])[];
  /** Share of the denoising steps, the first ones, in which they are heard; the pipeline's `groundingBeta`, or 0.3, by default. */
  groundingBeta?: number;
  /** Denoising steps; the model's default, or 30. */
  steps?: number;
  /** 1 is no guidance; the model's default, or 7.5. */
  guidanceScale?: number;
  /** Noise of DDIM, 0 to 1; 0 by default. */
  eta?: number;
  /** In pixels, multiples of the autoencoder's factor; the pipeline's `size` by default, or the model's own. */
  width?: number;
  height?: number;
  /** Initial noise instead of the seeds', [B, C, h, w] of unit variance. */
  latents?: Tensor;
  /** Instead of the model's own. */
  scheduler?: SchedulerName;
  /**
   * Called after each call of the network, of which some schedulers make more than `steps`; `latents` [B, C, h, w] live until it
   * is over.
   */
  onStep?: (event: {
    step: number;
    steps: number;
    timestep: number;
    latents: Tensor;
  }) => void | Promise<void>;
  /** Stops between two steps with the signal's reason. */
  signal?: AbortSignal;
}

export interface Generated {
  /** uint8 [B, H, W, 3] */
  images: Tensor;
  /** Denoised latents, float32 [B, C, h, w]. */
  latents: Tensor;
}

/**
 * Draws one picture per prompt. Between denoising steps the event loop runs.
 *
 * @returns tensors that live until freed
 * @throws UserError for options that contradict each other or the model, and for pictures that turn into NaN or infinity
 */
export async function generate(pipeline: Pipeline, options: GenerateOptions): Promise<Generated> {
  const { prompts, seeds, eta = 0, onStep, signal } = options;
  const guidanceScale = options.guidanceScale ?? pipeline.defaults.guidanceScale ?? 7.5;
  const steps = options.steps ?? pipeline.defaults.steps ?? 30;
  const negatives = checkedNegatives(options);
  const objects = checkedObjects(options);
  const shape = latentShape(pipeline, options);
  const scheduler = createScheduler(pipeline.schedulerConfig, options.scheduler);
  if (eta > 0 && !(scheduler instanceof DDIMScheduler)) {
    throw new UserError(
      `generate: eta is ${eta} — only DDIM adds noise by eta; ${scheduler.constructor.name} has none. Leave eta out, or draw with DDIMScheduler.`,
    );
  }
  const timesteps = scheduler.setTimesteps(steps);
  const watch = new LatentsWatch();

  let latents = initialLatents(options, shape, pipeline, scheduler.initialNoiseScale); // [B, C, h, w]
  const size = pixelsOf(pipeline, shape);
  const conditioning = noGrad(() =>
    guidedPrompts(pipeline, prompts, guidanceScale === 1 ? null : negatives, size, objects),
  );
  const beta = options.groundingBeta ?? pipeline.groundingBeta;
  const grounded = groundedSteps(timesteps.length, beta); // behind them, what is told of boxes is not heard
  try {
    for (const [step, timestep] of timesteps.entries()) {
      const next = noGrad(() =>
        scope(() => {
          const input = scheduler.scaleModelInput(latents, step);
          const told = step < grounded ? conditioning : withoutGrounding(conditioning);
          const prediction = predictGuided(pipeline.unet, input, timestep, told, guidanceScale);
          if (!scheduler.needsNoise(step, eta)) return scheduler.step(prediction, step, latents, { eta });
          const noise = normal(stepNoiseKeys(seeds, step), shape, { device: latents.device });
          return scheduler.step(prediction, step, latents, { eta, noise });
        }),
      );
      latents.free();
      latents = next;
      watch.see(latents);
      await onStep?.({ step, steps: timesteps.length, timestep, latents });
      await new Promise((resolve) => setImmediate(resolve));
      signal?.throwIfAborted();
    }
    watch.check(
      'generate',
      (i) => `picture ${i + 1} of ${prompts.length} (${JSON.stringify(prompts[i])}, seed ${seeds[i]})`,
      'The model or an adapter overflows: use a smaller guidance scale or adapter strength, float32, or another checkpoint.',
    );
    const images = noGrad(() => decodeImages(pipeline, latents));
    return { images, latents };
  } catch (error) {
    latents.free();
    throw error;
  } finally {
    free(conditioning);
    watch.free();
    scheduler.forget();
  }
}

/** Keys of the noise that a picture starts from. */
export function initialNoiseKeys(seeds: readonly Seed[]): NoiseKey[] {
  return seeds.map((seed) => noiseKey(seed, 'initial-latents'));
}

/** Keys of the noise that a stochastic scheduler adds at a step. */
export function stepNoiseKeys(seeds: readonly Seed[], step: number): NoiseKey[] {
  return seeds.map((seed) => noiseKey(seed, 'step-noise', step));
}

/**
 * What the network is told of prompts and of what to steer away from (null without guidance), the latter first, with all that the
 * network makes of them at every step: 2B or B rows. A text that stands several times is encoded once.
 */
function guidedPrompts(
  pipeline: Pipeline,
  prompts: readonly string[],
  negatives: readonly (string | null)[] | null,
  size: PictureSize,
  objects: readonly (readonly GroundedObject[])[],
): Conditioning {
  return scope(() => {
    // what is steered away from is told no boxes
    const told = [...(negatives ?? []), ...prompts].map((text, i) => ({
      text: toldOf(pipeline, text),
      objects: objects[i - (negatives?.length ?? 0)] ?? [],
    }));
    const keys = told.map(({ text, objects }) => JSON.stringify([text, objects]));
    const distinct = new Map(keys.map((key, i) => [key, told[i]!]));
    const order = [...distinct.keys()];
    const device = pipeline.unet.device;
    const rows = tensor(
      keys.map((key) => order.indexOf(key)),
      { dtype: 'int64', device },
    );
    const texts = [...distinct.values()].map(({ text }) => text);
    const boxes = [...distinct.values()].map(({ objects }) => objects);
    return selectRows(pipeline.unet.prepare(encodePrompts(pipeline, texts, size, boxes)), rows);
  });
}

function checkedObjects({
  prompts,
  objects = prompts.map(() => []),
  groundingBeta = 0,
}: GenerateOptions): readonly (readonly GroundedObject[])[] {
  if (!(groundingBeta >= 0 && groundingBeta <= 1)) {
    throw new UserError(
      `generate: groundingBeta is ${groundingBeta} — must be 0 to 1: a share of the denoising steps.`,
    );
  }
  if (objects.length === prompts.length) return objects;
  throw new UserError(
    `generate: boxes of ${objects.length} pictures for ${prompts.length} prompts — give a list for each, empty where there are none.`,
  );
}

/**
 * Denoised latents [B, C, h, w] -> pictures uint8 [B, H, W, 3].
 * @throws UserError for NaN and infinity, of which bytes would be black
 */
export function decodeImages(pipeline: Pipeline, latents: Tensor): Tensor {
  return resident(pipeline, [pipeline.parameters.vae], () => decodedImages(pipeline, latents));
}

function decodedImages(pipeline: Pipeline, latents: Tensor): Tensor {
  return scope(() => {
    const [batch, , height, width] = latents.shape as [number, number, number, number];
    // a decoder's memory grows with the pixels, 2.5 kB each: about a million at a time
    const chunk = Math.max(1, Math.floor(2 ** 20 / (height * width * pipeline.vae.downFactor ** 2)));
    const parts: Tensor[] = [];
    for (let start = 0; start < batch; start += chunk) {
      const some = latents.narrow(0, start, Math.min(chunk, batch - start));
      parts.push(
        scope(() => {
          const decoded = decodeLatents(pipeline, some);
          refuseBlack(decoded, start);
          return toBytes(decoded);
        }),
      );
    }
    return parts.length === 1 ? parts[0]! : cat(parts);
  });
}

/** Denoised latents [B, C, h, w] -> pictures [B, 3, H, W] of the same type, about [-1, 1]. Differentiable. */
export function decodeLatents({ vae, parameters }: Pipeline, latents: Tensor): Tensor {
  return scope(() => {
    const { dtype } = parameters.vae;
    return vae.decode(vae.unscale(latents).to(dtype)).to(latents.dtype);
  });
}

/** [B, 3, H, W] in [-1, 1] -> uint8 [B, H, W, 3] */
function toBytes(images: Tensor): Tensor {
  const unit = images.div(2).add(0.5).clamp(0, 1);
  return unit.permute([0, 2, 3, 1]).mul(255).round().to('uint8').contiguous();
}

function checkedNegatives({
  prompts,
  negativePrompts,
  seeds,
  guidanceScale,
}: GenerateOptions): readonly (string | null)[] {
  const count = prompts.length;
  if (count === 0) throw new UserError('generate: there are no prompts — give at least one.');
  if (seeds.length !== count) {
    throw new UserError(
      `generate: ${seeds.length} seeds for ${count} prompts — every picture needs its own. Give one seed per prompt.`,
    );
  }
  if (guidanceScale !== undefined && !(guidanceScale >= 0 && Number.isFinite(guidanceScale))) {
    throw new UserError(
      `generate: guidanceScale is ${guidanceScale} — must be at least 0. Use 1 for no guidance.`,
    );
  }
  const negatives: readonly (string | null)[] = Array.isArray(negativePrompts)
    ? negativePrompts
    : prompts.map(() => (negativePrompts as string | null | undefined) ?? null);
  if (negatives.length === count) return negatives;
  throw new UserError(
    `generate: ${negatives.length} negative prompts for ${count} prompts — give one for all or one per prompt.`,
  );
}

function initialLatents(
  { latents, seeds }: GenerateOptions,
  shape: readonly number[],
  { unet }: Pipeline,
  scale: number,
): Tensor {
  const expected = [seeds.length, ...shape];
  if (latents && `${latents.shape}` !== `${expected}`) {
    throw new UserError(
      `generate: latents have shape [${latents.shape}] — expected [${expected}] for these prompts and this size.`,
    );
  }
  const { device } = unet;
  return noGrad(() =>
    scope(() =>
      (latents?.to({ dtype: 'float32', device }) ?? normal(initialNoiseKeys(seeds), shape, { device })).mul(
        scale,
      ),
    ),
  );
}
