import { keep, scope, type Tensor } from '@rldf/torch';
import { refuseUnsupported, type SchedulerConfig } from '../configs.js';
import { NoiseSchedule } from './noise-schedule.js';
import type { Scheduler } from './scheduler.js';
import { placedSigmas, refuseSeveralSigmas } from './sigmas.js';
import { noSuchStep, outOfOrder } from './steps.js';
import { roundHalfEven, spacedTimesteps } from './timestep-spacing.js';

const SUPPORTED: { readonly [key: string]: readonly unknown[] } = {
  use_beta_sigmas: [false],
  use_exponential_sigmas: [false, true],
  use_karras_sigmas: [false, true],
};

const ORDER = 4;

/**
 * Linear multistep steps of the probability-flow equation (Crowson's k-diffusion): the slopes of up to four steps are
 * extrapolated by the polynomial through them. Samples are x_0 + sigma ε, not of unit variance: the network is shown
 * `scaleModelInput` of them. Steps must be taken in order.
 */
export class LMSDiscreteScheduler implements Scheduler {
  readonly config: SchedulerConfig;
  readonly schedule: NoiseSchedule;
  timesteps: readonly number[] = [];
  /** Noise over signal at each step and after the last one. */
  #sigmas: number[] = [];
  /** Slopes of the last steps, newest first. */
  #slopes: Tensor[] = [];
  #next = 0;

  /** @throws UserError when the config asks for something that is not built */
  constructor(config: SchedulerConfig, where = 'LMSDiscreteScheduler config') {
    refuseUnsupported(where, config, SUPPORTED);
    refuseSeveralSigmas(config, where);
    this.config = config;
    this.schedule = new NoiseSchedule(config, where);
  }

  get initialNoiseScale(): number {
    const largest = Math.max(...this.#sigmas);
    return this.config.timestep_spacing === 'leading' ? Math.hypot(largest, 1) : largest;
  }

  /** @throws UserError when `steps` is not an integer from 1 to the number of training timesteps */
  setTimesteps(steps: number): readonly number[] {
    this.forget();
    const spaced = spacedTimesteps(this.config, this.schedule.trainSteps, steps, 'linspace');
    const fractional = (this.config.timestep_spacing ?? 'linspace') === 'linspace';
    const timesteps = fractional ? spaced.map(Math.fround) : spaced.map(roundHalfEven);
    const sigmas = timesteps.map((t) => this.schedule.sigma(t));
    const placed = placedSigmas({ ...this.config, sigma_max: null, sigma_min: null }, this.schedule, steps, {
      max: sigmas[0]!,
      min: sigmas.at(-1)!,
    });
    this.timesteps = placed?.timesteps.map(Math.fround) ?? timesteps;
    this.#sigmas = [...(placed?.sigmas ?? sigmas), 0];
    return this.timesteps;
  }

  forget(): void {
    for (const slope of this.#slopes) slope.free();
    this.#slopes = [];
    this.#next = 0;
  }

  scaleModelInput(sample: Tensor, stepIndex: number): Tensor {
    return sample.div(Math.hypot(this.#sigma(stepIndex), 1));
  }

  needsNoise(): boolean {
    return false;
  }

  /** @param sample x_0 + sigma ε [B, C, H, W] */
  step(modelOutput: Tensor, stepIndex: number, sample: Tensor): Tensor {
    const sigma = this.#sigma(stepIndex);
    if (stepIndex === 0) this.forget();
    if (stepIndex !== this.#next) throw outOfOrder(this, stepIndex, this.#next);
    this.#next++;
    const result = scope(() => {
      const unit = sample.div(Math.hypot(sigma, 1)); // x_t of the variance-preserving process
      const { original } = this.schedule.split(modelOutput, unit, 1 / (sigma ** 2 + 1)); // x_0 [B, C, H, W]
      this.#slopes.unshift(keep(sample.sub(original).div(sigma).detach().clone()));
      if (this.#slopes.length > ORDER) this.#slopes.pop()!.free();
      return this.#slopes.reduce(
        (next, slope, place) => next.add(slope.mul(this.#coefficient(stepIndex, place))),
        sample,
      );
    });
    if (stepIndex === this.timesteps.length - 1) this.forget();
    return result;
  }

  /**
   * Integral over the step of the polynomial that is 1 at the sigma of the slope at `place` and 0 at those of the others:
   * of third degree at most, for which Gauss's two points are exact.
   */
  #coefficient(stepIndex: number, place: number): number {
    const past = this.#slopes.map((_, i) => this.#sigma(stepIndex - i));
    const own = past[place]!;
    const others = past.filter((_, i) => i !== place);
    const basis = (tau: number) =>
      others.reduce((product, sigma) => (product * (tau - sigma)) / (own - sigma), 1);
    const [from, to] = [this.#sigma(stepIndex), this.#sigma(stepIndex + 1)];
    const [middle, half] = [(from + to) / 2, (to - from) / 2];
    return half * (basis(middle - half / Math.sqrt(3)) + basis(middle + half / Math.sqrt(3)));
  }

  #sigma(stepIndex: number): number {
    const sigma = this.#sigmas[stepIndex];
    if (sigma !== undefined) return sigma;
    throw noSuchStep(this, stepIndex);
  }
}
