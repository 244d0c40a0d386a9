import {
  type Conditioning,
  LoraAdapter,
  NoiseSchedule,
  tinyPipeline,
  UNET_ATTENTION,
  UNet2DConditionModel,
} from '@rldf/models';
import {
  cat,
  grad,
  noGrad,
  noiseKey,
  normal,
  Parameters,
  scope,
  setThreads,
  type Tensor,
  tensor,
} from '@rldf/torch';
import { expect, test } from 'vitest';
import { denoisingErrors, drawNoising, dropped } from './denoising-loss.js';

setThreads(1);

const config = tinyPipeline().schedulerConfig;
const random = (name: string, shape: readonly number[], rows = 2) =>
  normal(
    Array.from({ length: rows }, (_, i) => noiseKey(5, name, i)),
    shape,
    { dtype: 'float64' },
  );
const paths = [
  [0, 1],
  [0, 2],
];

/** The tiny U-Net in float64 with an adapter whose both halves are random. */
function network() {
  const parameters = Parameters.random(3, { dtype: 'float64' });
  const unet = new UNet2DConditionModel(tinyPipeline(3).unet.config, parameters.at());
  const adapter = LoraAdapter.attach(parameters, { rank: 2, targets: UNET_ATTENTION, seed: 1 });
  noGrad(() =>
    scope(() => {
      adapter.parameters().forEach((p, i) => {
        p.copy_(random(`weights ${i}`, p.shape, 1).select(0, 0).mul(0.3));
      });
    }),
  );
  return { unet, adapter };
}

test.each(['epsilon', 'sample', 'v_prediction'] as const)(
  '%s: errors by hand, in float64',
  (prediction_type) => {
    const { unet } = network();
    const schedule = new NoiseSchedule({ ...config, prediction_type });
    const latents = random('latents', [4, 4, 4]);
    const conditioning: Conditioning = { hiddenStates: random('text', [12, 16]) };
    const noising = drawNoising(schedule, latents, 7, paths);
    const errors = denoisingErrors(unet, schedule, latents, noising, conditioning).toNumbers();
    for (const [row, timestep] of noising.timesteps.entries()) {
      const alphaBar = schedule.alphaBar(timestep);
      const [a, s] = [Math.sqrt(alphaBar), Math.sqrt(1 - alphaBar)];
      const x0 = latents.select(0, row).toNumbers();
      const noise = noising.noise.select(0, row).toNumbers();
      const noisy = latents
        .narrow(0, row, 1)
        .mul(a)
        .add(noising.noise.narrow(0, row, 1).mul(s));
      const own: Conditioning = { hiddenStates: conditioning.hiddenStates.narrow(0, row, 1) };
      const prediction = unet
        .forward(
          noisy,
          noising.noise.narrow(0, 0, 1).flatten().narrow(0, 0, 1).mul(0).add(timestep).to('int64'),
          own,
        )
        .toNumbers();
      const target = {
        epsilon: noise,
        sample: x0,
        v_prediction: noise.map((e, i) => a * e - s * (x0[i] as number)),
      }[prediction_type];
      const expected =
        prediction.reduce((sum, y, i) => sum + (y - (target[i] as number)) ** 2, 0) / prediction.length;
      expect(errors[row]).toBeCloseTo(expected, 10);
    }
  },
);

test('of the guided prediction: u + w (c - u), by hand', () => {
  const { unet } = network();
  const schedule = new NoiseSchedule(config);
  const latents = random('latents', [4, 4, 4]);
  const noising = drawNoising(schedule, latents, 7, paths);
  const text = (name: string): Conditioning => ({ hiddenStates: random(name, [12, 16]) });
  const prediction = (conditioning: Conditioning) => {
    const timesteps = tensor([...noising.timesteps], { dtype: 'int64' });
    const noisy = schedule.addNoise(latents, noising.noise, noising.timesteps);
    return unet.forward(noisy, timesteps, conditioning).toNumbers();
  };
  const [u, c] = [prediction(text('empty')), prediction(text('caption'))];
  const both = { hiddenStates: cat([text('empty').hiddenStates, text('caption').hiddenStates]) };
  const errors = denoisingErrors(unet, schedule, latents, noising, both, 5).toNumbers();
  const squares = noising.noise
    .toNumbers()
    .map((noise, i) => ((u[i] as number) + 5 * ((c[i] as number) - (u[i] as number)) - noise) ** 2);
  expect(errors[0]).toBeCloseTo(squares.slice(0, 64).reduce((a, b) => a + b) / 64, 10);
  expect(errors[1]).toBeCloseTo(squares.slice(64).reduce((a, b) => a + b) / 64, 10);
});

