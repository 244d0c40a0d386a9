import {
  encodePrompts,
  LoraAdapter,
  type Pipeline,
  tinyPipeline,
  UNET_ATTENTION,
  UNet2DConditionModel,
} from '@rldf/models';
import {
  free,
  grad,
  liveTensors,
  noGrad,
  noiseKey,
  normal,
  Parameters,
  peakBytes,
  resetPeakBytes,
  scope,
  setThreads,
  type Tensor,
  tensor,
} from '@rldf/torch';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type DifferentiableSamplingOptions, differentiableSample } from './differentiable-sampling.js';
import { UserError } from './errors.js';
import { guidedConditioning } from './rollout.js';

setThreads(1);

const prompts = ['a cat', 'a dog'];
let before = 0;
let pipeline: Pipeline;
let text: Tensor; // [2B, L, D]
let adapter: LoraAdapter;
let parameters: Tensor[];

/** The tiny pipeline with a U-Net in float64 and an adapter whose both halves are random. */
beforeEach(() => {
  before = liveTensors();
  const tiny = tinyPipeline(3);
  tiny.parameters.unet.free();
  const unet = Parameters.random(3, { dtype: 'float64' });
  pipeline = {
    ...tiny,
    unet: new UNet2DConditionModel(tiny.unet.config, unet.at()),
    parameters: { ...tiny.parameters, unet },
  };
  adapter = LoraAdapter.attach(unet, { rank: 2, targets: UNET_ATTENTION, seed: 1 });
  noGrad(() =>
    scope(() => {
      adapter.parameters().forEach((p, i) => {
        p.copy_(
          normal([noiseKey(i, 'weights')], p.shape, { dtype: 'float64' })
            .select(0, 0)
            .mul(0.3),
        );
      });
    }),
  );
  parameters = adapter.trainable();
  text = noGrad(() =>
    scope(() => {
      const [negative, positive] = [encodePrompts(pipeline, ['']), encodePrompts(pipeline, prompts)];
      return guidedConditioning(negative, positive).hiddenStates.to('float64');
    }),
  );
});

afterEach(() => {
  adapter.remove();
  for (const weights of Object.values(pipeline.parameters)) weights.free();
  text.free();
  expect(liveTensors()).toBe(before);
});

async function finish<T>(generator: AsyncGenerator<unknown, T>): Promise<T> {
  for (let next = await generator.next(); ; next = await generator.next()) if (next.done) return next.value;
}

const optionsOf = (steps: number, gradientSteps: number, eta: number): DifferentiableSamplingOptions => ({
  conditioning: { hiddenStates: text },
  behaviours: prompts.map((_, i) => ({ seed: 4, path: [i], guidance: Array<number>(steps).fill(2.5) })),
  steps,
  eta,
  gradientSteps,
});

/** A reward that is not linear in the latents, and its gradient. */
const rewardOf = (latents: Tensor) => latents.sin().add(latents.square().mul(0.1)).sum();

/** The reward, and its gradients with respect to the adapter and the text. */
async function gradients(
  options: DifferentiableSamplingOptions,
): Promise<{ reward: number; values: number[][] }> {
  const sample = await finish(differentiableSample(pipeline, options));
  const latents = sample.latents.detach().requiresGrad_();
  const [gradient, reward] = scope(() => {
    const loss = rewardOf(latents);
    return [...grad(loss, [latents]), loss.detach()];
  }) as [Tensor, Tensor];
  const found = await finish(sample.backward(gradient, [...parameters, text]));
  const result = { reward: reward.item(), values: found.map((tensor) => tensor.toNumbers()) };
  free([found, gradient, reward, latents]);
  sample.free();
  return result;
}

/** Largest difference, relative to the largest value. */
function apart(a: readonly number[][], b: readonly number[][]): number {
  const [x, y] = [a.flat(), b.flat()];
  expect(x.length).toBe(y.length);
  return Math.max(...x.map((value, i) => Math.abs(value - y[i]!))) / Math.max(...y.map(Math.abs));
}

test.each([
  [4, 1, 0],
  [4, 3, 1],
  [4, 4, 0.5],
])('T %i, K %i, eta %d: checkpointed equals plain back-propagation', async (steps, gradientSteps, eta) => {
  text.requiresGrad_();
  const options = optionsOf(steps, gradientSteps, eta);
  const checkpointed = await gradients(options);
  const plain = await gradients({ ...options, checkpointed: false });
  expect(checkpointed.reward).toBe(plain.reward);
  expect(Math.max(...plain.values.flat().map(Math.abs))).toBeGreaterThan(1e-3);
  expect(apart(checkpointed.values, plain.values)).toBeLessThan(1e-12);
});

