import { LoraAdapter, tinyPipeline } from '@rldf/models';
import { grad, noGrad, noiseKey, normal, scope, setThreads, type Tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { TextFeatures } from '../methods/texforce.js';
import { meanKl, meanLogProb, policyMoments, policyScheduler } from './rollout.js';

setThreads(1);

const draw = (name: string, ...shape: number[]) => normal([noiseKey(1, name)], shape).squeeze(0);

test('the KL is that of the two Gaussians: 0 for equal means, (difference)² / 2σ² an element', () => {
  const mean = draw('mean', 2, 3, 4, 4);
  expect(meanKl(mean, mean, 0.3).toNumbers()).toEqual([0, 0]);
  const [kl] = meanKl(mean, mean.add(0.6), 0.3).toNumbers();
  expect(kl).toBeCloseTo(2, 5);
});

test('the KL is the mean of the log-ratio over samples of the policy', () => {
  const [mean, base, std] = [draw('a', 1, 2, 4, 4), draw('b', 1, 2, 4, 4), 1.5];
  const keys = Array.from({ length: 4000 }, (_, i) => noiseKey(i, 'sample'));
  const samples = normal(keys, [2, 4, 4]).mul(std).add(mean);
  const ratio = meanLogProb(samples, mean, std).sub(meanLogProb(samples, base, std));
  const spread = ratio.sub(ratio.mean()).square().mean().sqrt().item() / Math.sqrt(keys.length);
  expect(Math.abs(ratio.mean().item() - meanKl(mean, base, std).item())).toBeLessThan(4 * spread);
});

test('the gradient of the KL to the base policy is that of finite differences', () => {
  const pipeline = tinyPipeline(5);
  const adapter = LoraAdapter.attach(pipeline.parameters.unet, {
    rank: 2,
    targets: ['to_q', 'to_v'],
    seed: 1,
  });
  const parameters = adapter.trainable();
  noGrad(() => {
    for (const [i, parameter] of parameters.entries())
      scope(() => parameter.copy_(draw(`weights ${i}`, ...parameter.shape).mul(0.3)));
  });
  const scheduler = policyScheduler(pipeline, 4, 1);
  const latents = draw('latents', 2, 4, 4, 4);
  const behaviours = [0, 1].map((i) => ({ seed: 0, path: [i], guidance: [3, 3, 3, 3] }));
  const prompts = ['a cat', 'a dog'];
  const moments = () => {
    const text = new TextFeatures(pipeline, ['', ...prompts], { prepare: false });
    return policyMoments(pipeline, scheduler, latents, 1, text.guided('', prompts), behaviours, 1);
  };
  const base = noGrad(() => adapter.disabled(moments)).mean;
  const kl = () => {
    const { mean, std } = moments();
    return meanKl(mean, base, std).sum();
  };
  const gradients = grad(kl(), parameters);
  const direction = parameters.map((parameter, i) => draw(`direction ${i}`, ...parameter.shape));
  const along = gradients.reduce(
    (sum, g, i) =>
      sum +
      g
        .mul(direction[i] as Tensor)
        .sum()
        .item(),
    0,
  );
  const step = 2e-3;
  const moved = (by: number) =>
    noGrad(() => {
      for (const [i, parameter] of parameters.entries()) parameter.add_((direction[i] as Tensor).mul(by));
      const value = kl().item();
      for (const [i, parameter] of parameters.entries()) parameter.add_((direction[i] as Tensor).mul(-by));
      return value;
    });
  const numeric = (moved(step) - moved(-step)) / (2 * step);
  expect(Math.abs(along)).toBeGreaterThan(1e-6);
  expect(numeric / along).toBeCloseTo(1, 2);
});
