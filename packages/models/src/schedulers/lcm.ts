import { InternalError, scope, type Tensor, UserError } from '@rldf/torch';
import { checkFields, whole } from '../config-fields.js';
import type { SchedulerConfig } from '../configs.js';
import { NoiseSchedule, refuseNoSignal } from './noise-schedule.js';
import type { Scheduler, StepOptions } from './scheduler.js';
import { noSuchStep } from './steps.js';
import { checkSteps } from './timestep-spacing.js';

/** What diffusers takes where an LCM's config says nothing. */
const UNSAID: SchedulerConfig = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: 'scaled_linear' };
/** σ_data of the boundary condition. */
const SPREAD = 0.5;

/**
 * Multistep consistency sampling (Luo et al. 2023, Latent Consistency Models, algorithm 3): x_0 as the network tells it, noised
 * again to the next timestep. The timesteps are chosen among the `original_inference_steps` that the model was distilled with.
 */
export class LCMScheduler implements Scheduler {
  readonly config: SchedulerConfig;
  readonly schedule: NoiseSchedule;
  readonly initialNoiseScale = 1;
  timesteps: readonly number[] = [];
  readonly #originalSteps: number;
  readonly #scaling: number;

  /** @throws UserError when the config asks for something that is not built */
  constructor(config: SchedulerConfig, where = 'LCMScheduler config') {
    this.config = config;
    this.schedule = new NoiseSchedule({ ...UNSAID, ...config }, where);
    const { trainSteps } = this.schedule;
    checkFields(where, config, { original_inference_steps: whole(1, trainSteps) });
    this.#originalSteps = (config.original_inference_steps as number | null | undefined) ?? 50;
    this.#scaling = (config.timestep_scaling as number | null | undefined) ?? 10;
  }

  /** @throws UserError when `steps` is not an integer from 1 to `original_inference_steps` */
  setTimesteps(steps: number): readonly number[] {
    const { trainSteps } = this.schedule;
    checkSteps(steps, trainSteps);
    const original = this.#originalSteps;
    if (steps > original) {
      throw new UserError(
        `LCMScheduler: ${steps} steps — must be at most ${original}, the original_inference_steps that the model was distilled ` +
          'with. Use 4 to 8.',
      );
    }
    const stride = Math.floor(trainSteps / original);
    this.timesteps = Array.from({ length: steps }, (_, i) => {
      const skipped = Math.floor(i * (original / steps));
      return (original - skipped) * stride - 1;
    });
    refuseNoSignal('LCMScheduler', this.schedule, this.timesteps);
    return this.timesteps;
  }

  forget(): void {}

  scaleModelInput(sample: Tensor): Tensor {
    return sample;
  }

  needsNoise(stepIndex: number): boolean {
    return stepIndex !== this.timesteps.length - 1;
  }

  /** @param sample x_t [B, C, H, W] */
  step(modelOutput: Tensor, stepIndex: number, sample: Tensor, { noise }: StepOptions = {}): Tensor {
    const timestep = this.timesteps[stepIndex];
    if (timestep === undefined) throw noSuchStep(this, stepIndex);
    return scope(() => {
      const predicted = this.schedule.split(modelOutput, sample, this.schedule.alphaBar(timestep)).original;
      const range = this.config.clip_sample_range ?? 1;
      const original = this.config.clip_sample === true ? predicted.clamp(-range, range) : predicted;
      // c_out x_0 + c_skip x_t: the boundary condition at timestep 0
      const scaled = timestep * this.#scaling;
      const denoised = original
        .mul(scaled / Math.hypot(scaled, SPREAD))
        .add(sample.mul(SPREAD ** 2 / (scaled ** 2 + SPREAD ** 2)));
      const next = this.timesteps[stepIndex + 1];
      if (next === undefined) return denoised;
      if (!noise) throw new InternalError('LCMScheduler.step: a step before the last — noise must be given.');
      const alphaBar = this.schedule.alphaBar(next);
      return denoised.mul(Math.sqrt(alphaBar)).add(noise.mul(Math.sqrt(1 - alphaBar)));
    });
  }
}
