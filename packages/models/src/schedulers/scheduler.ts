import { shown, type Tensor, UserError } from '@rldf/torch';
import type { SchedulerConfig } from '../configs.js';
import { DDIMScheduler } from './ddim.js';
import { DDPMScheduler } from './ddpm.js';
import { DPMSolverMultistepScheduler } from './dpm-solver-multistep.js';
import { EulerAncestralDiscreteScheduler } from './euler-ancestral-discrete.js';
import { EulerDiscreteScheduler } from './euler-discrete.js';
import { LCMScheduler } from './lcm.js';
import { LMSDiscreteScheduler } from './lms-discrete.js';
import type { NoiseSchedule } from './noise-schedule.js';
import { refuseUnknownOptions } from './options.js';
import { PNDMScheduler } from './pndm.js';
import { UniPCMultistepScheduler } from './unipc-multistep.js';

export interface StepOptions {
  /** Share of the DDPM noise that DDIM adds, 0 (none) to 1. Only DDIM reads it. */
  eta?: number;
  /** Standard normal, shaped as the sample; needed where `needsNoise` says so. */
  noise?: Tensor;
}

/** A way from noise to picture. One instance serves one trajectory at a time: solvers may remember past steps. */
export interface Scheduler {
  readonly config: SchedulerConfig;
  readonly schedule: NoiseSchedule;
  /** From noise to picture, one a call of the network, which may be more than the steps asked for; empty before `setTimesteps`. */
  readonly timesteps: readonly number[];
  /** Standard deviation of the first latents. Known after `setTimesteps`. */
  readonly initialNoiseScale: number;
  /** Plans a trajectory of that many steps. */
  setTimesteps(steps: number): readonly number[];
  /** What the network is shown for the sample at a step. */
  scaleModelInput(sample: Tensor, stepIndex: number): Tensor;
  /** Whether `step` needs noise there. */
  needsNoise(stepIndex: number, eta?: number): boolean;
  /** The sample after the step; shapes are those of `sample`. */
  step(modelOutput: Tensor, stepIndex: number, sample: Tensor, options?: StepOptions): Tensor;
  /** Frees what is remembered of past steps: for a trajectory that is left early. */
  forget(): void;
}

/** A scheduler whose steps are Gaussian, so that their log-probabilities can be followed. */
export interface PolicyScheduler extends Scheduler {
  /**
   * The distribution of the next sample: N(mean, std²), the same std for all samples and elements; differentiable. A step at
   * which std is 0 has no density.
   */
  moments(
    modelOutput: Tensor,
    stepIndex: number,
    sample: Tensor,
    eta?: number,
  ): { mean: Tensor; std: number };
  /** Standard deviation of the noise that a step adds. */
  std(stepIndex: number, eta?: number): number;
  /** Derivative of a step's mean by the noise that the network predicts. */
  noiseSlope(stepIndex: number, eta?: number): number;
}

const SCHEDULERS: { readonly [name: string]: new (config: SchedulerConfig, where?: string) => Scheduler } = {
  DDIMScheduler,
  DDPMScheduler,
  DPMSolverMultistepScheduler,
  EulerDiscreteScheduler,
  EulerAncestralDiscreteScheduler,
  UniPCMultistepScheduler,
  LCMScheduler,
  PNDMScheduler,
  LMSDiscreteScheduler,
};

export type SchedulerName =
  | 'DDIMScheduler'
  | 'DDPMScheduler'
  | 'DPMSolverMultistepScheduler'
  | 'EulerDiscreteScheduler'
  | 'EulerAncestralDiscreteScheduler'
  | 'UniPCMultistepScheduler'
  | 'LCMScheduler'
  | 'PNDMScheduler'
  | 'LMSDiscreteScheduler';

/** What a config of another class means where it says nothing, in the words of DDIM and DDPM. */
const UNSAID: { readonly [name: string]: SchedulerConfig } = {
  PNDMScheduler: { clip_sample: false, set_alpha_to_one: false },
  LMSDiscreteScheduler: { clip_sample: false },
  DPMSolverMultistepScheduler: { clip_sample: false },
  EulerDiscreteScheduler: { clip_sample: false },
  EulerAncestralDiscreteScheduler: { clip_sample: false },
  UniPCMultistepScheduler: { clip_sample: false },
  LCMScheduler: { clip_sample: false, beta_start: 0.00085, beta_end: 0.012, beta_schedule: 'scaled_linear' },
};

/**
 * The scheduler that a config names, or another one on the same noise schedule.
 *
 * @throws UserError for an unknown name
 */
export function createScheduler(
  config: SchedulerConfig,
  name: string = config._class_name ?? 'DDIMScheduler',
  where = 'scheduler config',
): Scheduler {
  // of a damaged file, the class may be anything
  const own = typeof config._class_name === 'string' ? config._class_name : undefined;
  const Class = typeof name === 'string' && Object.hasOwn(SCHEDULERS, name) ? SCHEDULERS[name] : undefined;
  if (Class) {
    refuseUnknownOptions(config, name, where);
    return new Class({ ...UNSAID[own ?? name], ...config }, where);
  }
  throw new UserError(
    `${where}: scheduler ${shown(name)} — not supported; supported: ${Object.keys(SCHEDULERS).join(', ')}. ` +
      'Set _class_name to one of them.',
  );
}

/**
 * DDIM on a model's noise schedule, whatever scheduler its config names: the policy of methods that need one.
 * @throws UserError when the config asks for something that is not built
 */
export function ddimOf(config: SchedulerConfig): DDIMScheduler {
  return createScheduler(config, 'DDIMScheduler') as DDIMScheduler;
}

/** The schedulers that can be a policy, by the names that recipes have for them. */
export const POLICIES = {
  ddim: 'DDIMScheduler',
  'euler-ancestral': 'EulerAncestralDiscreteScheduler',
} as const;
export type PolicyName = keyof typeof POLICIES;

/**
 * A policy on a model's noise schedule, whatever scheduler its config names.
 * @throws UserError when the config asks for something that is not built
 */
export function policyOfConfig(config: SchedulerConfig, policy: PolicyName = 'ddim'): PolicyScheduler {
  return createScheduler(config, POLICIES[policy]) as PolicyScheduler;
}
