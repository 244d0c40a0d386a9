import { scope, type Tensor, tensor, UserError } from '@rldf/torch';
import { checkFields, schedulerFields } from '../config-fields.js';
import { refuseUnsupported, type SchedulerConfig } from '../configs.js';

/** What the network predicts: the noise, the clean sample, or a mixture of both (Salimans & Ho 2022). */
export type PredictionType = 'epsilon' | 'sample' | 'v_prediction';

const SUPPORTED: { readonly [key: string]: readonly unknown[] } = {
  beta_schedule: ['linear', 'scaled_linear', 'squaredcos_cap_v2'],
  prediction_type: ['epsilon', 'sample', 'v_prediction'],
  // pixel-space models only
  thresholding: [false],
};

/**
 * How much of the signal is left after t steps of noising: x_t = sqrt(ᾱ_t) x_0 + sqrt(1 - ᾱ_t) ε
 * (Ho et al. 2020, equation 4). Tables in float64.
 */
export class NoiseSchedule {
  readonly trainSteps: number;
  readonly predictionType: PredictionType;
  readonly betas: Float64Array;
  /** ᾱ, one per training timestep. */
  readonly alphasCumprod: Float64Array;

  /**
   * @param options `leastSignal`: ᾱ of the last timestep where betas are rescaled to zero terminal signal-to-noise ratio; some
   *   schedulers take a little, so that the first noise level is finite
   * @throws UserError when the config asks for something that is not built
   */
  constructor(config: SchedulerConfig, where = 'scheduler config', { leastSignal = 0 } = {}) {
    refuseUnsupported(where, config, SUPPORTED);
    checkFields(where, config, schedulerFields);
    const plain = config.trained_betas ? Float64Array.from(config.trained_betas) : betas(config);
    const rescaled = config.rescale_betas_zero_snr === true;
    this.betas = rescaled ? rescaledBetas(plain) : plain;
    this.trainSteps = this.betas.length;
    this.predictionType = config.prediction_type ?? 'epsilon';
    this.alphasCumprod = new Float64Array(this.trainSteps);
    let product = 1;
    for (const [t, beta] of this.betas.entries()) {
      product *= 1 - beta;
      this.alphasCumprod[t] = product;
    }
    if (rescaled) this.alphasCumprod[this.trainSteps - 1] = leastSignal;
  }

  /** ᾱ_t. @throws UserError outside the schedule */
  alphaBar(timestep: number): number {
    const value = this.alphasCumprod[timestep];
    if (value !== undefined) return value;
    throw new UserError(
      `NoiseSchedule: timestep ${timestep} — must be an integer from 0 to ${this.trainSteps - 1}. ` +
        'Use fewer steps or a smaller steps_offset.',
    );
  }

  /** Noise relative to signal, sqrt((1 - ᾱ_t) / ᾱ_t); between timesteps by linear interpolation. */
  sigma(timestep: number): number {
    const at = (t: number) => Math.sqrt((1 - this.alphaBar(t)) / this.alphaBar(t));
    const low = Math.floor(timestep);
    return low === timestep ? at(low) : at(low) + (timestep - low) * (at(low + 1) - at(low));
  }

  /**
   * Noised samples of the forward process.
   *
   * @param original [B, ...]
   * @param noise of the same shape, standard normal
   * @param timesteps one integer per sample, int64 [B] or numbers
   */
  addNoise(original: Tensor, noise: Tensor, timesteps: Tensor | readonly number[]): Tensor {
    return scope(() => {
      const { signal, noise: scale } = this.#coefficients(original, timesteps); // [B, 1, ...]
      return original.mul(signal).add(noise.mul(scale));
    });
  }

  /** v = sqrt(ᾱ_t) ε - sqrt(1 - ᾱ_t) x_0 (Salimans & Ho 2022, appendix D); arguments as for `addNoise`. */
  velocity(original: Tensor, noise: Tensor, timesteps: Tensor | readonly number[]): Tensor {
    return scope(() => {
      const { signal, noise: scale } = this.#coefficients(original, timesteps); // [B, 1, ...]
      return noise.mul(signal).sub(original.mul(scale));
    });
  }

