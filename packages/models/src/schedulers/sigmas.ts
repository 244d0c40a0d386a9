/** Ways to place the noise levels of a trajectory, as diffusers has them for Euler, LMS, DPM-Solver++ and UniPC. */

import { UserError } from '@rldf/torch';
import type { SchedulerConfig } from '../configs.js';
import type { NoiseSchedule } from './noise-schedule.js';
import { linspace } from './timestep-spacing.js';

/** Noise levels that do not follow the timesteps' spacing, and the timesteps that belong to them. */
export interface PlacedSigmas {
  kind: 'karras' | 'exponential';
  /** Noise over signal, falling. */
  sigmas: number[];
  /** Between the training timesteps whose noise is nearest; not rounded. */
  timesteps: number[];
}

/**
 * The noise levels that `use_karras_sigmas` (Karras et al. 2022, equation 5, ρ = 7) or `use_exponential_sigmas` ask for;
 * undefined where the config asks for neither.
 *
 * @param range the largest and the smallest; `sigma_max` and `sigma_min` of the config come first
 * @throws UserError when the config asks for both
 */
export function placedSigmas(
  config: SchedulerConfig,
  schedule: NoiseSchedule,
  steps: number,
  range: { max: number; min: number },
): PlacedSigmas | undefined {
  const kind =
    config.use_karras_sigmas === true
      ? 'karras'
      : config.use_exponential_sigmas === true
        ? 'exponential'
        : undefined;
  if (kind === undefined) return undefined;
  const max = (config.sigma_max as number | null | undefined) ?? range.max;
  const min = (config.sigma_min as number | null | undefined) ?? range.min;
  const sigmas =
    kind === 'karras'
      ? linspace(0, 1, steps).map((part) => (max ** (1 / 7) + part * (min ** (1 / 7) - max ** (1 / 7))) ** 7)
      : linspace(Math.log(max), Math.log(min), steps).map(Math.exp);
  return { kind, sigmas, timesteps: sigmas.map((sigma) => timestepOf(sigma, schedule)) };
}

/** @throws UserError when more than one way is asked for */
export function refuseSeveralSigmas(config: SchedulerConfig, where: string): void {
  const asked = ['use_karras_sigmas', 'use_exponential_sigmas'].filter((key) => config[key] === true);
  if (asked.length < 2) return;
  throw new UserError(
    `${where}: ${asked.join(' and ')} are both true — noise levels are placed in one way. Set one of them to false.`,
  );
}

/** The timestep whose log noise level that is, by linear interpolation; within the schedule. */
function timestepOf(sigma: number, schedule: NoiseSchedule): number {
  const last = schedule.trainSteps - 1;
  const level = Math.log(Math.max(sigma, 1e-10));
  let low = 0;
  for (let t = 0; t <= last; t++) if (level >= Math.log(schedule.sigma(t))) low = t;
  low = Math.min(low, last - 1);
  const [from, to] = [Math.log(schedule.sigma(low)), Math.log(schedule.sigma(low + 1))];
  const weight = Math.min(1, Math.max(0, (from - level) / (from - to)));
  return (1 - weight) * low + weight * (low + 1);
}
