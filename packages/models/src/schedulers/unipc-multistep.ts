import { keep, scope, type Tensor, UserError } from '@rldf/torch';
import { checkFields, listOf, whole } from '../config-fields.js';
import { refuseUnsupported, type SchedulerConfig } from '../configs.js';
import { finalSigma, multistepTimesteps } from './dpm-solver-multistep.js';
import { NoiseSchedule } from './noise-schedule.js';
import type { Scheduler } from './scheduler.js';
import { placedSigmas, refuseSeveralSigmas } from './sigmas.js';
import { noSuchStep, outOfOrder } from './steps.js';
import { roundHalfEven } from './timestep-spacing.js';

const SUPPORTED: { readonly [key: string]: readonly unknown[] } = {
  final_sigmas_type: ['zero', 'sigma_min'],
  predict_x0: [true, false],
  shift_terminal: [null],
  solver_order: [2, 1, 3],
  solver_p: [null],
  // the last three are of other schedulers, and mean bh2 here, as in diffusers
  solver_type: ['bh2', 'bh1', 'midpoint', 'heun', 'logrho'],
  timestep_spacing: ['linspace', 'leading', 'trailing'],
  use_beta_sigmas: [false],
  use_dynamic_shifting: [false],
  use_exponential_sigmas: [false, true],
  use_flow_sigmas: [false],
  use_karras_sigmas: [false, true],
};

/** The network's answer at a step, as clean sample or as noise. */
interface Answer {
  stepIndex: number;
  value: Tensor;
}

/**
 * UniPC (Zhao et al. 2023, algorithms 5 to 8): each step is predicted from the answers so far, and corrected once the network
 * has answered at its end. Steps must be taken in order.
 */
export class UniPCMultistepScheduler implements Scheduler {
  readonly config: SchedulerConfig;
  readonly schedule: NoiseSchedule;
  readonly initialNoiseScale = 1;
  timesteps: readonly number[] = [];
  /** Noise over signal at each step and after the last one. */
  #sigmas: number[] = [];
  readonly #order: number;
  /** Of the last steps, newest last: at most `#order`. */
  #answers: Answer[] = [];
  /** What the last step began from, and of which order it was. */
  #last: { sample: Tensor; order: number } | undefined;
  #next = 0;
  readonly #uncorrected: ReadonlySet<number>;

  /** @throws UserError when the config asks for something that is not built */
  constructor(config: SchedulerConfig, where = 'UniPCMultistepScheduler config') {
    refuseUnsupported(where, config, SUPPORTED);
    checkFields(where, config, { disable_corrector: listOf(whole(0, 99_999), 0, 100_000) });
    refuseSeveralSigmas(config, where);
    this.config = config;
    this.schedule = new NoiseSchedule(config, where, { leastSignal: 2 ** -24 });
    this.#order = (config.solver_order as number | null | undefined) ?? 2;
    this.#uncorrected = new Set((config.disable_corrector as number[] | null | undefined) ?? []);
    const placed = config.use_karras_sigmas === true || config.use_exponential_sigmas === true;
    const ends = config.final_sigmas_type === 'sigma_min' && !placed;
    if (config.lower_order_final === false && !ends && this.#order > 1) {
      throw new UserError(
        `${where}: lower_order_final is false — the last step would be of order ${this.#order}, which divides by 0 where it ends ` +
          'without noise or does not move. Set lower_order_final to true.',
      );
    }
  }

  /** @throws UserError when `steps` is not an integer from 1 to the number of training timesteps */
  setTimesteps(steps: number): readonly number[] {
    this.forget();
    const { config, schedule } = this;
    const spaced = multistepTimesteps(config, schedule, steps, schedule.trainSteps);
    const range = { max: schedule.sigma(schedule.trainSteps - 1), min: schedule.sigma(0) };
    const placed = placedSigmas(config, schedule, steps, range);
    const sigmas = placed?.sigmas ?? spaced.map((t) => schedule.sigma(t));
    const ends =
      placed && config.final_sigmas_type === 'sigma_min' ? sigmas.at(-1)! : finalSigma(config, schedule);
    this.#sigmas = [...sigmas, ends];
    // whole timesteps, as diffusers casts them
    this.timesteps = placed?.timesteps.map(placed.kind === 'karras' ? roundHalfEven : Math.trunc) ?? spaced;
    return this.timesteps;
  }

  scaleModelInput(sample: Tensor): Tensor {
    return sample;
  }

  needsNoise(): boolean {
    return false;
  }