test('the gradient of a weighted sum equals finite differences: 1e-6 in float64', () => {
  const { unet, adapter } = network();
  const parameters = adapter.trainable();
  const schedule = new NoiseSchedule(config);
  const latents = random('latents', [4, 4, 4]);
  const text = random('text', [12, 16]).requiresGrad_();
  const noising = drawNoising(schedule, latents, 7, paths);
  const weights = random('weights', [], 2);
  const loss = () =>
    denoisingErrors(unet, schedule, latents, noising, { hiddenStates: text }).mul(weights).sum();
  const inputs: Tensor[] = [...parameters, text];
  const gradients = grad(loss(), inputs);
  for (const index of [0, 3, inputs.length - 1]) {
    const input = inputs[index] as Tensor;
    const direction = random(`direction ${index}`, input.shape, 1).select(0, 0);
    const along = (gradients[index] as Tensor).mul(direction).sum().item();
    const step = 1e-5;
    const at = (sign: number) =>
      noGrad(() => {
        const before = input.detach().clone();
        input.detach().copy_(before.add(direction, sign * step));
        const value = loss().item();
        input.detach().copy_(before);
        return value;
      });
    const difference = (at(1) - at(-1)) / (2 * step);
    expect(Math.abs(difference / along - 1)).toBeLessThan(1e-6);
  }
});

test('timestep and noise of a picture are its own: the batch does not change them, another pass does', () => {
  const schedule = new NoiseSchedule(config);
  const both = drawNoising(schedule, random('latents', [4, 4, 4]), 7, paths);
  const second = drawNoising(schedule, random('latents', [4, 4, 4], 1), 7, [[0, 2]]);
  expect(second.timesteps).toEqual([both.timesteps[1]]);
  expect(second.noise.toNumbers()).toEqual(both.noise.narrow(0, 1, 1).toNumbers());
  const later = drawNoising(schedule, random('latents', [4, 4, 4], 1), 7, [[1, 2]]);
  expect(later.noise.toNumbers()).not.toEqual(second.noise.toNumbers());
  const drawn = Array.from(
    { length: 4000 },
    (_, i) => drawNoising(schedule, random('l', [1], 1), 7, [[i]]).timesteps[0] as number,
  );
  expect(drawn.reduce((sum, t) => sum + t, 0) / drawn.length).toBeCloseTo(499.5, -1.7);
  expect(Math.min(...drawn)).toBeGreaterThanOrEqual(0);
  expect(Math.max(...drawn)).toBeLessThan(1000);
});

test('timesteps are drawn evenly from the part of the schedule that is asked for', () => {
  const schedule = new NoiseSchedule(config);
  const latents = random('l', [1], 1);
  const timestep = (i: number, range?: [number, number]) =>
    drawNoising(schedule, latents, 7, [[i]], range).timesteps[0] as number;
  const drawn = Array.from({ length: 2000 }, (_, i) => timestep(i, [0.5, 0.75]));
  expect(Math.min(...drawn)).toBe(500);
  expect(Math.max(...drawn)).toBe(749);
  expect(drawn.reduce((sum, t) => sum + t, 0) / drawn.length).toBeCloseTo(624.5, -0.9);
  expect(timestep(3, [0, 1])).toBe(timestep(3));
});

test('captions are dropped in the share asked for, by their own path', () => {
  const captions = Array.from({ length: 2000 }, (_, i) => dropped('a cat', 3, [i], 0.25));
  expect(captions.filter((caption) => caption === null).length / 2000).toBeCloseTo(0.25, 1);
  expect(captions.filter((caption) => caption !== null && caption !== 'a cat')).toEqual([]);
  expect(dropped('a cat', 3, [0], 0)).toBe('a cat');
});
