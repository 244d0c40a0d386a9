import { readFileSync } from 'node:fs';
import { keep, liveTensors, noiseKey, normal, scope, type Tensor, UserError } from '@rldf/torch';
import { expect, test } from 'vitest';
import type { SchedulerConfig } from '../configs.js';
import { DDIMScheduler } from './ddim.js';
import { passedOver } from './options.js';
import { createScheduler, ddimOf, policyOfConfig } from './scheduler.js';
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
  ['EulerDiscreteScheduler', { use_exponential_sigmas: true }],
  ['EulerAncestralDiscreteScheduler', {}],
  ['EulerAncestralDiscreteScheduler', { timestep_spacing: 'leading', steps_offset: 1 }],
  ['UniPCMultistepScheduler', {}],
  ['UniPCMultistepScheduler', { solver_order: 3, predict_x0: false }],
  ['UniPCMultistepScheduler', { solver_type: 'bh1' }],
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

/** Of every number of steps from 1: how many timesteps diffusers has, and a sum that changes with their order. */
const { checksums } = JSON.parse(
  readFileSync(new URL('../../goldens/timesteps.json', import.meta.url), 'utf8'),
) as { checksums: { [scheduler: string]: ([count: number, sum: number] | null)[] } };

test.each(Object.entries(checksums))('%s: timesteps of any number of steps as in diffusers', (name, rows) => {
  const [kind, spacing] = name.split(' ') as [string, 'leading' | 'trailing' | 'linspace'];
  const scheduler = createScheduler({ ...CONFIG, timestep_spacing: spacing }, kind);
  const wrong = rows.flatMap((expected, i) => {
    if (expected === null) return [];
    const values = scheduler.setTimesteps(i + 1).map((t) => roundHalfEven(t * 1024));
    const sum = values.reduce((total, t, place) => total + ((place % 97) + 1) * t, 0);
    return values.length === expected[0] && sum === expected[1] ? [] : [i + 1];
  });
  expect(wrong).toEqual([]);
  expect(rows.length).toBeGreaterThan(998);
});

test('halves round to the even neighbour', () => {
  expect([0.5, 1.5, 2.5, 2.4, 2.6].map(roundHalfEven)).toEqual([0, 2, 2, 2, 3]);
});

test.each([
  ...['DPMSolverMultistepScheduler', 'PNDMScheduler', 'LMSDiscreteScheduler', 'UniPCMultistepScheduler'],
])('%s refuses steps out of order', (name) => {
  const scheduler = createScheduler(CONFIG, name);
  scheduler.setTimesteps(20);
  const sample = keep(normal([noiseKey(1, 'x')], [2]));
  expect(() => scheduler.step(sample, 5, sample)).toThrow(/in order/);
  expect(() => scheduler.step(sample, 50, sample)).toThrow(/step 50 of \d+ — there is no such step/);
  sample.free();
});

test.each([
  ['PNDMScheduler', { skip_prk_steps: true }, 21],
  ['PNDMScheduler', { skip_prk_steps: false }, 29],
  ['LMSDiscreteScheduler', {}, 20],
  ['UniPCMultistepScheduler', { solver_order: 3 }, 20],
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
    'EulerAncestralDiscreteScheduler',
    'UniPCMultistepScheduler',
    'LCMScheduler',
  ])
    expect(createScheduler({ ...CONFIG, _class_name: name }).constructor.name).toBe(name);
  expect(() => createScheduler({ _class_name: 'HeunDiscreteScheduler' })).toThrow(
    /"HeunDiscreteScheduler" — not supported/,
  );
});

