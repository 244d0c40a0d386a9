import {
  free,
  grad,
  liveTensors,
  noGrad,
  noiseKey,
  normal,
  Parameters,
  type Tensor,
  tensor,
} from '@rldf/torch';
import { expect, test } from 'vitest';
import { type Conditioning, joinConditionings, selectRows } from './conditioning.js';
import { UNet2DConditionModel } from './unet.js';

const CONFIG = {
  in_channels: 4,
  out_channels: 4,
  down_block_types: ['CrossAttnDownBlock2D', 'DownBlock2D'],
  up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D'],
  block_out_channels: [8, 16],
  layers_per_block: 1,
  norm_num_groups: 4,
  attention_head_dim: [2, 4],
  cross_attention_dim: 6,
  only_cross_attention: [true, false],
  resnet_time_scale_shift: 'scale_shift',
  addition_embed_type: 'text',
  addition_embed_type_num_heads: 2,
} as const;

// In float64: what differs by more than a hundred roundings of numbers of about 1 is another computation.
const dtype = 'float64';
const BOUND = 1e-13;
const draw = (purpose: string, ...shape: number[]) =>
  normal([noiseKey(3, purpose)], shape, { dtype }).squeeze(0);
const difference = (a: Tensor, b: Tensor) => a.sub(b).abs().amax().item();

function network() {
  const parameters = Parameters.random(1, { dtype });
  const unet = new UNet2DConditionModel(CONFIG, parameters.at());
  const latents = draw('latents', 3, 4, 8, 8);
  const timesteps = tensor([3, 900, 41], { dtype: 'int64' });
  return { parameters, forward: (text: Conditioning) => unet.forward(latents, timesteps, text), unet };
}

test('a prepared conditioning gives the same prediction and the same gradients', () => {
  const { parameters, unet, forward } = network();
  const trained = parameters.trainable();
  const hiddenStates = draw('text', 3, 5, 6).requiresGrad_();
  const plain = forward({ hiddenStates });
  const prepared = forward(unet.prepare({ hiddenStates }));
  expect(difference(plain, prepared)).toBeLessThan(BOUND);
  const inputs = [...trained, hiddenStates];
  const expected = grad(plain.square().sum(), inputs);
  const gradients = grad(prepared.square().sum(), inputs);
  const errors = gradients.map((gradient, i) => {
    const scale = 1 + expected[i]!.abs().amax().item();
    return difference(gradient, expected[i]!) / scale;
  });
  expect(Math.max(...errors)).toBeLessThan(10 * BOUND); // back through all layers
});

test('a prediction reads the prepared keys, values and time embedding, not the text', () => {
  const { unet, forward } = network();
  noGrad(() => {
    const first = { hiddenStates: draw('text', 3, 5, 6) };
    const { prepared } = unet.prepare(first);
    const mixed = { hiddenStates: draw('another text', 3, 5, 6), prepared: prepared! };
    expect(difference(forward(mixed), forward(first))).toBeLessThan(BOUND);
  });
});

test('rows are picked and joined in everything prepared', () => {
  const { unet, forward } = network();
  noGrad(() => {
    const [text, negative] = [draw('text', 2, 5, 6), draw('negative', 1, 5, 6)];
    const joined = joinConditionings([
      unet.prepare({ hiddenStates: negative }),
      unet.prepare({ hiddenStates: text }),
    ]); // 0: negative, 1 and 2: text
    const rows = tensor([2, 0, 1], { dtype: 'int64' });
    const expected = forward({ hiddenStates: joined.hiddenStates.indexSelect(0, rows) });
    expect(difference(forward(selectRows(joined, rows)), expected)).toBeLessThan(BOUND);
    const plain = joinConditionings([unet.prepare({ hiddenStates: negative }), { hiddenStates: text }]);
    expect(Object.keys(plain)).toEqual(['hiddenStates']);
  });
});

test('free() of what was prepared leaves nothing behind', () => {
  const { unet } = network();
  const text = draw('text', 3, 5, 6);
  const before = liveTensors();
  const { prepared } = unet.prepare({ hiddenStates: text });
  expect(liveTensors()).toBeGreaterThan(before);
  free(prepared);
  expect(liveTensors()).toBe(before);
});
