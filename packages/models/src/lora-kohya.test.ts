import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Conv2d, noGrad, Parameters, readSafetensors, tensor, writeSafetensors } from '@rldf/torch';
import { expect, test } from 'vitest';
import { CLIPTextModel } from './clip-text.js';
import { LoraAdapter, UNET_ATTENTION } from './lora.js';
import { loadLora, saveLora, writeLora } from './lora-files.js';
import { fromKohyaName, kohyaName } from './lora-kohya.js';
import { readLora } from './lora-read.js';
import { tinyPipeline } from './tiny-pipeline.js';
import { UNet2DConditionModel } from './unet.js';

/** Module names of an adapter that sd-scripts trained for Stable Diffusion 1.5 with its default targets. */
const realNames = JSON.parse(
  readFileSync(new URL('../goldens/lora-kohya-sd15.json', import.meta.url), 'utf8'),
) as string[];

/** Networks with Stable Diffusion 1.5's layers, and as few channels as they can have. */
function sd15(): { unet: Parameters; textEncoder: Parameters } {
  const [unet, textEncoder] = [Parameters.random(1), Parameters.random(2)];
  const down = 'CrossAttnDownBlock2D';
  const up = 'CrossAttnUpBlock2D';
  new UNet2DConditionModel(
    {
      down_block_types: [down, down, down, 'DownBlock2D'],
      up_block_types: ['UpBlock2D', up, up, up],
      block_out_channels: [8, 8, 8, 8],
      layers_per_block: 2,
      norm_num_groups: 4,
      attention_head_dim: 2,
      cross_attention_dim: 8,
    },
    unet.at(),
  );
  const sizes = { hidden_size: 8, intermediate_size: 8, num_attention_heads: 2, vocab_size: 10 };
  new CLIPTextModel({ ...sizes, num_hidden_layers: 12, hidden_act: 'quick_gelu' }, textEncoder.at());
  return { unet, textEncoder };
}

const file = (name: string) => join(mkdtempSync(join(tmpdir(), 'lora-')), name);

test('names are those of a file that sd-scripts trains for Stable Diffusion 1.5, and lead back', () => {
  const networks = sd15();
  const inTransformers = [...networks.unet.layers.keys()].filter((path) => /attentions\.\d+\./.test(path));
  const text = [...networks.textEncoder.layers.keys()];
  const ours = [
    ...inTransformers.map((path) => kohyaName('unet', path)),
    ...text.map((path) => kohyaName('textEncoder', path)),
  ];
  expect(ours.sort()).toEqual(realNames);
  for (const part of ['unet', 'textEncoder'] as const) {
    for (const path of networks[part].layers.keys())
      expect(fromKohyaName(kohyaName(part, path))).toEqual({ part, path });
  }
  expect(fromKohyaName('unet.mid_block.attentions.0.proj_in')).toBeUndefined();
});

test('a file as sd-scripts trains it, on all linear layers and convolutions of kernel 1, loads whole', () => {
  const networks = sd15();
  const file15 = file('sd15.safetensors');
  writeSafetensors(
    file15,
    new Map(
      realNames.flatMap((name) => {
        const { part, path } = fromKohyaName(name)!;
        const layer = networks[part].layers.get(path)!;
        const [out, inputs] = layer.weight.shape as [number, number];
        const ones = layer instanceof Conv2d ? [1, 1] : [];
        const filled = (value: number, shape: number[]) =>
          tensor(Array(shape[0]! * shape[1]!).fill(value), { shape });
        return [
          [`${name}.alpha`, tensor(1)] as const,
          [`${name}.lora_down.weight`, filled(0.5, [2, inputs, ...ones])] as const,
          [`${name}.lora_up.weight`, filled(0.25, [out, 2, ...ones])] as const,
        ];
      }),
    ),
  );
  const pair = loadLora(file15, networks, 0.8);
  expect(pair.unet!.modules.length + pair.textEncoder!.modules.length).toBe(264);
  const conv = networks.unet.layers.get('mid_block.attentions.0.proj_in') as Conv2d;
  expect(conv.branches[0]!.scale).toBe(0.8 / 2);
  const one = tensor(Array(8 * 9).fill(1), { shape: [1, 8, 3, 3] });
  noGrad(() => {
    const added = conv.forward(one).toNumbers();
    pair.unet!.strength = 0;
    const plain = conv.forward(one).toNumbers();
    expect(added[0]! - plain[0]!).toBeCloseTo(0.4 * (0.5 * 8) * (0.25 * 2), 5);
    pair.unet!.strength = 0.8;
    pair.unet!.merge();
    conv
      .forward(one)
      .toNumbers()
      .forEach((value, i) => {
        expect(value).toBeCloseTo(added[i]!, 5);
      });
  });
});

