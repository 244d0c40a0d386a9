import { keep, noiseKey, normal, scope, type Tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import type { SchedulerConfig } from '../configs.js';
import { DDIMScheduler } from './ddim.js';
import { createScheduler } from './scheduler.js';
import { roundHalfEven, spacedTimesteps } from './timestep-spacing.js';

const CONFIG: SchedulerConfig = {
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: 'scaled_linear',
  clip_sample: false,
};

/** Draws with the perfect network of a world that has one picture only. */
function drawOnlyPicture(name: string, config: SchedulerConfig, steps: number): number {
  return scope(() => {
    const scheduler = createScheduler({ ...CONFIG, ...config }, name);
    const options = { dtype: 'float64' } as const;
    const picture = normal([noiseKey(1, 'picture'), noiseKey(2, 'picture')], [2, 3], options);
    const noiseAt = (step: number) =>
      normal([noiseKey(3, 'n', step), noiseKey(4, 'n', step)], [2, 3], options);
    const timesteps = scheduler.setTimesteps(steps);
    let sample: Tensor = noiseAt(999).mul(scheduler.initialNoiseScale);
    for (const [step, timestep] of timesteps.entries()) {
      const alphaBar = 1 / (scheduler.schedule.sigma(timestep) ** 2 + 1);
      const input = scheduler.scaleModelInput(sample, step);
      const noise = input.sub(picture.mul(Math.sqrt(alphaBar))).div(Math.sqrt(1 - alphaBar));
      sample = scheduler.step(noise, step, sample, { noise: noiseAt(step) });
    }
    return sample.sub(picture).abs().amax().item();
  });
}

test.each([
  ['DDIMScheduler', { set_alpha_to_one: true }],
  ['DDIMScheduler', { set_alpha_to_one: true, timestep_spacing: 'trailing' }],
  ['DDPMScheduler', {}],
  ['DPMSolverMultistepScheduler', {}],
  ['DPMSolverMultistepScheduler', { timestep_spacing: 'leading', steps_offset: 1 }],
  ['EulerDiscreteScheduler', {}],
  ['EulerDiscreteScheduler', { timestep_spacing: 'leading', steps_offset: 1 }],
] as const)('%s %j ends at the only picture there is', (name, config) => {
  for (const steps of [1, 2, 5, 20]) expect(drawOnlyPicture(name, config, steps)).toBeLessThan(1e-9);
});

test('timesteps are spaced as in diffusers', () => {
  const spaced = (config: SchedulerConfig) => spacedTimesteps(config, 1000, 4, 'leading').map(roundHalfEven);
  expect(spaced({})).toEqual([750, 500, 250, 0]);
  expect(spaced({ steps_offset: 1 })).toEqual([751, 501, 251, 1]);
  expect(spaced({ timestep_spacing: 'trailing' })).toEqual([999, 749, 499, 249]);
  expect(spaced({ timestep_spacing: 'linspace' })).toEqual([999, 666, 333, 0]);
});

test('halves round to the even neighbour', () => {
  expect([0.5, 1.5, 2.5, 2.4, 2.6].map(roundHalfEven)).toEqual([0, 2, 2, 2, 3]);
});

test('a solver refuses steps out of order', () => {
  const scheduler = createScheduler(CONFIG, 'DPMSolverMultistepScheduler');
  scheduler.setTimesteps(20);
  const sample = keep(normal([noiseKey(1, 'x')], [2]));
  expect(() => scheduler.step(sample, 5, sample)).toThrow(/in order/);
});

test('what is not built is drawn by DDIM on the same schedule, without the clipping that DDIM adds', () => {
  const scheduler = createScheduler({ _class_name: 'PNDMScheduler', beta_schedule: 'scaled_linear' });
  expect(scheduler).toBeInstanceOf(DDIMScheduler);
  expect(scheduler.config.clip_sample).toBe(false);
  expect(() => createScheduler({ _class_name: 'UniPCScheduler' })).toThrow(
    /"UniPCScheduler" — not supported/,
  );
});
