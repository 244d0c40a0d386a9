import {
  DDIMScheduler,
  LoraAdapter,
  type Pipeline,
  tinyPipeline,
  tinyXlPipeline,
  UNET_ATTENTION,
} from '@rldf/models';
import { liveTensors, noiseKey, normal, scope, setThreads, type Tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { TextFeatures } from '../methods/texforce.js';
import { networkGradient } from './network-gradient.js';
import { guidedPrediction } from './rollout.js';

setThreads(1);
const prompts = ['a cat', 'a dog'];

/** The gradient of a sum of squares of the guided prediction by all that learns, by the text's leaves and by the latents. */
function gradients(
  pipeline: Pipeline,
  parameters: Tensor[],
  merged?: LoraAdapter,
  size = 1,
): (number[] | undefined)[] {
  const before = liveTensors();
  const found = scope(() => {
    const network = networkGradient(parameters, merged, pipeline);
    const text = new TextFeatures(pipeline, [null, ...prompts], {
      network: networkGradient(parameters, merged, pipeline),
    });
    const latents = normal([noiseKey(1, 'a'), noiseKey(1, 'b')], [4, 6, 4]).requiresGrad_();
    const scheduler = new DDIMScheduler(pipeline.schedulerConfig);
    scheduler.setTimesteps(4);
    const behaviours = prompts.map((_, i) => ({ seed: 0, path: [i], guidance: [3, 3, 3, 3] }));
    const prediction = network.record(() =>
      guidedPrediction(pipeline, scheduler, latents, 1, text.guided(null, prompts), behaviours),
    );
    const loss = prediction.mul(latents).sum().add(prediction.square().sum()).mul(size); // by the latents directly too
    const { parameters: own, inputs } = network.grad(loss, [...text.leaves, latents]);
    text.gather(inputs.slice(0, -1));
    const behind = text.backward().network;
    const all = [
      ...parameters.map((_, i) => {
        const [a, b] = [own[i], behind[i]];
        return a && b ? a.add(b) : (a ?? b);
      }),
      inputs.at(-1),
    ];
    const numbers = all.map((tensor) => tensor?.toNumbers());
    network.free();
    text.free();
    return numbers;
  });
  expect(liveTensors()).toBe(before);
  return found;
}

const norm = (of: (number[] | undefined)[]) => Math.hypot(...of.flatMap((one) => one ?? []));
function difference(a: (number[] | undefined)[], b: (number[] | undefined)[]): number {
  const parts = a.map((one, i) => one?.map((value, j) => value - (b[i]?.[j] as number)));
  return norm(parts) / norm(a);
}

function learning(pipeline: Pipeline, what: 'full' | 'merged' | 'branches', targets = UNET_ATTENTION) {
  for (const parameters of Object.values(pipeline.parameters)) parameters.trainable(false);
  if (what === 'full') return { parameters: pipeline.parameters.unet.trainable() };
  const adapter = LoraAdapter.attach(pipeline.parameters.unet, { rank: 2, targets, seed: 3 });
  for (const [i, { branch }] of adapter.modules.entries())
    branch.up.copy_(
      normal([noiseKey(i, 'up')], branch.up.shape)
        .squeeze(0)
        .mul(0.05),
    );
  const parameters = adapter.trainable();
  if (what === 'branches') return { parameters };
  adapter.merge();
  return { parameters, merged: adapter };
}

const everywhere = [
  ...UNET_ATTENTION,
  'time_emb_proj',
  'linear_1',
  'conv1',
  'conv_in',
  'conv_out',
  'proj_in',
];

test.each([
  ['SD, all weights', tinyPipeline, 'full', UNET_ATTENTION],
  ['SD, branches', tinyPipeline, 'branches', everywhere],
  ['SD, a merged adapter', tinyPipeline, 'merged', everywhere],
  ['XL, a merged adapter', tinyXlPipeline, 'merged', UNET_ATTENTION],
  ['XL, all weights', tinyXlPipeline, 'full', UNET_ATTENTION],
] as const)('%s: block by block the gradient is the same', (_, make, what, targets) => {
  const pipeline = make(1);
  const { parameters, merged } = { merged: undefined, ...learning(pipeline, what, [...targets]) };
  const whole = gradients(pipeline, parameters, merged);
  expect(whole.filter((one) => one !== undefined).length).toBeGreaterThan(parameters.length * 0.9);
  pipeline.checkpointing = true;
  const again = gradients(pipeline, parameters, merged);
  expect(again.map((one) => one?.length)).toEqual(whole.map((one) => one?.length));
  expect(difference(whole, again)).toBeLessThan(1e-6);
});

/** Relative; bfloat16 has three bits less. */
const bounds = { bfloat16: 0.08, float16: 0.01 };

/** The same numbers in another type. */
function converted(dtype: 'bfloat16' | 'float16'): Pipeline {
  const wide = tinyPipeline(1);
  const narrow = tinyPipeline(1, dtype);
  for (const part of ['unet', 'vae', 'textEncoder'] as const) {
    for (const [name, tensor] of narrow.parameters[part].entries)
      tensor.copy_(wide.parameters[part].entries.get(name)!);
  }
  return narrow;
}

test.each([
  ['bfloat16', false],
  ['float16', false],
  ['float16', true],
] as const)(
  '%s, block by block %s: the gradient of an adapter in float32, of any size',
  (dtype, checkpointing) => {
    const exact = tinyPipeline(1);
    const expected = gradients(exact, learning(exact, 'branches').parameters);
    const pipeline = converted(dtype);
    const { parameters } = learning(pipeline, 'branches');
    expect(parameters.every((parameter) => parameter.dtype === 'float32')).toBe(true);
    pipeline.checkpointing = checkpointing;
    for (const size of [1, 1e-9]) {
      // 1e-9 is less than float16 knows, and what is added by the latents directly is no part of the network's
      const found = gradients(pipeline, parameters, undefined, size).slice(0, -1);
      const scaled = expected.slice(0, -1).map((one) => one?.map((value) => value * size));
      expect(difference(scaled, found)).toBeLessThan(bounds[dtype]);
    }
  },
);

test.each(['bfloat16', 'float16'] as const)('all weights learn in float32, computed in %s', (dtype) => {
  const exact = tinyPipeline(1);
  const expected = gradients(exact, exact.parameters.unet.trainable());
  for (const checkpointing of [false, true]) {
    const pipeline = tinyPipeline(1);
    pipeline.unet.computeType = dtype;
    pipeline.checkpointing = checkpointing;
    const found = gradients(pipeline, pipeline.parameters.unet.trainable(), undefined, 1e-9);
    const back = found.map((one) => one?.map((value) => value * 1e9));
    expect(difference(expected, back)).toBeLessThan(bounds[dtype]);
    expect(difference(expected, back)).toBeGreaterThan(1e-6); // it was computed in fewer digits
  }
});
