/**
 * Which options of scheduler_config.json each scheduler has, as in diffusers 0.42. An option that a scheduler has and that is not
 * built is refused by the scheduler; one that no scheduler has is refused here. Options of other schedulers, which configs
 * keep when their class is changed, are passed over as diffusers does, and told (`passedOver`).
 */

import { shown, UserError } from '@rldf/torch';
import type { SchedulerConfig } from '../configs.js';

const PROCESS = [
  ...['num_train_timesteps', 'beta_start', 'beta_end', 'beta_schedule', 'trained_betas'],
  ...['prediction_type', 'timestep_spacing', 'steps_offset'],
];
const CLIPPING = ['clip_sample', 'clip_sample_range', ...thresholds()];
const PLACING = ['use_karras_sigmas', 'use_exponential_sigmas', 'use_beta_sigmas'];
const FLOW = ['use_flow_sigmas', 'flow_shift', 'use_dynamic_shifting', 'time_shift_type'];
const MULTISTEP = ['solver_order', 'solver_type', 'lower_order_final', 'final_sigmas_type'];

const OWN: { readonly [name: string]: readonly string[] } = {
  DDIMScheduler: [...PROCESS, ...CLIPPING, 'set_alpha_to_one', 'rescale_betas_zero_snr'],
  DDPMScheduler: [...PROCESS, ...CLIPPING, 'variance_type', 'rescale_betas_zero_snr'],
  PNDMScheduler: [...PROCESS, 'skip_prk_steps', 'set_alpha_to_one'],
  LMSDiscreteScheduler: [...PROCESS, ...PLACING],
  EulerDiscreteScheduler: [
    ...[...PROCESS, ...PLACING, 'rescale_betas_zero_snr', 'final_sigmas_type'],
    ...['interpolation_type', 'timestep_type', 'sigma_min', 'sigma_max'],
  ],
  EulerAncestralDiscreteScheduler: [...PROCESS, 'rescale_betas_zero_snr'],
  DPMSolverMultistepScheduler: [
    ...[...PROCESS, ...PLACING, ...FLOW, ...MULTISTEP, ...thresholds(), 'rescale_betas_zero_snr'],
    ...['algorithm_type', 'euler_at_final', 'use_lu_lambdas', 'lambda_min_clipped', 'variance_type'],
  ],
  UniPCMultistepScheduler: [
    ...[...PROCESS, ...PLACING, ...FLOW, ...MULTISTEP, ...thresholds(), 'rescale_betas_zero_snr'],
    ...['predict_x0', 'disable_corrector', 'solver_p', 'sigma_min', 'sigma_max', 'shift_terminal'],
  ],
  LCMScheduler: [
    ...[...PROCESS, ...CLIPPING, 'set_alpha_to_one', 'rescale_betas_zero_snr'],
    ...['original_inference_steps', 'timestep_scaling'],
  ],
};

/** Further ones, of diffusers' schedulers that are not built. */
const OTHERS = [
  ...['sigma_data', 'sigma_schedule', 'rho', 's_churn', 's_noise', 's_min', 's_max', 'eta', 'gamma'],
  ...['predictor_order', 'corrector_order', 'tau_func', 'noise_sampler_seed', 'stochastic_sampling'],
  ...['shift', 'base_shift', 'max_shift', 'base_image_seq_len', 'max_image_seq_len', 'invert_sigmas'],
  ...['snr_shift_scale', 'clip_denoised', 'scaler', 'num_inference_steps'],
];
const KNOWN = new Set([...Object.values(OWN).flat(), ...OTHERS]);

/** What an option says where it asks for nothing. */
const OFF: { readonly [key: string]: readonly unknown[] } = {
  interpolation_type: ['linear'],
  timestep_type: ['discrete'],
};

/** Options that say what the model was trained on, so that no scheduler may pass over them. */
const OF_THE_MODEL: { readonly [key: string]: string } = {
  rescale_betas_zero_snr: 'betas rescaled to zero terminal signal-to-noise ratio',
  use_flow_sigmas: 'flow matching',
  use_dynamic_shifting: 'flow matching',
  shift: 'flow matching',
};

/**
 * @param name of the scheduler that is to be made of it
 * @throws UserError for options that no scheduler has, and for those of the model that this scheduler cannot follow
 */
export function refuseUnknownOptions(config: SchedulerConfig, name: string, where: string): void {
  const own = OWN[name] ?? [];
  for (const [key, value] of Object.entries(config)) {
    if (key.startsWith('_') || value === undefined || value === null || value === false) continue;
    if (own.includes(key)) continue;
    if (!KNOWN.has(key)) {
      throw new UserError(
        `${where}: ${key} is ${shown(value)} — no scheduler has such an option. Take it out, or check how it is spelled.`,
      );
    }
    const meaning = OF_THE_MODEL[key];
    if (meaning === undefined || value === 1) continue;
    const able = Object.keys(OWN).filter((other) => OWN[other]!.includes(key) && !key.includes('flow'));
    throw new UserError(
      `${where}: ${key} is ${shown(value)} — ${meaning} is not supported by ${name}. ` +
        (key === 'rescale_betas_zero_snr'
          ? `Use one of ${able.join(', ')}.`
          : 'Use a model of the Stable Diffusion 1.x, 2.x or XL kind.'),
    );
  }
}

/** Options of other schedulers that would change what is drawn, and that this config's own one passes over, as diffusers does. */
export function passedOver(config: SchedulerConfig): string[] {
  const name = config._class_name ?? 'DDIMScheduler';
  const own = OWN[name] ?? [];
  const switches = [...PLACING, 'use_lu_lambdas', 'thresholding', 'clip_sample', ...Object.keys(OFF)];
  return switches.filter((key) => {
    const value = config[key];
    if (own.includes(key) || value === undefined || value === null || value === false) return false;
    return !(OFF[key] ?? []).includes(value);
  });
}

function thresholds(): string[] {
  return ['thresholding', 'dynamic_thresholding_ratio', 'sample_max_value'];
}
