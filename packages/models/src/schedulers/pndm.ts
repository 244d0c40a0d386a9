import { keep, scope, type Tensor, UserError } from '@rldf/torch';
import { refuseUnsupported, type SchedulerConfig } from '../configs.js';
import { NoiseSchedule } from './noise-schedule.js';
import type { Scheduler } from './scheduler.js';
import { noSuchStep, outOfOrder } from './steps.js';
import { roundHalfEven, spacedTimesteps } from './timestep-spacing.js';

const SUPPORTED: { readonly [key: string]: readonly unknown[] } = {
  prediction_type: ['epsilon', 'v_prediction'],
  skip_prk_steps: [false, true],
};

/** Network calls of the Runge-Kutta start: four for each of three steps. */
const RUNGE_KUTTA = 12;

/**
 * Pseudo numerical methods (Liu et al. 2022): a linear multistep method on the transfer equation (9), begun either by
 * Runge-Kutta steps (algorithm 2) or, with `skip_prk_steps` as Stable Diffusion 1.x has it, by one step that is taken again
 * (PLMS). Either start asks the network more often than the number of steps says. Steps must be taken in order.
 */
export class PNDMScheduler implements Scheduler {
  readonly config: SchedulerConfig;
  readonly schedule: NoiseSchedule;
  readonly initialNoiseScale = 1;
  timesteps: readonly number[] = [];
  /** Training timesteps from one step to the next. */
  #stride = 0;
  readonly #finalAlphaBar: number;
  /** The network's last answers, newest last: at most four. */
  #answers: Tensor[] = [];
  /** The sample that a step began from, while it is taken in parts. */
  #start: Tensor | undefined;
  /** Of a Runge-Kutta step, the weighted sum of its answers so far. */
  #sum: Tensor | undefined;
  #next = 0;

  /** @throws UserError when the config asks for something that is not built */
  constructor(config: SchedulerConfig, where = 'PNDMScheduler config') {
    refuseUnsupported(where, config, SUPPORTED);
    this.config = config;
    this.schedule = new NoiseSchedule(config, where);
    this.#finalAlphaBar = config.set_alpha_to_one === true ? 1 : this.schedule.alphaBar(0);
  }