  forget(): void {
    for (const { value } of this.#answers) value.free();
    this.#last?.sample.free();
    this.#answers = [];
    this.#last = undefined;
    this.#next = 0;
  }

  /** @param sample x_t [B, C, H, W] */
  step(modelOutput: Tensor, stepIndex: number, sample: Tensor): Tensor {
    if (this.timesteps[stepIndex] === undefined) throw noSuchStep(this, stepIndex);
    if (stepIndex === 0) this.forget();
    if (stepIndex !== this.#next) throw outOfOrder(this, stepIndex, this.#next);
    this.#next++;
    const { config } = this;
    const result = scope(() => {
      const { alpha } = this.#level(stepIndex);
      const { original, noise } = this.schedule.split(modelOutput, sample, alpha ** 2);
      const value = this.#ofClean ? original : noise;
      const corrects = this.#last !== undefined && !this.#uncorrected.has(stepIndex - 1);
      const corrected = corrects
        ? this.#transfer(this.#last!.sample, stepIndex - 1, this.#last!.order, value)
        : sample;
      this.#remember({ stepIndex, value: keep(value.detach().clone()) });
      const left = config.lower_order_final === false ? this.#order : this.timesteps.length - stepIndex;
      const order = Math.min(this.#order, left, this.#answers.length);
      this.#last?.sample.free();
      this.#last = { sample: keep(corrected.detach().clone()), order };
      return this.#transfer(corrected, stepIndex, order);
    });
    if (stepIndex === this.timesteps.length - 1) this.forget();
    return result;
  }

  get #ofClean(): boolean {
    return this.config.predict_x0 !== false;
  }

  #remember(answer: Answer): void {
    this.#answers.push(answer);
    if (this.#answers.length > this.#order) this.#answers.shift()!.value.free();
  }

  /**
   * From the sample at a step to the next one: predicted from the answers so far, or corrected by the answer at its end.
   * @param order 1 to 3: how many answers count
   */
  #transfer(sample: Tensor, stepIndex: number, order: number, atEnd?: Tensor): Tensor {
    const [from, to] = [this.#level(stepIndex), this.#level(stepIndex + 1)];
    const h = to.lambda - from.lambda;
    const past = [...this.#answers].reverse().slice(0, order); // the newest is of this step
    const newest = past[0]!.value;
    /** Where the other answers lie, in units of the step; 1 is its end. */
    const places = past.slice(1).map((answer) => (this.#level(answer.stepIndex).lambda - from.lambda) / h);
    const weights = uniWeights(
      this.#ofClean ? -h : h,
      places,
      this.config.solver_type === 'bh1' ? 'bh1' : 'bh2',
      atEnd !== undefined,
    );
    const factor = this.#ofClean ? to.alpha : to.sigma;
    // with noise as answer: σ_t (e^h - 1), written so that it is finite where σ_t is 0
    const ofNewest = this.#ofClean
      ? -to.alpha * Math.expm1(-h)
      : to.sigma - (to.alpha * from.sigma) / from.alpha;
    const ofSample = this.#ofClean ? to.sigma / from.sigma : to.alpha / from.alpha;
    let result = sample.mul(ofSample).add(newest.mul(ofNewest));
    const others = [...past.slice(1).map(({ value }) => value), ...(atEnd === undefined ? [] : [atEnd])];
    for (const [i, value] of others.entries()) {
      const place = places[i] ?? 1;
      result = result.sub(value.sub(newest).mul((factor * weights[i]!) / place));
    }
    return result;
  }

  /** α, σ and λ = log(α / σ) at a step. */
  #level(stepIndex: number): { alpha: number; sigma: number; lambda: number } {
    const sigma = this.#sigmas[stepIndex]!;
    const alpha = 1 / Math.hypot(sigma, 1);
    return { alpha, sigma: sigma * alpha, lambda: -Math.log(sigma) };
  }
}

/**
 * B(h) times the weights of the differences from the newest answer, so that the update is of the order of their number
 * (equation 5: R ρ = b).
 *
 * @param hh the step in λ, negative for clean samples
 * @param places of the further answers, in units of the step
 * @param withEnd whether the answer at the step's end, at place 1, is the last of them
 */
export function uniWeights(
  hh: number,
  places: readonly number[],
  type: 'bh1' | 'bh2',
  withEnd: boolean,
): number[] {
  const all = [...places, ...(withEnd ? [1] : [])];
  if (all.length === 0) return [];
  const scale = type === 'bh1' ? hh : Math.expm1(hh); // B(h)
  // for one difference the paper takes a half, whatever B(h) is
  if (all.length === 1) return [0.5 * scale];
  const b: number[] = [];
  let phi = Math.expm1(hh) / hh - 1;
  let factorial = 1;
  for (let i = 1; i <= all.length; i++) {
    b.push((phi * factorial) / scale);
    factorial *= i + 1;
    phi = phi / hh - 1 / factorial;
  }
  const rows = b.map((_, i) => all.map((place) => place ** i));
  return solve(rows, b).map((weight) => weight * scale);
}

/** x of A x = b, of two or three equations, by elimination with pivoting. */
function solve(rows: readonly (readonly number[])[], b: readonly number[]): number[] {
  const table = rows.map((row, i) => [...row, b[i]!]);
  const size = table.length;
  for (let column = 0; column < size; column++) {
    let pivot = column;
    for (let row = column; row < size; row++) {
      if (Math.abs(table[row]![column]!) > Math.abs(table[pivot]![column]!)) pivot = row;
    }
    [table[column], table[pivot]] = [table[pivot]!, table[column]!];
    for (let row = 0; row < size; row++) {
      if (row === column) continue;
      const factor = table[row]![column]! / table[column]![column]!;
      table[row] = table[row]!.map((value, i) => value - factor * table[column]![i]!);
    }
  }
  return table.map((row, i) => row[size]! / row[i]!);
}
