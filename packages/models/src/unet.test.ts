import { grad, liveTensors, noGrad, noiseKey, normal, Parameters, tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
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
};

const draw = (purpose: string, shape: number[], count = 2) =>
  normal(
    Array.from({ length: count }, (_, i) => noiseKey(i, purpose)),
    shape,
  );

function forward(model: UNet2DConditionModel, height: number, width: number) {
  const conditioning = { hiddenStates: draw('text', [5, 6]) };
  return model.forward(
    draw('latents', [4, height, width]),
    tensor([3, 900], { dtype: 'int64' }),
    conditioning,
  );
}

test('answers in the shape of the latents, whatever their size', () => {
  const model = new UNet2DConditionModel(CONFIG, Parameters.random(1).at());
  for (const [height, width] of [
    [8, 8],
    [6, 10],
    [5, 7],
    [2, 3],
  ] as const) {
    // biome-ignore format: sizes
    const output = noGrad(() => forward(model, height, width));
    expect(output.shape).toEqual([2, 4, height, width]);
    expect(output.isfinite().logicalNot().sum().item()).toBe(0);
  }
});

test('a call leaves nothing behind but its answer', () => {
  const model = new UNet2DConditionModel(CONFIG, Parameters.random(1).at());
  const inputs = [draw('latents', [4, 8, 8]), tensor([3, 900]), draw('text', [5, 6])] as const;
  const before = liveTensors();
  const output = noGrad(() => model.forward(inputs[0], inputs[1], { hiddenStates: inputs[2] }));
  expect(liveTensors()).toBe(before + 1);
  output.free();
  expect(liveTensors()).toBe(before);
});

test('every parameter is named as in diffusers and shapes the answer', () => {
  const parameters = Parameters.random(1);
  const model = new UNet2DConditionModel(CONFIG, parameters.at());
  const names = [...parameters.entries.keys()];
  expect(names.length).toBe(208);
  for (const name of [
    'conv_in.weight',
    'time_embedding.linear_2.bias',
    'down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_out.0.bias',
    'down_blocks.0.downsamplers.0.conv.weight',
    'mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj.weight',
    'mid_block.resnets.1.time_emb_proj.weight',
    'up_blocks.0.upsamplers.0.conv.weight',
    'up_blocks.1.resnets.1.conv_shortcut.weight',
    'conv_norm_out.weight',
  ]) {
    expect(names).toContain(name);
  }
  const trained = parameters.trainable();
  const gradients = grad(forward(model, 8, 8).square().sum(), trained);
  const dead = names.filter((_, i) => gradients[i]!.abs().amax().item() === 0);
  expect(dead).toEqual([]);
});

test('branches that begin at zero answer zero', () => {
  const model = new UNet2DConditionModel(CONFIG, Parameters.random(1).at(), { residualInit: 'zeros' });
  expect(noGrad(() => forward(model, 8, 8).abs().amax().item())).toBe(0);
});

test('configs and latents that do not fit are refused with their values', () => {
  const build = (changes: object) => () =>
    new UNet2DConditionModel({ ...CONFIG, ...changes }, Parameters.random(1).at());
  expect(build({ addition_embed_type: 'image' })).toThrow(
    /addition_embed_type is "image" — not supported yet/,
  );
  expect(build({ addition_embed_type: 'text_time', addition_time_embed_dim: 8 })).toThrow(
    /addition_time_embed_dim is 8, projection_class_embeddings_input_dim is undefined — .* needs both/,
  );
  expect(build({ attention_type: 'gated-text-image' })).toThrow(/attention_type is "gated-text-image"/);
  expect(build({ down_block_types: ['AttnDownBlock2D', 'DownBlock2D'] })).toThrow(/"AttnDownBlock2D"/);
  expect(build({ attention_head_dim: [2, 4, 8] })).toThrow(
    /has 3 entries \[2,4,8\] — the network has 2 levels/,
  );
  expect(build({ norm_num_groups: 3 })).toThrow(/8 is no multiple of 3/);
  const model = new UNet2DConditionModel(CONFIG, Parameters.random(1).at());
  const hiddenStates = draw('text', [5, 6]);
  expect(() => model.forward(draw('latents', [3, 8, 8]), tensor([1, 2]), { hiddenStates })).toThrow(
    /\[2,3,8,8\] — expected \[batch, 4, height, width\]/,
  );
});
