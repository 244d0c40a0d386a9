import { InternalError, scope, type Tensor } from '@rldf/torch';
import { refuseUnsupported, type SchedulerConfig } from '../configs.js';
import { NoiseSchedule, refuseNoSignal } from './noise-schedule.js';
import type { Scheduler, StepOptions } from './scheduler.js';
import { noSuchStep } from './steps.js';
import { roundHalfEven, spacedTimesteps } from './timestep-spacing.js';

/** Ancestral sampling (Ho et al. 2020, algorithm 2), also over a subset of the timesteps. */
export class DDPMScheduler implements Scheduler {
  readonly config: SchedulerConfig;
  readonly schedule: NoiseSchedule;
  readonly initialNoiseScale = 1;
  timesteps: readonly number[] = [];

  /** @throws UserError when the config asks for something that is not built */
  constructor(config: SchedulerConfig, where = 'DDPMScheduler config') {
    refuseUnsupported(where, config, { variance_type: ['fixed_small', 'fixed_small_log', 'fixed_large'] });
    this.config = config;
    this.schedule = new NoiseSchedule(config, where);
  }

  /** @throws UserError when `steps` is not an integer from 1 to the number of training timesteps */
  setTimesteps(steps: number): readonly number[] {
    const spaced = spacedTimesteps(this.config, this.schedule.trainSteps, steps, 'leading');
    this.timesteps = spaced.map(roundHalfEven);
    refuseNoSignal('DDPMScheduler', this.schedule, this.timesteps);
    return this.timesteps;
  }

  forget(): void {}

  scaleModelInput(sample: Tensor): Tensor {
    return sample;
  }

  needsNoise(stepIndex: number): boolean {
    return this.timesteps[stepIndex]! > 0;
  }

  /** The distribution of the next sample: N(mean, std²); std is 0 at timestep 0. Shapes as for `step`. */
  moments(modelOutput: Tensor, stepIndex: number, sample: Tensor): { mean: Tensor; std: number } {
    return scope(() => {
      const timestep = this.timesteps[stepIndex];
      if (timestep === undefined) throw noSuchStep(this, stepIndex);
      const previous = this.timesteps[stepIndex + 1];
      const alphaBar = this.schedule.alphaBar(timestep);
      const previousAlphaBar = previous === undefined ? 1 : this.schedule.alphaBar(previous);
      const alpha = alphaBar / previousAlphaBar;
      const beta = 1 - alpha;

      const predicted = this.schedule.split(modelOutput, sample, alphaBar).original;
      const range = this.config.clip_sample_range ?? 1;
      const original = (this.config.clip_sample ?? true) ? predicted.clamp(-range, range) : predicted;
      // equation 7
      const mean = original
        .mul((Math.sqrt(previousAlphaBar) * beta) / (1 - alphaBar))
        .add(sample.mul((Math.sqrt(alpha) * (1 - previousAlphaBar)) / (1 - alphaBar)));
      const posterior = Math.max(((1 - previousAlphaBar) / (1 - alphaBar)) * beta, 1e-20);
      const variance = this.config.variance_type === 'fixed_large' ? beta : posterior;
      return { mean, std: timestep > 0 ? Math.sqrt(variance) : 0 };
    });
  }

  /** @param sample x_t [B, C, H, W] */
  step(modelOutput: Tensor, stepIndex: number, sample: Tensor, { noise }: StepOptions = {}): Tensor {
    return scope(() => {
      const { mean, std } = this.moments(modelOutput, stepIndex, sample);
      if (std === 0) return mean;
      if (!noise)
        throw new InternalError('DDPMScheduler.step: a step before timestep 0 — noise must be given.');
      return mean.add(noise.mul(std));
    });
  }
}
