import { stack, type Tensor } from '@rldf/torch';
import { DDIMScheduler } from '../src/schedulers/ddim.js';
import { createScheduler } from '../src/schedulers/scheduler.js';
import type { Difference, Golden, Output } from './golden.js';

interface SchedulerCase {
  class: string;
  config: Parameters<typeof createScheduler>[0];
  steps: number;
  eta?: number;
}

/** Names of the trajectories in the golden. */
export function schedulerNames(golden: Golden): string[] {
  return Object.keys(golden.json.cases as { [name: string]: SchedulerCase });
}

/** Drives a scheduler through one trajectory of given model outputs and noise, in float64. */
export function schedulerTrajectory(golden: Golden, name: string): { [name: string]: Output } {
  const {
    class: kind,
    config,
    steps,
    eta = 0,
  } = (golden.json.cases as { [name: string]: SchedulerCase })[name]!;
  const scheduler = createScheduler(config, kind);
  const modelOutputs = golden.tensor(`${name}.inputs.model_outputs`); // [T, B, C, H, W]
  const noise = golden.tensor(`${name}.inputs.noise`); // [T, B, C, H, W]
  const first = golden.tensor(`${name}.outputs.trajectory`).select(0, 0);
  const timesteps = scheduler.setTimesteps(steps);
  const samples: Tensor[] = [first];
  const scaled: Tensor[] = [];
  for (const index of timesteps.keys()) {
    const sample = samples[index]!;
    scaled.push(scheduler.scaleModelInput(sample, index));
    const options = scheduler.needsNoise(index, eta) ? { eta, noise: noise.select(0, index) } : { eta };
    samples.push(scheduler.step(modelOutputs.select(0, index), index, sample, options));
  }
  const times = golden.json.noisedTimesteps as number[];
  return {
    [`${name}.outputs.trajectory`]: stack(samples),
    [`${name}.outputs.scaled`]: stack(scaled),
    [`${name}.outputs.timesteps`]: [...timesteps],
    [`${name}.outputs.initial_noise_scale`]: [scheduler.initialNoiseScale],
    [`${name}.outputs.noised`]: scheduler.schedule.addNoise(first, noise.select(0, 0), times),
    [`${name}.outputs.velocity`]: scheduler.schedule.velocity(first, noise.select(0, 0), times),
  };
}

/** The DDIM table of Stable Diffusion's schedule with 50 steps, computed apart with numpy; to the digits given. */
const DDIM_ALPHA_BAR: readonly (readonly [timestep: number, alphaBar: number])[] = [
  [0, 0.99915],
  [1, 0.9982960278],
  [21, 0.9803807481],
  [41, 0.9608727876],
  [481, 0.302295661],
  [501, 0.2749990669],
  [961, 0.0072817271],
  [981, 0.0057755001],
  [999, 0.0046600985],
];
const DDIM_STEPS: readonly (readonly [
  timestep: number,
  variance: number,
  std: number,
  x0: number,
  noise: number,
])[] = [
  [981, 2.0653686597e-1, 0.4544632724, 0.08533304, 0.88666871],
  [501, 8.6897925187e-2, 0.2947845403, 0.54981421, 0.78154105],
  [41, 9.9774745473e-3, 0.0998873092, 0.99014178, 0.09819255],
  [21, 1.5586345635e-3, 0.0394795461, 0.99914765, 0.0120556],
  [1, 4.2635312565e-4, 0.0206483202, 0.99957491, 0.02058268],
];

/** Each number of the table, as a share of half a unit of its last printed digit: 1 is still rounding. */
export function ddimTableDifferences(): Difference[] {
  const scheduler = new DDIMScheduler({
    beta_start: 0.00085,
    beta_end: 0.012,
    beta_schedule: 'scaled_linear',
    set_alpha_to_one: false,
    steps_offset: 1,
  });
  const timesteps = scheduler.setTimesteps(50);
  const units = (name: string, found: number, expected: number, unit: number): Difference => ({
    name,
    error: Math.abs(found - expected) / (0.5 * unit),
  });
  return [
    ...DDIM_ALPHA_BAR.map(([t, expected]) =>
      units(`ᾱ[${t}]`, scheduler.schedule.alphaBar(t), expected, 1e-10),
    ),
    ...DDIM_STEPS.flatMap(([t, variance, std, x0, noise]) => {
      const found = scheduler.coefficients(timesteps.indexOf(t), 1);
      return [
        units(`variance at ${t}`, found.variance, variance, 10 ** (Math.floor(Math.log10(variance)) - 10)),
        units(`std at ${t}`, found.std, std, 1e-10),
        units(`factor of x0 at ${t}`, found.original, x0, 1e-8),
        units(`factor of noise at ${t}`, found.noise, noise, 1e-8),
      ];
    }),
  ];
}