  /** What the network should have answered, by `predictionType`; arguments as for `addNoise`. */
  target(original: Tensor, noise: Tensor, timesteps: Tensor | readonly number[]): Tensor {
    if (this.predictionType === 'epsilon') return noise;
    return this.predictionType === 'sample' ? original : this.velocity(original, noise, timesteps);
  }

  /** Clean sample and noise that the network's answer implies for x_t, both shaped as `sample`. */
  split(modelOutput: Tensor, sample: Tensor, alphaBar: number): { original: Tensor; noise: Tensor } {
    const signal = Math.sqrt(alphaBar);
    const scale = Math.sqrt(1 - alphaBar);
    switch (this.predictionType) {
      case 'epsilon':
        return { original: sample.sub(modelOutput.mul(scale)).div(signal), noise: modelOutput };
      case 'sample':
        return { original: modelOutput, noise: sample.sub(modelOutput.mul(signal)).div(scale) };
      case 'v_prediction':
        return {
          original: sample.mul(signal).sub(modelOutput.mul(scale)),
          noise: modelOutput.mul(signal).add(sample.mul(scale)),
        };
    }
  }

  #coefficients(like: Tensor, timesteps: Tensor | readonly number[]): { signal: Tensor; noise: Tensor } {
    const list = 'toArray' in timesteps ? Array.from(timesteps.toArray(), Number) : timesteps;
    const column = (value: (alphaBar: number) => number) =>
      tensor(
        list.map((t) => value(this.alphaBar(t))),
        { dtype: like.dtype, device: like.device, shape: [list.length, ...like.shape.slice(1).fill(1)] },
      );
    return { signal: column(Math.sqrt), noise: column((alphaBar) => Math.sqrt(1 - alphaBar)) };
  }
}

/**
 * Betas under which the last timestep is noise alone: sqrt(ᾱ) shifted to 0 there and scaled back to its value at timestep 0
 * (Lin et al. 2023, algorithm 1).
 */
function rescaledBetas(betas: Float64Array): Float64Array {
  const roots: number[] = [];
  let product = 1;
  for (const beta of betas) {
    product *= 1 - beta;
    roots.push(Math.sqrt(product));
  }
  const [first, last] = [roots[0]!, roots.at(-1)!];
  const alphaBars = roots.map((root) => ((root - last) * (first / (first - last))) ** 2);
  return Float64Array.from(
    alphaBars,
    (alphaBar, t) => 1 - (t === 0 ? alphaBar : alphaBar / alphaBars[t - 1]!),
  );
}

/** @throws UserError when the network would have to tell the picture from noise alone by predicting that noise */
export function refuseNoSignal(
  scheduler: string,
  { predictionType, alphasCumprod }: NoiseSchedule,
  timesteps: readonly number[],
): void {
  const without = timesteps.find((timestep) => alphasCumprod[timestep] === 0);
  if (without === undefined || predictionType !== 'epsilon') return;
  throw new UserError(
    `${scheduler}: timestep ${without} is noise alone (rescale_betas_zero_snr) — a network that predicts the noise says nothing of the ` +
      'picture there. Use a model with prediction_type "v_prediction", or timestep_spacing "leading".',
  );
}

function betas(config: SchedulerConfig): Float64Array {
  const { num_train_timesteps: count = 1000, beta_start: start = 1e-4, beta_end: end = 0.02 } = config;
  const line = (from: number, to: number, i: number) => from + ((to - from) * i) / (count - 1);
  switch (config.beta_schedule ?? 'linear') {
    case 'linear':
      return Float64Array.from({ length: count }, (_, i) => line(start, end, i));
    case 'scaled_linear':
      return Float64Array.from({ length: count }, (_, i) => line(Math.sqrt(start), Math.sqrt(end), i) ** 2);
    case 'squaredcos_cap_v2': {
      // Nichol & Dhariwal 2021, equation 17
      const alphaBar = (t: number) => Math.cos(((t + 0.008) / 1.008) * (Math.PI / 2)) ** 2;
      return Float64Array.from({ length: count }, (_, i) =>
        Math.min(1 - alphaBar((i + 1) / count) / alphaBar(i / count), 0.999),
      );
    }
  }
}
