import { encodePrompts, LoraAdapter, tinyPipeline } from '@rldf/models';
import { cat, grad, noGrad, noiseKey, normal, scope, setThreads, type Tensor, tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { networkGradient } from '../sampling/network-gradient.js';
import { TextFeatures } from './texforce.js';

setThreads(1);

const prompts = ['a cat', 'a dog', 'a cat'];
const latents = normal(
  prompts.map((_, i) => noiseKey(i, 'latents')),
  [4, 4, 4],
); // [B, C, h, w]

/** A pipeline with a LoRA that is not zero on the U-Net, and a text encoder that learns. */
function learningPipeline() {
  const pipeline = tinyPipeline(4);
  const adapter = LoraAdapter.attach(pipeline.parameters.unet, {
    rank: 2,
    targets: ['to_q', 'to_k', 'to_v', 'linear_2'],
    seed: 1,
  });
  const unet = adapter.trainable();
  noGrad(() => {
    for (const [i, parameter] of unet.entries())
      scope(() =>
        parameter.copy_(
          normal([noiseKey(i, 'weights')], parameter.shape)
            .squeeze(0)
            .mul(0.2),
        ),
      );
  });
  return { pipeline, adapter, unet, textEncoder: pipeline.parameters.textEncoder.trainable() };
}

function worst(found: readonly (Tensor | undefined)[], expected: readonly Tensor[]): number {
  const numbers = (list: readonly (Tensor | undefined)[]) => list.flatMap((t) => t?.toNumbers() ?? []);
  const wanted = numbers(expected);
  const scale = Math.max(...wanted.map(Math.abs));
  expect(scale).toBeGreaterThan(0);
  return Math.max(...numbers(found).map((value, i) => Math.abs(value - (wanted[i] as number)))) / scale;
}

test.each([
  ['prepared, merged adapter', true, true],
  ['prepared, adapter in the graph', true, false],
  ['not prepared', false, false],
])('text computed once for three steps gives the gradient through every step: %s', (_, prepare, merge) => {
  const { pipeline, adapter, unet, textEncoder } = learningPipeline();
  const timesteps = [900, 400, 20];
  const loss = (conditioning: { hiddenStates: Tensor }, timestep: number) => {
    const both = [...prompts, ...prompts].map(() => timestep);
    const twice = cat([latents, latents]);
    return pipeline.unet
      .forward(twice, tensor(both, { dtype: 'int64' }), conditioning)
      .square()
      .sum();
  };
  const expected = timesteps
    .map((timestep) => {
      const { hiddenStates } = encodePrompts(pipeline, ['', '', '', ...prompts]);
      return grad(loss({ hiddenStates }, timestep), [...unet, ...textEncoder]);
    })
    .reduce((sum, more) => sum.map((gradient, i) => gradient.add(more[i] as Tensor)));

  if (merge) adapter.merge();
  const made = () => networkGradient(unet, merge ? adapter : undefined);
  const network = made();
  const text = new TextFeatures(pipeline, ['', ...prompts], {
    parameters: textEncoder,
    network: made(),
    prepare,
  });
  const sums: (Tensor | undefined)[] = unet.map(() => undefined);
  const add = (more: readonly (Tensor | undefined)[]) => {
    for (const [i, gradient] of more.entries()) if (gradient) sums[i] = sums[i]?.add(gradient) ?? gradient;
  };
  for (const timestep of timesteps) {
    const one = network.record(() => loss(text.guided('', prompts), timestep));
    const { parameters, inputs } = network.grad(one, text.leaves);
    network.clear();
    add(parameters);
    text.gather(inputs);
  }
  const behind = text.backward();
  add(behind.network);
  expect(worst([...sums, ...behind.text], expected)).toBeLessThan(1e-5);
  text.free();
  network.free();
});

test('where nothing learns there are no leaves and nothing is sent back', () => {
  const text = new TextFeatures(tinyPipeline(4), ['a cat']);
  expect(text.leaves).toEqual([]);
  expect(text.backward()).toEqual({ network: [], text: [] });
});

test('prepared or not, guided features make the same prediction', () => {
  const pipeline = tinyPipeline(4);
  const predict = (prepare: boolean) =>
    noGrad(() => {
      const text = new TextFeatures(pipeline, ['', ...prompts], { prepare });
      const timesteps = tensor(Array(6).fill(500), { dtype: 'int64' });
      return pipeline.unet.forward(cat([latents, latents]), timesteps, text.guided('', prompts));
    });
  expect(worst([predict(true)], [predict(false)])).toBeLessThan(1e-5);
});
