// The denoising loss of Ho et al. 2020 (equation 14), one value a picture, in whatever the network predicts.
import {
  type Conditioning,
  type NoiseSchedule,
  predictGuided,
  type UNet2DConditionModel,
} from '@rldf/models';
import { type NoiseKey, noiseKey, normal, Random, type Seed, scope, type Tensor } from '@rldf/torch';

// B pictures · C, h, w latent · L tokens · D text width

/** A timestep and the noise added there, one a picture. */
export interface Noising {
  timesteps: readonly number[];
  /** [B, C, h, w] */
  noise: Tensor;
}

/** What a picture's timestep, noise and dropped caption belong to, such as (epoch, prompt, picture, pass). */
export type NoisingPath = readonly number[];

/** Shares of the noise schedule between which timesteps are drawn, evenly: [0, 1] is all of it, 1 pure noise. */
export type TimestepRange = readonly [from: number, to: number];

/**
 * Draws a timestep, each as likely, and noise for every picture. They depend on seed and path alone, so neither batch sizes nor
 * interruptions change them; equal paths get the same.
 * @param latents [B, C, h, w]; only shape, type and device are read
 */
export function drawNoising(
  schedule: NoiseSchedule,
  latents: Tensor,
  seed: Seed,
  paths: readonly NoisingPath[],
  [from, to]: TimestepRange = [0, 1],
): Noising {
  const { dtype, device, shape } = latents;
  const first = Math.round(from * schedule.trainSteps);
  const count = Math.max(1, Math.round(to * schedule.trainSteps) - first);
  return {
    timesteps: paths.map(
      (path) => first + new Random(noiseKey(seed, 'denoising timestep', ...path)).integer(count),
    ),
    noise: normal(
      paths.map((path): NoiseKey => noiseKey(seed, 'denoising noise', ...path)),
      shape.slice(1),
      { dtype, device },
    ),
  };
}

/**
 * The caption, or in a share of the cases none: what classifier-free guidance learns its unguided half from
 * (Ho & Salimans 2022, algorithm 1).
 */
export function dropped(caption: string, seed: Seed, path: NoisingPath, share: number): string | null {
  return share > 0 && new Random(noiseKey(seed, 'caption dropout', ...path)).uniform() < share
    ? null
    : caption;
}

/**
 * Mean over latent elements of (prediction - target)², the target being noise, clean latents or velocity by the schedule's
 * `predictionType`. Differentiable in the network's weights and the conditioning; the mean is taken in float32, or float64.
 * @param latents clean, as the sampler ended, [B, C, h, w]
 * @param conditioning of B rows; or of 2B, the unconditional ones first, for the error of the guided prediction
 * @param guidanceScale of the guided prediction
 * @returns [B]
 */
export function denoisingErrors(
  unet: UNet2DConditionModel,
  schedule: NoiseSchedule,
  latents: Tensor,
  { timesteps, noise }: Noising,
  conditioning: Conditioning,
  guidanceScale = 1,
): Tensor {
  return scope(() => {
    const noisy = schedule.addNoise(latents, noise, timesteps); // [B, C, h, w]
    const prediction = predictGuided(unet, noisy, timesteps, conditioning, guidanceScale);
    const target = schedule.target(latents, noise, timesteps);
    const exact = prediction.dtype === 'float64' ? prediction : prediction.to('float32');
    return exact.sub(target.to(exact.dtype)).square().mean([1, 2, 3]); // [B]
  });
}