test.each([
  ['EulerDiscreteScheduler', { use_beta_sigmas: true }, 'use_beta_sigmas is true — not supported'],
  ['EulerDiscreteScheduler', { interpolation_type: 'log_linear' }, 'interpolation_type is "log_linear"'],
  ['EulerDiscreteScheduler', { timestep_type: 'continuous' }, 'timestep_type is "continuous"'],
  ['EulerDiscreteScheduler', { timestep_spacing: 'even' }, 'timestep_spacing is "even"'],
  [
    'EulerDiscreteScheduler',
    { use_karras_sigmas: true, use_exponential_sigmas: true },
    'use_karras_sigmas and use_exponential_sigmas are both true',
  ],
  [
    'DPMSolverMultistepScheduler',
    { algorithm_type: 'sde-dpmsolver++' },
    'algorithm_type is "sde-dpmsolver++"',
  ],
  ['DPMSolverMultistepScheduler', { solver_order: 3 }, 'solver_order is 3'],
  ['DPMSolverMultistepScheduler', { use_lu_lambdas: true }, 'use_lu_lambdas is true'],
  ['DPMSolverMultistepScheduler', { use_flow_sigmas: true }, 'use_flow_sigmas is true'],
  ['UniPCMultistepScheduler', { solver_p: 'DDIM' }, 'solver_p is "DDIM"'],
  ['UniPCMultistepScheduler', { lower_order_final: false }, 'lower_order_final is false — the last step'],
  [
    'UniPCMultistepScheduler',
    { disable_corrector: 'first' },
    'disable_corrector is "first" — must be a list',
  ],
  ['LCMScheduler', { original_inference_steps: 1001 }, 'original_inference_steps is 1001'],
  ['LCMScheduler', { thresholding: true }, 'thresholding is true'],
  ['DDIMScheduler', { use_karras_sigma: true }, 'use_karras_sigma is true — no scheduler has such an option'],
  [
    'PNDMScheduler',
    { rescale_betas_zero_snr: true },
    'is not supported by PNDMScheduler. Use one of DDIMScheduler',
  ],
  [
    'EulerDiscreteScheduler',
    { shift: 3 },
    'shift is 3 — flow matching is not supported by EulerDiscreteScheduler',
  ],
  ['DDIMScheduler', { use_flow_sigmas: true }, 'use_flow_sigmas is true — flow matching'],
] as const)('%s %j is refused by name', (name, config, message) => {
  const make = () =>
    createScheduler({ ...CONFIG, ...(config as SchedulerConfig) }, name, 'model/scheduler_config.json');
  expect(make).toThrow(UserError);
  expect(make).toThrow(message);
});

test('a class that is no text is refused', () => {
  const damaged = { ...CONFIG, _class_name: { toString: 1 } } as unknown as SchedulerConfig;
  expect(() => createScheduler(damaged)).toThrow(UserError);
  expect(ddimOf(damaged)).toBeInstanceOf(DDIMScheduler);
});

test('options of other schedulers are passed over as in diffusers, and told', () => {
  // what Stable Diffusion XL's Euler has in its file
  const sdxl = { ...CONFIG, _class_name: 'EulerDiscreteScheduler', sample_max_value: 1, set_alpha_to_one: false, skip_prk_steps: true, interpolation_type: 'linear' }; // biome-ignore format: one line
  createScheduler(sdxl);
  expect(passedOver(sdxl)).toEqual([]);
  const kept = { ...CONFIG, _class_name: 'EulerAncestralDiscreteScheduler', use_karras_sigmas: true, algorithm_type: 'sde-dpmsolver++' }; // biome-ignore format: one line
  createScheduler(kept);
  expect(passedOver(kept)).toEqual(['use_karras_sigmas']);
});

test('a last timestep of noise alone: refused where the network predicts noise, drawn where it predicts velocity', () => {
  const trailing = { timestep_spacing: 'trailing', rescale_betas_zero_snr: true } as const;
  for (const name of ['DDIMScheduler', 'DDPMScheduler'])
    expect(() => createScheduler({ ...CONFIG, ...trailing }, name).setTimesteps(5)).toThrow(
      /timestep 999 is noise alone .* Use a model with prediction_type "v_prediction"/,
    );
  createScheduler({ ...CONFIG, ...trailing, timestep_spacing: 'leading' }, 'DDIMScheduler').setTimesteps(5);
  const ddim = ddimOf({ ...CONFIG, ...trailing, prediction_type: 'v_prediction', set_alpha_to_one: false });
  ddim.setTimesteps(5);
  const sample = normal([noiseKey(1, 'x')], [3]);
  const answer = normal([noiseKey(1, 'v')], [3]);
  const { mean, std } = ddim.moments(answer, 0, sample, 1);
  // x_0 is minus the velocity there, and all that is left of the noise is new
  const alphaBar = ddim.schedule.alphaBar(799);
  expect(std).toBeCloseTo(Math.sqrt(1 - alphaBar), 12);
  expect(
    mean
      .add(answer.mul(Math.sqrt(alphaBar)))
      .abs()
      .amax()
      .item(),
  ).toBeLessThan(1e-6);
  sample.free();
});

