import {
  grad,
  liveTensors,
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
import { LoraAdapter, UNET_ATTENTION } from './lora.js';
import { LoraTape } from './lora-tape.js';
import { encodePrompts } from './prompts.js';
import { tinyPipeline } from './tiny-pipeline.js';
import { UNet2DConditionModel } from './unet.js';

setThreads(1);

test.each([
  ['linear layers', [...UNET_ATTENTION, 'ff.net.0.proj', 'time_emb_proj', 'linear_1']],
  ['convolutions too', [...UNET_ATTENTION, 'conv1', 'conv_in']],
])('the gradient of a merged adapter is that of its branches: %s', (_, targets) => {
  const { unet: single, parameters, ...rest } = tinyPipeline(3);
  // in float64: merged and unmerged round differently, and 1e-12 is some thousand roundings
  parameters.unet.free();
  parameters.unet = Parameters.random(3, { dtype: 'float64' });
  const unet = new UNet2DConditionModel(single.config, parameters.unet.at());
  const adapter = LoraAdapter.attach(parameters.unet, { rank: 2, alpha: 3, targets, seed: 1 });
  const trained = adapter.trainable();
  noGrad(() =>
    trained.forEach((parameter, i) => {
      scope(() =>
        parameter.copy_(
          normal([noiseKey(i, 'weights')], parameter.shape, { dtype: 'float64' })
            .squeeze(0)
            .mul(0.2),
        ),
      );
    }),
  );
  const hiddenStates = noGrad(() =>
    encodePrompts({ unet, parameters, ...rest }, ['a cat', 'a dog']).hiddenStates.to('float64'),
  );
  const latents = normal([noiseKey(0, 'a'), noiseKey(0, 'b')], [4, 4, 4], { dtype: 'float64' });
  const text = hiddenStates.detach().requiresGrad_();
  const loss = (): Tensor =>
    unet
      .forward(latents, tensor([400, 20], { dtype: 'int64' }), { hiddenStates: text })
      .square()
      .sum();

  const expected = grad(loss(), [...trained, text]);
  const before = liveTensors();
  adapter.merge();
  const tape = new LoraTape(adapter);
  scope(() => {
    const found = tape.grad(
      tape.record(() => loss()),
      [text],
    );
    for (const [i, gradient] of [...found.parameters, ...found.inputs].entries()) {
      const wanted = expected[i] as Tensor;
      const scale = wanted.abs().amax().item();
      expect(scale).toBeGreaterThan(0);
      expect((gradient as Tensor).sub(wanted).abs().amax().item() / scale).toBeLessThan(1e-12);
    }
  });
  tape.free();
  adapter.unmerge();
  expect(liveTensors()).toBe(before);
});

test('what the outputs do not depend on has no gradient', () => {
  const { unet, parameters } = tinyPipeline(3);
  const adapter = LoraAdapter.attach(parameters.unet, { rank: 2, targets: ['to_k', 'linear_1'], seed: 1 });
  adapter.trainable();
  adapter.merge();
  const tape = new LoraTape(adapter);
  const prepared = tape.record(() => unet.prepare({ hiddenStates: normal([noiseKey(0, 'text')], [12, 16]) }));
  const [[key]] = [...(prepared.prepared as Map<object, Tensor[]>).values()] as [Tensor[]];
  const { parameters: gradients } = tape.grad((key as Tensor).sum());
  const depends = adapter.modules.map(({ path }, i) => [path, gradients[2 * i + 1] !== undefined]);
  expect(depends.filter(([, does]) => does)).toHaveLength(1);
  tape.free();
  adapter.unmerge();
});
