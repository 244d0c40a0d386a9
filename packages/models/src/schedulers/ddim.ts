import { InternalError, scope, type Tensor } from '@rldf/torch';
import type { SchedulerConfig } from '../configs.js';
import { NoiseSchedule, refuseNoSignal } from './noise-schedule.js';
import type { PolicyScheduler, StepOptions } from './scheduler.js';
import { noSuchStep } from './steps.js';
import { roundHalfEven, spacedTimesteps } from './timestep-spacing.js';

/** The numbers of one step from timestep t to s: x_s = original * x_0 + noise * ε + std * z. */
export interface DDIMCoefficients {
  alphaBar: number;
  previousAlphaBar: number;
  variance: number;
  std: number;
  /** sqrt(ᾱ_s) */
  original: number;
  /** sqrt(1 - ᾱ_s - std²) */
  noise: number;
}

/**
 * DDIM (Song et al. 2021, equation 12). With eta > 0 each step is a Gaussian policy: `moments` gives its mean and
 * standard deviation, from which log-probabilities are computed.
 */
export class DDIMScheduler implements PolicyScheduler {
  readonly config: SchedulerConfig;
  readonly schedule: NoiseSchedule;
  readonly initialNoiseScale = 1;
  timesteps: readonly number[] = [];
  readonly #finalAlphaBar: number;

  /** @throws UserError when the config asks for something that is not built */
  constructor(config: SchedulerConfig, where = 'DDIMScheduler config') {
    this.config = config;
    this.schedule = new NoiseSchedule(config, where);
    this.#finalAlphaBar = (config.set_alpha_to_one ?? true) ? 1 : this.schedule.alphaBar(0);
  }

  /** @throws UserError when `steps` is not an integer from 1 to the number of training timesteps */
  setTimesteps(steps: number): readonly number[] {
    const spaced = spacedTimesteps(this.config, this.schedule.trainSteps, steps, 'leading');
    this.timesteps = spaced.map(roundHalfEven);
    refuseNoSignal('DDIMScheduler', this.schedule, this.timesteps);
    return this.timesteps;
  }

  forget(): void {}

  scaleModelInput(sample: Tensor): Tensor {
    return sample;
  }

  needsNoise(_stepIndex: number, eta = 0): boolean {
    return eta > 0;
  }

  /** @throws UserError when there is no such step */
  coefficients(stepIndex: number, eta: number): DDIMCoefficients {
    const timestep = this.timesteps[stepIndex];
    if (timestep === undefined) throw noSuchStep(this, stepIndex);
    // as diffusers does: with trailing and linspace spacing this may miss the next timestep by one
    const previous = timestep - Math.floor(this.schedule.trainSteps / this.timesteps.length);
    const alphaBar = this.schedule.alphaBar(timestep);
    const previousAlphaBar = previous >= 0 ? this.schedule.alphaBar(previous) : this.#finalAlphaBar;
    const variance = eta ** 2 * ((1 - previousAlphaBar) / (1 - alphaBar)) * (1 - alphaBar / previousAlphaBar);
    return {
      alphaBar,
      previousAlphaBar,
      variance,
      std: Math.sqrt(variance),
      original: Math.sqrt(previousAlphaBar),
      noise: Math.sqrt(1 - previousAlphaBar - variance),
    };
  }

  std(stepIndex: number, eta = 1): number {
    return this.coefficients(stepIndex, eta).std;
  }

  noiseSlope(stepIndex: number, eta = 1): number {
    const { alphaBar, original, noise } = this.coefficients(stepIndex, eta);
    return noise - original * Math.sqrt((1 - alphaBar) / alphaBar);
  }

  /**
   * The distribution of the next sample: N(mean, std²), the same std for all samples and elements.
   *
   * Differentiable in `modelOutput` and `sample`. A step at which std is 0 (eta 0, or the last one of some
   * schedules) has no density.
   *
   * @param modelOutput [B, C, H, W], guided: guidance is part of the policy
   * @param sample x_t [B, C, H, W]
   * @returns mean [B, C, H, W]
   */
  moments(modelOutput: Tensor, stepIndex: number, sample: Tensor, eta = 1): { mean: Tensor; std: number } {
    return scope(() => {
      const { alphaBar, std, original: toOriginal, noise: toNoise } = this.coefficients(stepIndex, eta);
      const predicted = this.schedule.split(modelOutput, sample, alphaBar);
      const range = this.config.clip_sample_range ?? 1;
      const original =
        (this.config.clip_sample ?? true) ? predicted.original.clamp(-range, range) : predicted.original;
      return { mean: original.mul(toOriginal).add(predicted.noise.mul(toNoise)), std };
    });
  }

  /** x_t -> x_s; with eta > 0 the standard normal noise must be given. */
  step(modelOutput: Tensor, stepIndex: number, sample: Tensor, options: StepOptions = {}): Tensor {
    const { eta = 0, noise } = options;
    return scope(() => {
      const { mean, std } = this.moments(modelOutput, stepIndex, sample, eta);
      if (eta === 0) return mean;
      if (!noise) throw new InternalError(`DDIMScheduler.step: eta is ${eta} — noise must be given.`);
      return mean.add(noise.mul(std));
    });
  }
}