test('LCM draws with at most the steps it was distilled with', () => {
  const scheduler = createScheduler({ ...CONFIG, _class_name: 'LCMScheduler' });
  expect(scheduler.setTimesteps(4)).toEqual([999, 759, 499, 259]);
  expect(() => scheduler.setTimesteps(51)).toThrow(
    /51 steps — must be at most 50, the original_inference_steps/,
  );
});

/**
 * Ancestral Euler is DDIM with eta 1 in other coordinates, y = x sqrt(1 + σ²): so each of its densities must be DDIM's of the same
 * step, less the logarithm of the change of volume.
 */
test('the density of an ancestral Euler step is that of DDIM with eta 1', () => {
  const spacing = { timestep_spacing: 'leading', steps_offset: 1, set_alpha_to_one: false } as const;
  const config = { ...CONFIG, ...spacing };
  const [euler, ddim] = [policyOfConfig(config, 'euler-ancestral'), policyOfConfig(config, 'ddim')];
  const [steps, again] = [euler.setTimesteps(10), ddim.setTimesteps(10)];
  expect(steps).toEqual(again);
  const options = { dtype: 'float64' } as const;
  const draw = (name: string) => normal([noiseKey(1, name), noiseKey(2, name)], [2, 3], options);
  const scaleAt = (step: number) => Math.hypot(euler.schedule.sigma(steps[step]!), 1);
  const logDensity = (x: Tensor, { mean, std }: { mean: Tensor; std: number }) =>
    x.sub(mean).div(std).square().mul(-0.5).sub(Math.log(std) + 0.5 * Math.log(2 * Math.PI)).mean([1, 2]); // biome-ignore format: one formula
  for (let step = 0; step < 9; step++) {
    const [x, answer, next] = [draw(`x ${step}`), draw(`answer ${step}`), draw(`next ${step}`)];
    const here = logDensity(next.mul(scaleAt(step + 1)), euler.moments(answer, step, x.mul(scaleAt(step))));
    const there = logDensity(next, ddim.moments(answer, step, x, 1)).sub(Math.log(scaleAt(step + 1)));
    expect(here.sub(there).abs().amax().item()).toBeLessThan(1e-11);
    expect(euler.std(step)).toBeCloseTo(ddim.std(step, 1) * scaleAt(step + 1), 12);
    expect(euler.noiseSlope(step)).toBeCloseTo(ddim.noiseSlope(step, 1) * scaleAt(step + 1), 12);
  }
  expect([euler.std(9), euler.needsNoise(9), euler.needsNoise(8)]).toEqual([0, false, true]);
});

test('what an ancestral Euler step draws has the mean and spread of its density', () => {
  const euler = policyOfConfig(CONFIG, 'euler-ancestral');
  euler.setTimesteps(5);
  const keys = Array.from({ length: 3000 }, (_, i) => noiseKey(i, 'n'));
  const [x, answer] = [normal([noiseKey(1, 'x')], [4]).mul(5), normal([noiseKey(1, 'answer')], [4])];
  const { mean, std } = euler.moments(answer, 2, x);
  const drawn = euler.step(answer.expand([3000, 4]), 2, x.expand([3000, 4]), { noise: normal(keys, [4]) });
  const off = drawn.mean(0).sub(mean).abs().amax().item();
  expect(off).toBeLessThan((4.5 * std) / Math.sqrt(3000));
  const spread = drawn.sub(mean).square().mean().sqrt().item();
  expect(Math.abs(spread / std - 1)).toBeLessThan(0.03);
});

test('DDIM in another scheduler’s place does not clip unless the config says so', () => {
  const scheduler = ddimOf({ _class_name: 'PNDMScheduler', beta_schedule: 'scaled_linear' });
  expect(scheduler).toBeInstanceOf(DDIMScheduler);
  expect(scheduler.config).toMatchObject({ clip_sample: false, set_alpha_to_one: false });
  expect(ddimOf({ _class_name: 'PNDMScheduler', clip_sample: true }).config.clip_sample).toBe(true);
});
