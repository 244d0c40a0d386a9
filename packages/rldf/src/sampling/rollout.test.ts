import { encodePrompts, tinyPipeline } from '@rldf/models';
import { free, liveTensors, noGrad, setThreads, type Tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { rolloutBatches } from '../methods/learner.js';
import { balancedStepWeights, elementsOf, meanLogProb, policyScheduler, type Rollout } from './rollout.js';

setThreads(1);

const prompts = ['a cat', 'a dog', 'a cow', 'a cat'];
const options = {
  prompts,
  behaviours: prompts.map((_, i) => ({ seed: 5, path: [0, i], guidance: [3, 3, 3] })),
  negativePrompt: '',
  steps: 3,
  eta: 1,
};

async function draw(batchSize: number, pipeline = tinyPipeline(2)): Promise<Rollout[]> {
  const drawing = rolloutBatches(pipeline, { ...options, batchSize });
  for (let next = await drawing.next(); ; next = await drawing.next()) if (next.done) return next.value;
}

const latentsOf = (rollouts: readonly Rollout[], step: number) =>
  rollouts.flatMap(({ trajectory }) => trajectory.latents.select(0, step).toNumbers());

test('batch 1 and batch 4 start from the same noise bit for bit and stay within 1e-4', async () => {
  const [one, four] = [await draw(1), await draw(4)];
  expect(latentsOf(one, 0)).toEqual(latentsOf(four, 0));
  const apart = latentsOf(one, 3).map((value, i) => Math.abs(value - (latentsOf(four, 3)[i] as number)));
  expect(Math.max(...apart)).toBeLessThan(1e-4);
});

test('the stored log-probabilities are those of the normal density at what was drawn', async () => {
  const pipeline = tinyPipeline(2);
  const [rollout] = await draw(4, pipeline);
  const { trajectory } = rollout as Rollout;
  const scheduler = policyScheduler(pipeline, 3, 1);
  expect(trajectory.timesteps).toEqual(scheduler.timesteps);
  expect(trajectory.logProbs.shape).toEqual([3, 4]);
  // E[log p] of a unit-dimensional normal is -(1 + ln 2π) / 2 - ln σ; with 64 elements a picture the mean is near it
  for (let step = 0; step < 3; step++) {
    const { std } = scheduler.coefficients(step, 1);
    const expected = -0.5 * (1 + Math.log(2 * Math.PI)) - Math.log(std);
    for (const value of trajectory.logProbs.select(0, step).toNumbers()) {
      expect(Math.abs(value - expected)).toBeLessThan(0.5);
    }
  }
});

test('the mean log-probability equals the hand-computed density', () => {
  const pipeline = tinyPipeline(0);
  const { hiddenStates } = noGrad(() => encodePrompts(pipeline, ['a cat']));
  const values = hiddenStates.reshape([1, 1, 12, 16]);
  const mean = values.mul(0) as Tensor;
  const numbers = values.toNumbers();
  const std = 0.7;
  const byHand =
    numbers.reduce(
      (sum, x) => sum - x ** 2 / (2 * std ** 2) - Math.log(std) - 0.5 * Math.log(2 * Math.PI),
      0,
    ) / numbers.length;
  expect(meanLogProb(values, mean, std).item()).toBeCloseTo(byHand, 10);
  expect(elementsOf(values)).toBe(192);
});

test('a schedule whose last step is deterministic is refused', () => {
  const pipeline = tinyPipeline(0);
  pipeline.schedulerConfig = { ...pipeline.schedulerConfig, steps_offset: 0, set_alpha_to_one: true };
  expect(() => policyScheduler(pipeline, 10, 1)).toThrow(
    /step 10 of 10 .* has steps_offset: 0 \(set 1\), set_alpha_to_one: true \(set false\):/,
  );
  pipeline.schedulerConfig = { ...tinyPipeline(0).schedulerConfig, timestep_spacing: 'linspace' };
  expect(() => policyScheduler(pipeline, 13, 1)).toThrow(
    /step 13 of 13 \(timestep 0\) .* has timestep_spacing: linspace \(set leading\): use/,
  );
  expect(() => policyScheduler(tinyPipeline(0), 10, 0)).toThrow(/deterministic/);
});

test('nothing is left behind', async () => {
  const pipeline = tinyPipeline(2);
  const before = liveTensors();
  free(await draw(2, pipeline));
  expect(liveTensors()).toBe(before);
});

test('balanced step weights: weight times |dμ/d(answer)| / σ is the same at every step, and their mean is 1', () => {
  const pipeline = tinyPipeline(0);
  for (const prediction_type of ['epsilon', 'sample', 'v_prediction'] as const) {
    pipeline.schedulerConfig = { ...pipeline.schedulerConfig, prediction_type };
    const scheduler = policyScheduler(pipeline, 10, 1);
    const weights = balancedStepWeights(scheduler, 1);
    expect(weights.reduce((sum, weight) => sum + weight, 0) / 10).toBeCloseTo(1, 10);
    const gains = weights.map((weight, step) => {
      const { alphaBar: a, original, noise, std } = scheduler.coefficients(step, 1);
      const byHand = {
        epsilon: noise - original * Math.sqrt((1 - a) / a),
        sample: original - noise * Math.sqrt(a / (1 - a)),
        v_prediction: noise * Math.sqrt(a) - original * Math.sqrt(1 - a),
      }[prediction_type];
      return (weight * Math.abs(byHand)) / std;
    });
    for (const gain of gains) expect(gain / (gains[0] as number)).toBeCloseTo(1, 6);
  }
});

test('latents that turn into NaN are told by picture and step, and leave nothing behind', async () => {
  const pipeline = tinyPipeline(2);
  const { unet } = pipeline.parameters;
  noGrad(() => unet.entries.get('conv_out.bias')!.fill_(Number.NaN));
  const before = liveTensors();
  await expect(draw(4, pipeline)).rejects.toThrow(
    /rollout: the latents of picture 1 of 4 hold NaN or infinity after step 1 of 3 — .*diverged/,
  );
  expect(liveTensors()).toBe(before);
});
