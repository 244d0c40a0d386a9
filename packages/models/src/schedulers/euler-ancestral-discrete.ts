import { InternalError, scope, type Tensor } from '@rldf/torch';
import { refuseUnsupported, type SchedulerConfig } from '../configs.js';
import { NoiseSchedule } from './noise-schedule.js';
import type { PolicyScheduler, StepOptions } from './scheduler.js';
import { noSuchStep } from './steps.js';
import { roundHalfEven, spacedTimesteps } from './timestep-spacing.js';

/**
 * Ancestral Euler steps (Crowson's k-diffusion): down to less noise than the next level has, and new noise up to it. Samples are
 * x_0 + sigma ε, not of unit variance: the network is shown `scaleModelInput` of them.
 *
 * In these coordinates it is DDIM with eta 1, so each step but the last is the Gaussian policy N(mean, std²) of `moments`. The last
 * step ends at sigma 0, without noise: it has no density.
 */
export class EulerAncestralDiscreteScheduler implements PolicyScheduler {
  readonly config: SchedulerConfig;
  readonly schedule: NoiseSchedule;
  timesteps: readonly number[] = [];
  /** Noise over signal at each step and after the last one. */
  #sigmas: number[] = [];

  /** @throws UserError when the config asks for something that is not built */
  constructor(config: SchedulerConfig, where = 'EulerAncestralDiscreteScheduler config') {
    refuseUnsupported(where, config, { timestep_spacing: ['linspace', 'leading', 'trailing'] });
    this.config = config;
    this.schedule = new NoiseSchedule(config, where, { leastSignal: 2 ** -24 });
  }

  get initialNoiseScale(): number {
    const largest = Math.max(...this.#sigmas);
    return this.config.timestep_spacing === 'leading' ? Math.hypot(largest, 1) : largest;
  }

  /** @throws UserError when `steps` is not an integer from 1 to the number of training timesteps */
  setTimesteps(steps: number): readonly number[] {
    const spaced = spacedTimesteps(this.config, this.schedule.trainSteps, steps, 'linspace');
    const fractional = (this.config.timestep_spacing ?? 'linspace') === 'linspace';
    this.timesteps = fractional ? spaced.map(Math.fround) : spaced.map(roundHalfEven);
    this.#sigmas = [...this.timesteps.map((t) => this.schedule.sigma(t)), 0];
    return this.timesteps;
  }

  forget(): void {}

  scaleModelInput(sample: Tensor, stepIndex: number): Tensor {
    return sample.div(Math.hypot(this.#sigma(stepIndex), 1));
  }

  needsNoise(stepIndex: number): boolean {
    return this.std(stepIndex) > 0;
  }

  /** Standard deviation of the noise that a step adds; 0 in the last one. */
  std(stepIndex: number): number {
    const [from, to] = [this.#sigma(stepIndex), this.#sigma(stepIndex + 1)];
    return Math.sqrt((to ** 2 * (from ** 2 - to ** 2)) / from ** 2);
  }

  noiseSlope(stepIndex: number): number {
    return this.#down(stepIndex) - this.#sigma(stepIndex);
  }

  /** The distribution of the next sample: N(mean, std²). Differentiable. Shapes as of `step`. */
  moments(modelOutput: Tensor, stepIndex: number, sample: Tensor): { mean: Tensor; std: number } {
    return scope(() => {
      const sigma = this.#sigma(stepIndex);
      const unit = sample.div(Math.hypot(sigma, 1)); // x_t of the variance-preserving process
      const { original } = this.schedule.split(modelOutput, unit, 1 / (sigma ** 2 + 1)); // x_0 [B, C, H, W]
      const slope = sample.sub(original).div(sigma);
      return { mean: sample.add(slope.mul(this.noiseSlope(stepIndex))), std: this.std(stepIndex) };
    });
  }

  /** @param sample x_0 + sigma ε [B, C, H, W] */
  step(modelOutput: Tensor, stepIndex: number, sample: Tensor, { noise }: StepOptions = {}): Tensor {
    return scope(() => {
      const { mean, std } = this.moments(modelOutput, stepIndex, sample);
      if (std === 0) return mean;
      if (!noise)
        throw new InternalError(
          'EulerAncestralDiscreteScheduler.step: a step before the last — noise must be given.',
        );
      return mean.add(noise.mul(std));
    });
  }

  /** The noise level that a step goes down to before it adds noise. */
  #down(stepIndex: number): number {
    return Math.sqrt(this.#sigma(stepIndex + 1) ** 2 - this.std(stepIndex) ** 2);
  }

  #sigma(stepIndex: number): number {
    const sigma = this.#sigmas[stepIndex];
    if (sigma !== undefined) return sigma;
    throw noSuchStep(this, stepIndex);
  }
}
