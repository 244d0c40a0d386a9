import { UserError } from '@rldf/torch';
import type { SchedulerConfig } from '../configs.js';

/**
 * The timesteps at which the network is asked, from noise to picture, as diffusers spaces them for DDIM, DDPM and
 * Euler (Lin et al. 2023, table 2).
 *
 * @param defaultSpacing of the scheduler when the config names none
 * @throws UserError when the number of steps is not an integer from 1 to `trainSteps`
 */
export function spacedTimesteps(
  config: SchedulerConfig,
  trainSteps: number,
  steps: number,
  defaultSpacing: 'leading' | 'linspace',
): number[] {
  checkSteps(steps, trainSteps);
  switch (config.timestep_spacing ?? defaultSpacing) {
    case 'leading': {
      const stride = Math.floor(trainSteps / steps);
      return countDown(steps, (i) => i * stride + (config.steps_offset ?? 0));
    }
    case 'trailing':
      return trailing(trainSteps, trainSteps / steps, steps).map((t) => roundHalfEven(t) - 1);
    case 'linspace':
      return linspace(0, trainSteps - 1, steps).reverse();
    default:
      throw new UserError(
        `scheduler config: timestep_spacing is ${JSON.stringify(config.timestep_spacing)} — not supported; ` +
          'supported: "leading", "trailing", "linspace". Change the config.',
      );
  }
}

export function checkSteps(steps: number, trainSteps: number): void {
  if (Number.isInteger(steps) && steps >= 1 && steps <= trainSteps) return;
  throw new UserError(
    `setTimesteps: ${steps} steps — must be an integer from 1 to ${trainSteps}, the timesteps the model was ` +
      'trained with. Choose a number in this range.',
  );
}

/**
 * `count` numbers from `first` down by `stride`, with the rounding errors of numpy's arange, which decide at halves. diffusers'
 * own list may have one more, next to 0 (62 of the numbers of steps up to 1,000): its last step would be one back to noise.
 */
export function trailing(first: number, stride: number, count: number): number[] {
  const delta = first - stride - first;
  return Array.from({ length: count }, (_, i) => first + i * delta);
}

/** `count` numbers from `first` to `last`, with the rounding errors of numpy's linspace. */
export function linspace(first: number, last: number, count: number): number[] {
  const step = (last - first) / (count - 1);
  return Array.from({ length: count }, (_, i) => (i > 0 && i === count - 1 ? last : first + (i && i * step)));
}

/** value(count - 1), ..., value(0) */
export function countDown(count: number, value: (i: number) => number): number[] {
  return Array.from({ length: count }, (_, i) => value(count - 1 - i));
}

/** Rounds halves to the even neighbour, as numpy does. */
export function roundHalfEven(x: number): number {
  const low = Math.floor(x);
  if (x - low !== 0.5) return Math.round(x);
  return low % 2 === 0 ? low : low + 1;
}
