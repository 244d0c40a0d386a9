import { encodePrompts, tinyPipeline } from '@rldf/models';
import { grad, setThreads, type Tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { TextFeatures } from './text-features.js';

setThreads(1);

test('one backward of the encoder for all steps gives the gradient of a backward through every step', () => {
  const pipeline = tinyPipeline(4);
  const parameters = pipeline.parameters.textEncoder.trainable();
  const prompts = ['a cat', 'a dog', 'a cat'];
  // three "steps", each another nonlinear function of the text features
  const step = (t: number, z: Tensor) =>
    z
      .mul(t + 1)
      .sin()
      .square()
      .sum();

  const features = new TextFeatures(pipeline, prompts, parameters);
  for (let t = 0; t < 3; t++)
    features.gather(grad(step(t, features.of(prompts)), [features.values])[0] as Tensor);
  const once = features.backward().flatMap((gradient) => gradient.toNumbers());
  features.free();

  const through = parameters.map((parameter) => new Float64Array(parameter.numel));
  for (let t = 0; t < 3; t++) {
    const gradients = grad(step(t, encodePrompts(pipeline, prompts).hiddenStates), parameters);
    gradients.forEach((gradient, i) => {
      gradient.toNumbers().forEach((value, k) => {
        (through[i] as Float64Array)[k] = ((through[i] as Float64Array)[k] as number) + value;
      });
    });
  }
  const expected = through.flatMap((list) => [...list]);
  const scale = Math.max(...expected.map(Math.abs));
  const worst = Math.max(...once.map((value, i) => Math.abs(value - (expected[i] as number))));
  expect(scale).toBeGreaterThan(0);
  expect(worst / scale).toBeLessThan(1e-5);
});

test('a frozen encoder is encoded without a graph and has nothing to send back', () => {
  const pipeline = tinyPipeline(4);
  const features = new TextFeatures(pipeline, ['a cat'], []);
  expect(features.learns).toBe(false);
  expect(features.values.requiresGrad).toBe(false);
  expect(features.backward()).toEqual([]);
});
