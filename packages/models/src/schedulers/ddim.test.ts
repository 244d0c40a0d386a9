import { noiseKey, normal, tensor, UserError } from '@rldf/torch';
import { expect, test } from 'vitest';
import { DDIMScheduler } from './ddim.js';

const STABLE_DIFFUSION = {
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: 'scaled_linear',
  clip_sample: false,
  set_alpha_to_one: false,
  steps_offset: 1,
} as const;

const draw = (purpose: string) =>
  normal([noiseKey(1, purpose), noiseKey(2, purpose)], [4, 3, 5], { dtype: 'float64' });

test('ᾱ of Stable Diffusion to ten digits', () => {
  const { schedule } = new DDIMScheduler(STABLE_DIFFUSION);
  const printed = [
    [0, '0.9991500000'],
    [1, '0.9982960278'],
    [21, '0.9803807481'],
    [41, '0.9608727876'],
    [481, '0.3022956610'],
    [501, '0.2749990669'],
    [961, '0.0072817271'],
    [981, '0.0057755001'],
    [999, '0.0046600985'],
  ] as const;
  for (const [timestep, digits] of printed) expect(schedule.alphaBar(timestep).toFixed(10)).toBe(digits);
});

test('step coefficients of Stable Diffusion with 50 steps to the digits printed', () => {
  const scheduler = new DDIMScheduler(STABLE_DIFFUSION);
  const timesteps = scheduler.setTimesteps(50);
  expect(timesteps.slice(0, 2)).toEqual([981, 961]);
  expect(timesteps.slice(-2)).toEqual([21, 1]);
  const printed = [
    [981, '2.0653686597e-1', '0.4544632724', '0.08533304', '0.88666871'],
    [501, '8.6897925187e-2', '0.2947845403', '0.54981421', '0.78154105'],
    [41, '9.9774745473e-3', '0.0998873092', '0.99014178', '0.09819255'],
    [21, '1.5586345635e-3', '0.0394795461', '0.99914765', '0.01205560'],
    [1, '4.2635312565e-4', '0.0206483202', '0.99957491', '0.02058268'],
  ] as const;
  for (const [timestep, variance, std, original, noise] of printed) {
    const found = scheduler.coefficients(timesteps.indexOf(timestep), 1);
    expect(found.variance.toExponential(10)).toBe(variance);
    expect(found.std.toFixed(10)).toBe(std);
    expect(found.original.toFixed(8)).toBe(original);
    expect(found.noise.toFixed(8)).toBe(noise);
  }
});

test('a step is the mean plus std times the noise', () => {
  const scheduler = new DDIMScheduler(STABLE_DIFFUSION);
  scheduler.setTimesteps(10);
  const [prediction, sample, noise] = [draw('prediction'), draw('sample'), draw('noise')];
  const { mean, std } = scheduler.moments(prediction, 3, sample, 0.7);
  const next = scheduler.step(prediction, 3, sample, { eta: 0.7, noise });
  expect(std).toBeCloseTo(0.7 * scheduler.coefficients(3, 1).std, 14);
  expect(next.sub(mean).div(std).sub(noise).abs().amax().item()).toBeLessThan(1e-12);
});

test('v-prediction walks the path of the noise it stands for', () => {
  const byNoise = new DDIMScheduler(STABLE_DIFFUSION);
  const byVelocity = new DDIMScheduler({ ...STABLE_DIFFUSION, prediction_type: 'v_prediction' });
  const timestep = byNoise.setTimesteps(10)[4]!;
  byVelocity.setTimesteps(10);
  const [original, noise] = [draw('original'), draw('noise')];
  const sample = byNoise.schedule.addNoise(original, noise, [timestep, timestep]);
  const velocity = byVelocity.schedule.target(original, noise, [timestep, timestep]);
  const expected = byNoise.moments(noise, 4, sample, 1).mean;
  const found = byVelocity.moments(velocity, 4, sample, 1).mean;
  expect(found.sub(expected).abs().amax().item()).toBeLessThan(1e-13);
});

test('std is finite at every step with and without offset, and 0 only where the picture is final', () => {
  for (const [offset, toOne, lastIsFinal] of [
    [1, false, false],
    [0, false, true],
    [1, true, true],
    [0, true, true],
  ] as const) {
    const scheduler = new DDIMScheduler({
      ...STABLE_DIFFUSION,
      steps_offset: offset,
      set_alpha_to_one: toOne,
    });
    const stds = scheduler.setTimesteps(20).map((_, step) => scheduler.coefficients(step, 1).std);
    expect(stds.every(Number.isFinite)).toBe(true);
    expect(stds.slice(0, -1).every((std) => std > 0)).toBe(true);
    expect(stds.at(-1) === 0).toBe(lastIsFinal);
  }
});

test('clip_sample bounds the clean sample, and is on unless the config says no', () => {
  const { clip_sample: _, ...unsaid } = STABLE_DIFFUSION;
  const scheduler = new DDIMScheduler({ ...unsaid, clip_sample_range: 0.5 });
  scheduler.setTimesteps(10);
  const { original, noise } = scheduler.coefficients(9, 0);
  const sample = tensor([[3]], { dtype: 'float64' });
  const prediction = tensor([[0]], { dtype: 'float64' }); // clean sample about 3
  expect(scheduler.step(prediction, 9, sample).item()).toBeCloseTo(0.5 * original + 0 * noise, 12);
});

test('a schedule that cannot be built is refused by name and value', () => {
  expect(() => new DDIMScheduler({ ...STABLE_DIFFUSION, thresholding: true })).toThrow(
    /thresholding is true/,
  );
  const scheduler = new DDIMScheduler(STABLE_DIFFUSION);
  expect(() => scheduler.setTimesteps(0)).toThrow(UserError);
  expect(() => scheduler.setTimesteps(1001)).toThrow(/1001 steps/);
  expect(() => scheduler.coefficients(0, 1)).toThrow(/step 0 of 0/);
});