test('both adapters in one file: names, alphas and metadata; and back to the same tensors', () => {
  const { parameters } = tinyPipeline();
  const attach = (network: Parameters, targets: readonly string[], rank: number, alpha: number) => {
    const adapter = LoraAdapter.attach(network, { rank, alpha, targets, seed: 1 });
    noGrad(() => adapter.modules.forEach(({ branch }, i) => void branch.up.fill_(i + 1)));
    return adapter;
  };
  const pair = {
    unet: attach(parameters.unet, [...UNET_ATTENTION, 'conv1', 'time_emb_proj', 'linear_1'], 2, 5),
    textEncoder: attach(parameters.textEncoder, ['q_proj', 'fc1'], 3, 0.3),
  };
  const kohya = saveLora(file('my-cat.safetensors'), pair, { format: 'kohya', metadata: { note: 'hello' } });
  const { tensors, metadata } = readSafetensors(kohya);
  expect(metadata).toMatchObject({
    'modelspec.sai_model_spec': '1.0.0',
    'modelspec.architecture': 'stable-diffusion-v1/lora',
    'modelspec.title': 'my-cat',
    ss_network_module: 'networks.lora',
    ss_network_dim: 'Dynamic',
    note: 'hello',
  });
  const module = 'lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_out_0';
  expect(tensors.get(`${module}.alpha`)!.item()).toBe(5);
  expect(tensors.get(`${module}.lora_down.weight`)!.shape).toEqual([2, 16]);
  expect(tensors.get('lora_te_text_model_encoder_layers_1_mlp_fc1.alpha')!.item()).toBeCloseTo(0.3, 6);
  expect(tensors.size).toBe(3 * (pair.unet.modules.length + pair.textEncoder.modules.length));

  const again = writeLora(file('again.safetensors'), readLora(kohya));
  const direct = saveLora(file('direct.safetensors'), pair);
  const [found, expected] = [readSafetensors(again), readSafetensors(direct)];
  expect([...found.tensors.keys()].sort()).toEqual([...expected.tensors.keys()].sort());
  for (const [name, value] of expected.tensors)
    expect(found.tensors.get(name)!.bytes()).toEqual(value.bytes());
  const alphas = (path: string) =>
    readLora(path)
      .map(({ path, alpha }) => [path, Math.fround(alpha)])
      .sort();
  expect(alphas(again)).toEqual(alphas(direct));
});

test('a network’s layers get one alpha, the rest of their scale goes into up', () => {
  const down = tensor([[1, 1]]);
  const layer = (path: string, alpha: number) =>
    ({ part: 'unet', path, down, up: tensor([[3], [6]]), alpha }) as const;
  const written = file('alphas.safetensors');
  writeLora(written, [layer('conv_in', 4), layer('conv_out', 2), layer('time_embedding.linear_1', 4)], {
    format: 'kohya',
  });
  const read = readLora(written).map(({ path, alpha, up }) => [path, alpha, up.toNumbers()]);
  expect(read).toEqual([
    ['conv_in', 4, [3, 6]],
    ['conv_out', 4, [1.5, 3]],
    ['time_embedding.linear_1', 4, [3, 6]],
  ]);
});

test('other kinds of adapters and broken ones are refused', () => {
  const loha = file('loha.safetensors');
  const module = 'lora_unet_mid_block_attentions_0_proj_in';
  writeSafetensors(loha, new Map([[`${module}.oft_blocks`, tensor([[1]])]]));
  expect(() => readLora(loha)).toThrow(
    /oft_blocks — belongs to an OFT; only LoRA, LoCon, LoHa, LoKr and DoRA are/,
  );
  const half = (name: string) => [`${module}.${name}.weight`, tensor([[1]])] as const;
  const alpha = [`${module}.alpha`, tensor([1, 2])] as const;
  writeSafetensors(loha, new Map([half('lora_down'), half('lora_up'), alpha]));
  expect(() => readLora(loha)).toThrow(/rank 1 with alpha NaN is no adapter/);
});
