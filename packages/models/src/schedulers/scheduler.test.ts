import { keep, liveTensors, noiseKey, normal, scope, type Tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import type { SchedulerConfig } from '../configs.js';
import { DDIMScheduler } from './ddim.js';
import { createScheduler, ddimOf } from './scheduler.js';
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
  ['PNDMScheduler', { set_alpha_to_one: true, skip_prk_steps: true }],
  ['LMSDiscreteScheduler', {}],
  ['LMSDiscreteScheduler', { timestep_spacing: 'leading', steps_offset: 1 }],
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

test.each(['DPMSolverMultistepScheduler', 'PNDMScheduler', 'LMSDiscreteScheduler'])(
  '%s refuses steps out of order',
  (name) => {
    const scheduler = createScheduler(CONFIG, name);
    scheduler.setTimesteps(20);
    const sample = keep(normal([noiseKey(1, 'x')], [2]));
    expect(() => scheduler.step(sample, 5, sample)).toThrow(/in order/);
    expect(() => scheduler.step(sample, 50, sample)).toThrow(/step 50 of \d+ — there is no such step/);
    sample.free();
  },
);

test.each([
  ['PNDMScheduler', { skip_prk_steps: true }, 21],
  ['PNDMScheduler', { skip_prk_steps: false }, 29],
  ['LMSDiscreteScheduler', {}, 20],
])(
  '%s %j asks the network %i times in 20 steps, and leaves nothing behind, whole or left early',
  (name, config, calls) => {
    const scheduler = createScheduler({ ...CONFIG, ...config }, name);
    const sample = keep(normal([noiseKey(1, 'x')], [2]));
    const before = liveTensors();
    for (const until of [calls, 1, 2, 6, 14]) {
      const timesteps = scheduler.setTimesteps(20);
      expect(timesteps.length).toBe(calls);
      for (let step = 0; step < until; step++) scheduler.step(sample, step, sample).free();
      if (until < calls) scheduler.forget();
      expect(liveTensors()).toBe(before);
    }
    sample.free();
  },
);

test('PNDM refuses what it does not do', () => {
  const make = (config: SchedulerConfig) => () => createScheduler({ ...CONFIG, ...config }, 'PNDMScheduler');
  expect(make({ prediction_type: 'sample' })).toThrow(/prediction_type is "sample" — not supported/);
  expect(make({ skip_prk_steps: 'yes' })).toThrow(/skip_prk_steps is "yes"/);
  expect(() => make({})().setTimesteps(3)).toThrow(/3 steps — with skip_prk_steps: false .* at least 4/);
});

test('a scheduler is the one that the config names, or is refused', () => {
  for (const name of [
    'DDIMScheduler',
    'DDPMScheduler',
    'EulerDiscreteScheduler',
    'PNDMScheduler',
    'LMSDiscreteScheduler',
  ])
    expect(createScheduler({ ...CONFIG, _class_name: name }).constructor.name).toBe(name);
  expect(() => createScheduler({ _class_name: 'UniPCScheduler' })).toThrow(
    /"UniPCScheduler" — not supported/,
  );
});

test('DDIM in another scheduler’s place does not clip unless the config says so', () => {
  const scheduler = ddimOf({ _class_name: 'PNDMScheduler', beta_schedule: 'scaled_linear' });
  expect(scheduler).toBeInstanceOf(DDIMScheduler);
  expect(scheduler.config).toMatchObject({ clip_sample: false, set_alpha_to_one: false });
  expect(ddimOf({ _class_name: 'PNDMScheduler', clip_sample: true }).config.clip_sample).toBe(true);
});
