import { InternalError, keep, scope, type Tensor } from '@rldf/torch';
import { refuseUnsupported, type SchedulerConfig } from '../configs.js';
import { NoiseSchedule } from './noise-schedule.js';
import type { Scheduler } from './scheduler.js';
import { placedSigmas, refuseSeveralSigmas } from './sigmas.js';
import { noSuchStep } from './steps.js';
import { checkSteps, countDown, linspace, roundHalfEven, trailing } from './timestep-spacing.js';

const SUPPORTED: { readonly [key: string]: readonly unknown[] } = {
  algorithm_type: ['dpmsolver++', 'deis'], // the latter of another scheduler, which diffusers takes for the former
  final_sigmas_type: ['zero', 'sigma_min'],
  solver_order: [2, 1],
  solver_type: ['midpoint', 'logrho', 'bh1', 'bh2'], // the last three are of other schedulers, and mean midpoint here
  timestep_spacing: ['linspace', 'leading', 'trailing'],
  use_beta_sigmas: [false],
  use_dynamic_shifting: [false],
  use_exponential_sigmas: [false, true],
  use_flow_sigmas: [false],
  use_karras_sigmas: [false, true],
  use_lu_lambdas: [false],
  variance_type: [null],
};

/**
 * DPM-Solver++ 2M (Lu et al. 2022b, algorithm 2): a deterministic second-order solver that reuses the previous
 * step's clean sample. Steps must be taken in order.
 */
export class DPMSolverMultistepScheduler implements Scheduler {
  readonly config: SchedulerConfig;
  readonly schedule: NoiseSchedule;
  readonly initialNoiseScale = 1;
  timesteps: readonly number[] = [];
  /** Noise over signal at each step and after the last one. */
  #sigmas: number[] = [];
  #previous: { stepIndex: number; original: Tensor } | undefined;

  /** @throws UserError when the config asks for something that is not built */
  constructor(config: SchedulerConfig, where = 'DPMSolverMultistepScheduler config') {
    refuseUnsupported(where, config, SUPPORTED);
    refuseSeveralSigmas(config, where);
    this.config = config;
    this.schedule = new NoiseSchedule(config, where, { leastSignal: 2 ** -24 });
  }

  /** @throws UserError when `steps` is not an integer from 1 to the number of training timesteps */
  setTimesteps(steps: number): readonly number[] {
    checkSteps(steps, this.schedule.trainSteps);
    this.forget();
    const { config, schedule } = this;
    const spaced = multistepTimesteps(config, schedule, steps, this.#last);
    const range = { max: schedule.sigma(schedule.trainSteps - 1), min: schedule.sigma(0) };
    const placed = placedSigmas({ ...config, sigma_max: null, sigma_min: null }, schedule, steps, range);
    const sigmas = placed?.sigmas ?? spaced.map((t) => schedule.sigma(t));
    this.#sigmas = [...sigmas, finalSigma(config, schedule)];
    // whole timesteps, as diffusers casts them
    const rounds = placed?.kind === 'karras' && config.beta_schedule !== 'squaredcos_cap_v2';
    this.timesteps = placed?.timesteps.map(rounds ? roundHalfEven : Math.trunc) ?? spaced;
    return this.timesteps;
  }

  scaleModelInput(sample: Tensor): Tensor {
    return sample;
  }

  needsNoise(): boolean {
    return false;
  }

  /** @param sample x_t [B, C, H, W] */
  step(modelOutput: Tensor, stepIndex: number, sample: Tensor): Tensor {
    const sigma = this.#sigmas[stepIndex];
    const next = this.#sigmas[stepIndex + 1];
    if (sigma === undefined || next === undefined) throw noSuchStep(this, stepIndex);
    return scope(() => {
      const alphaBar = 1 / (sigma ** 2 + 1);
      const { original } = this.schedule.split(modelOutput, sample, alphaBar); // x_0 [B, C, H, W]
      const nextAlpha = 1 / Math.sqrt(next ** 2 + 1);
      const shrink = (next * nextAlpha) / (sigma * Math.sqrt(alphaBar)); // σ_t / σ_s
      const gain = nextAlpha * (1 - next / sigma); // α_t (1 - exp(-h)), h the step in log signal-to-noise
      const estimate = this.#firstOrder(stepIndex) ? original : this.#extrapolate(original, stepIndex);
      const result = sample.mul(shrink).add(estimate.mul(gain));
      this.#remember(original, stepIndex);
      return result;
    });
  }

  #firstOrder(stepIndex: number): boolean {
    const steps = this.timesteps.length;
    const { config } = this;
    const lowerLast =
      config.euler_at_final === true ||
      (config.lower_order_final !== false && steps < 15) ||
      (config.final_sigmas_type ?? 'zero') === 'zero';
    return config.solver_order === 1 || stepIndex === 0 || (stepIndex === steps - 1 && lowerLast);
  }

  /** x_0 at the middle of the step, from this one and the previous one: D in algorithm 2. */
  #extrapolate(original: Tensor, stepIndex: number): Tensor {
    if (this.#previous?.stepIndex !== stepIndex - 1) {
      throw new InternalError(
        `DPMSolverMultistepScheduler.step: step ${stepIndex} after step ${this.#previous?.stepIndex ?? 'none'} — ` +
          'steps must be taken in order.',
      );
    }
    const [before, now, next] = this.#sigmas.slice(stepIndex - 1, stepIndex + 2) as [number, number, number];
    const ratio = Math.log(before / now) / Math.log(now / next); // r = h_{i-1} / h_i
    return original.add(original.sub(this.#previous.original).mul(1 / (2 * ratio)));
  }

  #remember(original: Tensor, stepIndex: number): void {
    this.forget();
    if (stepIndex < this.timesteps.length - 1) {
      this.#previous = { stepIndex, original: keep(original.detach().clone()) };
    }
  }

  forget(): void {
    this.#previous?.original.free();
    this.#previous = undefined;
  }

  /** How many of the training timesteps count: those noisier than `lambda_min_clipped` says do not. */
  get #last(): number {
    const { trainSteps, alphasCumprod } = this.schedule;
    const lambdaMin =
      (this.config.lambda_min_clipped as number | null | undefined) ?? Number.NEGATIVE_INFINITY;
    return trainSteps - alphasCumprod.filter((a) => 0.5 * Math.log(a / (1 - a)) < lambdaMin).length;
  }
}

/**
 * The timesteps of multistep solvers: unlike those of `spacedTimesteps`, they do not include timestep 0.
 * @param last how many of the training timesteps count
 */
export function multistepTimesteps(
  config: SchedulerConfig,
  { trainSteps }: NoiseSchedule,
  steps: number,
  last: number,
): number[] {
  checkSteps(steps, trainSteps);
  switch (config.timestep_spacing ?? 'linspace') {
    case 'linspace':
      return linspace(0, last - 1, steps + 1)
        .slice(1)
        .map(roundHalfEven)
        .reverse();
    case 'leading': {
      const stride = Math.floor(last / (steps + 1));
      return countDown(steps, (i) => (i + 1) * stride + (config.steps_offset ?? 0));
    }
    case 'trailing':
      return trailing(last, trainSteps / steps, steps)
        .map((t) => roundHalfEven(t) - 1)
        .filter((t) => t >= 0);
  }
}

/** The noise level after the last step. */
export function finalSigma(config: SchedulerConfig, schedule: NoiseSchedule): number {
  return config.final_sigmas_type === 'sigma_min' ? schedule.sigma(0) : 0;
}
