import { scope, type Tensor } from '@rldf/torch';
import { refuseUnsupported, type SchedulerConfig } from '../configs.js';
import { NoiseSchedule } from './noise-schedule.js';
import type { Scheduler } from './scheduler.js';
import { placedSigmas, refuseSeveralSigmas } from './sigmas.js';
import { noSuchStep } from './steps.js';
import { roundHalfEven, spacedTimesteps } from './timestep-spacing.js';

const SUPPORTED: { readonly [key: string]: readonly unknown[] } = {
  timestep_spacing: ['linspace', 'leading', 'trailing'],
  final_sigmas_type: ['zero', 'sigma_min'],
  interpolation_type: ['linear'],
  timestep_type: ['discrete'],
  use_beta_sigmas: [false],
  use_exponential_sigmas: [false, true],
  use_karras_sigmas: [false, true],
};

/**
 * Euler steps of the probability-flow equation (Karras et al. 2022, algorithm 2 without churn). Samples are
 * x_0 + sigma ε, not of unit variance: the network is shown `scaleModelInput` of them.
 */
export class EulerDiscreteScheduler implements Scheduler {
  readonly config: SchedulerConfig;
  readonly schedule: NoiseSchedule;
  timesteps: readonly number[] = [];
  /** Noise over signal at each step and after the last one. */
  #sigmas: number[] = [];

  /** @throws UserError when the config asks for something that is not built */
  constructor(config: SchedulerConfig, where = 'EulerDiscreteScheduler config') {
    refuseUnsupported(where, config, SUPPORTED);
    refuseSeveralSigmas(config, where);
    this.config = config;
    this.schedule = new NoiseSchedule(config, where, { leastSignal: 2 ** -24 });
  }

  get initialNoiseScale(): number {
    const largest = Math.max(...this.#sigmas);
    return (this.config.timestep_spacing ?? 'linspace') === 'leading' ? Math.hypot(largest, 1) : largest;
  }

  /** @throws UserError when `steps` is not an integer from 1 to the number of training timesteps */
  setTimesteps(steps: number): readonly number[] {
    const spaced = spacedTimesteps(this.config, this.schedule.trainSteps, steps, 'linspace');
    const fractional = (this.config.timestep_spacing ?? 'linspace') === 'linspace';
    const timesteps = fractional ? spaced.map(Math.fround) : spaced.map(roundHalfEven);
    const sigmas = timesteps.map((t) => this.schedule.sigma(t));
    const placed = placedSigmas(this.config, this.schedule, steps, { max: sigmas[0]!, min: sigmas.at(-1)! });
    this.timesteps = placed?.timesteps.map(Math.fround) ?? timesteps;
    const last = this.config.final_sigmas_type === 'sigma_min' ? this.schedule.sigma(0) : 0;
    this.#sigmas = [...(placed?.sigmas ?? sigmas), last];
    return this.timesteps;
  }

  forget(): void {}

  scaleModelInput(sample: Tensor, stepIndex: number): Tensor {
    return sample.div(Math.hypot(this.#sigma(stepIndex), 1));
  }

  needsNoise(): boolean {
    return false;
  }

  /** @param sample x_0 + sigma ε [B, C, H, W] */
  step(modelOutput: Tensor, stepIndex: number, sample: Tensor): Tensor {
    return scope(() => {
      const sigma = this.#sigma(stepIndex);
      const next = this.#sigma(stepIndex + 1);
      const unit = sample.div(Math.hypot(sigma, 1)); // x_t of the variance-preserving process
      const { original } = this.schedule.split(modelOutput, unit, 1 / (sigma ** 2 + 1)); // x_0 [B, C, H, W]
      const slope = sample.sub(original).div(sigma);
      return sample.add(slope.mul(next - sigma));
    });
  }

  #sigma(stepIndex: number): number {
    const sigma = this.#sigmas[stepIndex];
    if (sigma !== undefined) return sigma;
    throw noSuchStep(this, stepIndex);
  }
}
