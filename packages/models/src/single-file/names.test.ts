import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import {
  type Kind,
  kindOf,
  type Shapes,
  schedulerConfig,
  TEXT,
  textConfig,
  UNET,
  unetConfig,
  VAE,
  vaeConfig,
} from './config.js';
import { isVaeAttention, unetFromLdm, unetToLdm, vaeFromLdm, vaeToLdm } from './names.js';

// As diffusers' own conversion scripts name the tensors of the real configurations; parity/reference/single_file.py makes it.
type Row = [original: string, shape: number[], diffusers: string[]];
const file = join(import.meta.dirname, '..', '..', 'goldens', 'single-file-names.json.gz');
const golden = JSON.parse(gunzipSync(readFileSync(file)).toString('utf8')) as {
  [kind in Kind]: { tensors: Row[] };
};
const kinds = Object.keys(golden) as Kind[];
const shapes = (kind: Kind): Shapes => new Map(golden[kind].tensors.map(([name, shape]) => [name, shape]));
const attends = { sd1: [true, true, true, false], sd2: [true, true, true, false], xl: [false, true, true] };

test.each(kinds)('%s: every name of U-Net and VAE, both ways', (kind) => {
  const layout = { layersPerBlock: 2, attends: attends[kind] };
  let count = 0;
  for (const [original, shape, [diffusers]] of golden[kind].tensors) {
    if (original.startsWith(UNET)) {
      expect(unetFromLdm(original.slice(UNET.length), 2)).toBe(diffusers);
      expect(unetToLdm(diffusers!, layout)).toBe(original.slice(UNET.length));
    } else if (original.startsWith(VAE)) {
      expect(vaeFromLdm(original.slice(VAE.length), 4)).toBe(diffusers);
      expect(vaeToLdm(diffusers!, 4)).toBe(original.slice(VAE.length));
      expect(isVaeAttention(diffusers!)).toBe(/attn_1\..*weight/.test(original) && shape.length === 4);
    } else continue;
    count++;
  }
  expect(count).toBe({ sd1: 686, sd2: 686, xl: 1680 }[kind] + 248);
});

test.each(kinds)('%s: names of no tensor are none', (kind) => {
  const layout = { layersPerBlock: 2, attends: attends[kind] };
  for (const name of [
    '',
    'weight',
    'input_blocks.1.2.x.weight',
    'output_blocks.1.0.proj_in.weight',
    'out.1.weight',
  ])
    expect(unetFromLdm(name, 2), name).toBeUndefined();
  for (const name of [
    'position_net.x.weight',
    'add_embedding.pool.weight',
    'down_blocks.0.motion.0.x.weight',
  ])
    expect(unetToLdm(name, layout), name).toBeUndefined();
  for (const name of [
    'encoder.mid.attn_2.q.weight',
    'encoder.mid.block_3.conv1.weight',
    'decoder.down.0.x.weight',
  ])
    expect(vaeFromLdm(name, 4), name).toBeUndefined();
});

const UNETS: { [kind in Kind]: object } = {
  sd1: {
    sample_size: 64,
    block_out_channels: [320, 640, 1280, 1280],
    down_block_types: ['CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'DownBlock2D'],
    up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'],
    attention_head_dim: 8,
    cross_attention_dim: 768,
    transformer_layers_per_block: 1,
    use_linear_projection: false,
  },
  sd2: {
    sample_size: 96,
    block_out_channels: [320, 640, 1280, 1280],
    attention_head_dim: [5, 10, 20, 20],
    cross_attention_dim: 1024,
    transformer_layers_per_block: 1,
    use_linear_projection: true,
    upcast_attention: true,
  },
  xl: {
    sample_size: 128,
    block_out_channels: [320, 640, 1280],
    down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'],
    up_block_types: ['CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'],
    attention_head_dim: [5, 10, 20],
    cross_attention_dim: 2048,
    transformer_layers_per_block: [1, 2, 10],
    use_linear_projection: true,
    addition_embed_type: 'text_time',
    addition_time_embed_dim: 256,
    projection_class_embeddings_input_dim: 2816,
  },
};
const TEXTS: { [kind in Kind]: object[] } = {
  sd1: [
    {
      hidden_size: 768,
      num_hidden_layers: 12,
      num_attention_heads: 12,
      intermediate_size: 3072,
      hidden_act: 'quick_gelu',
    },
  ],
  sd2: [
    {
      hidden_size: 1024,
      num_hidden_layers: 23,
      num_attention_heads: 16,
      intermediate_size: 4096,
      hidden_act: 'gelu',
    },
  ],
  xl: [
    {
      hidden_size: 768,
      num_hidden_layers: 12,
      num_attention_heads: 12,
      intermediate_size: 3072,
      hidden_act: 'quick_gelu',
    },
    {
      ...{ hidden_size: 1280, num_hidden_layers: 32, num_attention_heads: 20, intermediate_size: 5120 },
      ...{ hidden_act: 'gelu', projection_dim: 1280, architectures: ['CLIPTextModelWithProjection'] },
    },
  ],
};

test.each(kinds)('%s: the configurations of the real model, from names and shapes alone', (kind) => {
  const all = shapes(kind);
  expect(kindOf('x', all)).toBe(kind);
  const velocity = kind === 'sd2';
  expect(unetConfig('x', all, kind, velocity)).toMatchObject({
    ...{ in_channels: 4, out_channels: 4, layers_per_block: 2, ...UNETS[kind] },
  });
  expect(vaeConfig('x', all, kind, VAE, velocity)).toMatchObject({
    block_out_channels: [128, 256, 512, 512],
    layers_per_block: 2,
    latent_channels: 4,
    scaling_factor: kind === 'xl' ? 0.13025 : 0.18215,
  });
  expect(TEXT[kind].length).toBe(TEXTS[kind].length);
  for (const [which, config] of TEXTS[kind].entries())
    expect(textConfig('x', all, kind, which as 0)).toMatchObject({
      vocab_size: 49408,
      max_position_embeddings: 77,
      ...config,
    });
  const { _class_name: name } = schedulerConfig(kind, velocity, false);
  expect(name).toBe({ sd1: 'PNDMScheduler', sd2: 'DDIMScheduler', xl: 'EulerDiscreteScheduler' }[kind]);
});

test('SD 2.x as published has a layer more than is read', () => {
  const all = new Map(shapes('sd2'));
  for (const [name, shape] of golden.sd2.tensors)
    if (name.includes('.resblocks.22.')) all.set(name.replace('.resblocks.22.', '.resblocks.23.'), shape);
  expect(textConfig('x', all, 'sd2', 0).num_hidden_layers).toBe(23);
});