  /** @throws UserError when `steps` is not an integer from 1 (with Runge-Kutta, 4) to the number of training timesteps */
  setTimesteps(steps: number): readonly number[] {
    this.forget();
    const spaced = spacedTimesteps(this.config, this.schedule.trainSteps, steps, 'leading').map(
      roundHalfEven,
    );
    this.#stride = Math.floor(this.schedule.trainSteps / steps);
    if (this.config.skip_prk_steps === true) {
      const [first, second, ...rest] = spaced as [number, ...number[]];
      this.timesteps = second === undefined ? [first] : [first, second, second, ...rest];
      return this.timesteps;
    }
    if (steps < 4) {
      throw new UserError(
        `PNDMScheduler: ${steps} steps — with skip_prk_steps: false the first three are Runge-Kutta steps, so at least 4 are ` +
          'needed. Use more steps, or set skip_prk_steps: true.',
      );
    }
    const half = Math.floor(this.#stride / 2);
    const rungeKutta = [0, 1, 2].flatMap((i) => {
      const [from, to] = spaced.slice(i, i + 2) as [number, number];
      return [from, to + half, to + half, to];
    });
    this.timesteps = [...rungeKutta, ...spaced.slice(3)];
    return this.timesteps;
  }

  scaleModelInput(sample: Tensor): Tensor {
    return sample;
  }

  needsNoise(): boolean {
    return false;
  }

  forget(): void {
    for (const tensor of [...this.#answers, this.#start, this.#sum]) tensor?.free();
    this.#answers = [];
    this.#start = undefined;
    this.#sum = undefined;
    this.#next = 0;
  }

  /** @param sample x_t [B, C, H, W] */
  step(modelOutput: Tensor, stepIndex: number, sample: Tensor): Tensor {
    const timestep = this.timesteps[stepIndex];
    if (timestep === undefined) throw noSuchStep(this, stepIndex);
    if (stepIndex === 0) this.forget();
    if (stepIndex !== this.#next) throw outOfOrder(this, stepIndex, this.#next);
    this.#next++;
    const result = scope(() =>
      this.config.skip_prk_steps !== true && stepIndex < RUNGE_KUTTA
        ? this.#rungeKutta(modelOutput, stepIndex, timestep, sample)
        : this.#multistep(modelOutput, stepIndex, timestep, sample),
    );
    if (stepIndex === this.timesteps.length - 1) this.forget();
    return result;
  }

  /** One of the four parts of a Runge-Kutta step: half of it twice, then the whole twice. */
  #rungeKutta(answer: Tensor, stepIndex: number, timestep: number, sample: Tensor): Tensor {
    const part = stepIndex % 4;
    const from = this.timesteps[stepIndex - part]!;
    const to = part % 2 === 0 ? timestep - Math.floor(this.#stride / 2) : timestep;
    if (part === 0) {
      this.#remember(answer);
      this.#start = keep(sample.detach().clone());
    }
    const weighted = answer.mul([1 / 6, 1 / 3, 1 / 3, 1 / 6][part]!);
    const sum = this.#sum === undefined ? weighted : this.#sum.add(weighted);
    const result = this.#transfer(this.#start!, from, to, part === 3 ? sum : answer);
    this.#sum?.free();
    this.#sum = part === 3 ? undefined : keep(sum.detach().clone());
    if (part === 3) this.#forgetStart();
    return result;
  }

  /** A step of the linear multistep method (Adams-Bashforth), of the order that the remembered answers allow. */
  #multistep(answer: Tensor, stepIndex: number, timestep: number, sample: Tensor): Tensor {
    if (stepIndex === 1) {
      // without Runge-Kutta, the first step again, by the mean of the answers at both of its ends
      const mean = answer.add(this.#answers[0]!).div(2);
      const result = this.#transfer(this.#start!, timestep + this.#stride, timestep, mean);
      this.#forgetStart();
      return result;
    }
    if (stepIndex === 0) this.#start = keep(sample.detach().clone());
    this.#remember(answer);
    const weights = ADAMS_BASHFORTH[this.#answers.length - 1]!;
    const newestFirst = [...this.#answers].reverse();
    const combined = newestFirst.map((one, i) => one.mul(weights[i]!)).reduce((sum, term) => sum.add(term));
    return this.#transfer(sample, timestep, timestep - this.#stride, combined);
  }

  #remember(answer: Tensor): void {
    this.#answers.push(keep(answer.detach().clone()));
    if (this.#answers.length > 4) this.#answers.shift()!.free();
  }

  #forgetStart(): void {
    this.#start?.free();
    this.#start = undefined;
  }

  /** x_s out of x_t by the noise that the network tells: equation 9. */
  #transfer(sample: Tensor, timestep: number, previous: number, answer: Tensor): Tensor {
    const alphaBar = this.schedule.alphaBar(timestep);
    const previousAlphaBar = previous >= 0 ? this.schedule.alphaBar(previous) : this.#finalAlphaBar;
    const { noise } = this.schedule.split(answer, sample, alphaBar);
    const divisor =
      alphaBar * Math.sqrt(1 - previousAlphaBar) + Math.sqrt(alphaBar * (1 - alphaBar) * previousAlphaBar);
    return sample
      .mul(Math.sqrt(previousAlphaBar / alphaBar))
      .sub(noise.mul((previousAlphaBar - alphaBar) / divisor));
  }
}

/** Of the newest answer and those before it, by their number: equation 12. */
const ADAMS_BASHFORTH: readonly (readonly number[])[] = [
  [1],
  [3 / 2, -1 / 2],
  [23 / 12, -16 / 12, 5 / 12],
  [55 / 24, -59 / 24, 37 / 24, -9 / 24],
];