test('fewer steps give another gradient: the window is not ignored', async () => {
  text.requiresGrad_();
  const [one, all] = [await gradients(optionsOf(4, 1, 0)), await gradients(optionsOf(4, 4, 0))];
  expect(one.reward).toBe(all.reward);
  expect(apart(one.values, all.values)).toBeGreaterThan(0.01);
});

test('K = T is the derivative of the whole sampler: finite differences agree to 1e-6', async () => {
  text.requiresGrad_();
  const options = optionsOf(3, 3, 1);
  const { values } = await gradients(options);
  const step = 1e-5;
  const targets = [...parameters, text];
  const analytic: number[][] = [];
  const numeric: number[][] = [];
  // one random direction in each of a few tensors, and in all together
  for (const [which, chosen] of [
    [0],
    [1],
    [targets.length - 2],
    [targets.length - 1],
    [...targets.keys()],
  ].entries()) {
    const directions = noGrad(() =>
      targets.map((p, i) =>
        chosen.includes(i)
          ? scope(() => normal([noiseKey(which, 'direction', i)], p.shape, { dtype: 'float64' }).squeeze(0))
          : undefined,
      ),
    );
    const move = (by: number) =>
      noGrad(() => {
        for (const [i, d] of directions.entries()) if (d) targets[i]?.add_(d, by);
      });
    const rewardAt = async (by: number) => {
      move(by);
      const sample = await finish(differentiableSample(pipeline, { ...options, gradientSteps: 1 }));
      const reward = noGrad(() => scope(() => rewardOf(sample.latents).item()));
      sample.free();
      move(-by);
      return reward;
    };
    // Richardson: the error of central differences is of fourth order
    const central = async (h: number) => ((await rewardAt(h)) - (await rewardAt(-h))) / (2 * h);
    numeric.push([(4 * (await central(step)) - (await central(2 * step))) / 3]);
    analytic.push([
      directions.reduce(
        (sum, d, i) => sum + (d ? d.toNumbers().reduce((s, x, j) => s + x * values[i]![j]!, 0) : 0),
        0,
      ),
    ]);
    free(directions);
  }
  for (const [i, value] of analytic.entries()) {
    expect(Math.abs(value[0]! - numeric[i]![0]!) / Math.abs(value[0]!)).toBeLessThan(1e-6);
  }
});

test('memory is that of one step, however many there are; plain back-propagation keeps them all', async () => {
  const peak = async (steps: number, checkpointed: boolean) => {
    resetPeakBytes();
    const start = peakBytes();
    await gradients({ ...optionsOf(steps, steps, 1), checkpointed });
    return peakBytes() - start;
  };
  const kept = (steps: number) => (steps + 1) * 2 * 4 * 4 * 4 * 8; // the latents, float64
  text.requiresGrad_();
  const [few, many] = [await peak(2, true), await peak(10, true)];
  expect(many - few).toBeLessThan(kept(10) - kept(2) + 4096);
  const [plainFew, plainMany] = [await peak(2, false), await peak(10, false)];
  expect(plainMany).toBeGreaterThan(4 * plainFew);
  expect(plainMany).toBeGreaterThan(5 * many);
});

test('a window that does not fit is refused', async () => {
  for (const gradientSteps of [0, 5, 1.5]) {
    await expect(finish(differentiableSample(pipeline, optionsOf(4, gradientSteps, 0)))).rejects.toThrow(
      UserError,
    );
  }
  await expect(finish(differentiableSample(pipeline, optionsOf(4, 5, 0)))).rejects.toThrow(
    /gradientSteps is 5 with 4 steps/,
  );
});

test('pictures are those of the sampler, whatever the window', async () => {
  const latents = await Promise.all(
    [1, 3].map(async (gradientSteps) => {
      const sample = await finish(differentiableSample(pipeline, optionsOf(3, gradientSteps, 0)));
      const values = sample.latents.toNumbers();
      sample.free();
      return values;
    }),
  );
  expect(latents[0]).toEqual(latents[1]);
  expect(scope(() => tensor(latents[0]!).std().item())).toBeGreaterThan(0.1);
});
