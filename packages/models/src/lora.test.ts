import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { grad, Linear, noGrad, Parameters, tensor, writeSafetensors } from '@rldf/torch';
import { expect, test } from 'vitest';
import { LoraAdapter, TEXT_ATTENTION, UNET_ATTENTION } from './lora.js';
import { loadLora, saveLora } from './lora-files.js';
import { readLora } from './lora-read.js';
import { encodePrompts } from './prompts.js';
import { tinyPipeline } from './tiny-pipeline.js';

/** One 2x2 layer named `block.to_q` with weight [[1, 2], [3, 4]]. */
function oneLayer() {
  const weight = tensor([[1, 2], [3, 4]]); // biome-ignore format: a matrix
  const parameters = Parameters.from(new Map([['block.to_q.weight', weight]]));
  return { parameters, layer: new Linear(parameters.at('block', 'to_q'), 2, 2, { bias: false }) };
}

/** down [[1, 1]], up [[1], [2]]: up(down(x)) of [1, 10] is [11, 22] */
function rankOne(parameters: Parameters, alpha: number): LoraAdapter {
  const adapter = LoraAdapter.attach(parameters, { rank: 1, alpha, targets: ['to_q'], seed: 1 });
  adapter.load(
    new Map([
      ['block.to_q.lora_A.weight', tensor([[1, 1]])],
      ['block.to_q.lora_B.weight', tensor([[1], [2]])],
    ]),
  );
  return adapter;
}

const x = () => tensor([[1, 10]]);

test('adds strength * alpha / rank * up(down(x)); several adapters add up', () => {
  const { parameters, layer } = oneLayer();
  const plain = layer.forward(x()).toNumbers();
  expect(plain).toEqual([21, 43]);
  const first = rankOne(parameters, 2);
  expect(layer.forward(x()).toNumbers()).toEqual([21 + 2 * 11, 43 + 2 * 22]);
  const second = rankOne(parameters, 1);
  second.strength = 0.5;
  expect(layer.forward(x()).toNumbers()).toEqual([21 + 2.5 * 11, 43 + 2.5 * 22]);
  expect(first.disabled(() => layer.forward(x()).toNumbers())).toEqual([21 + 0.5 * 11, 43 + 0.5 * 22]);
  first.remove();
  second.remove();
  expect(layer.forward(x()).toNumbers()).toEqual(plain);
});

test('merging gives the same answer, in any order; unmerging restores the bits', () => {
  const { parameters, layer } = oneLayer();
  const before = layer.weight.bytes();
  const [first, second] = [rankOne(parameters, 2), rankOne(parameters, 0.3)];
  const expected = layer.forward(x()).toNumbers();
  first.merge();
  second.merge();
  const merged = layer.forward(x()).toNumbers();
  merged.forEach((value, i) => {
    expect(value).toBeCloseTo(expected[i]!, 4);
  });
  second.strength = 0;
  expect(layer.forward(x()).toNumbers()).toEqual([21 + 2 * 11, 43 + 2 * 22]);
  first.unmerge();
  second.unmerge();
  expect(layer.weight.bytes()).toEqual(before);
});

test('a new adapter changes nothing, and only its up matrices get gradients at first', () => {
  const pipeline = tinyPipeline();
  const prompt = () => encodePrompts(pipeline, ['a cat']).hiddenStates;
  const before = noGrad(prompt).bytes();
  const options = { rank: 2, targets: TEXT_ATTENTION, seed: 1 };
  const adapter = LoraAdapter.attach(pipeline.parameters.textEncoder, options);
  expect(adapter.modules.length).toBe(8);
  expect(noGrad(prompt).bytes()).toEqual(before);
  const trained = adapter.trainable();
  const gradients = grad(prompt().square().sum(), trained);
  const largest = gradients.map((gradient) => gradient.abs().amax().item());
  expect(largest.every((value, i) => (i % 2 === 0 ? value === 0 : value > 0))).toBe(true);
});

test('initial values are those of PEFT, and depend on the seed', () => {
  const { parameters } = tinyPipeline();
  const first = (init: 'default' | 'gaussian', seed: number) => {
    const adapter = LoraAdapter.attach(parameters.unet, { rank: 4, targets: ['attn2.to_k'], init, seed });
    return adapter.modules[0]!.branch.down; // [4, 16]
  };
  expect(first('default', 1).abs().amax().item()).toBeLessThanOrEqual(1 / 4);
  expect(first('default', 1).std().item()).toBeCloseTo(1 / 4 / Math.sqrt(3), 1);
  expect(first('gaussian', 1).std().item()).toBeCloseTo(1 / 4, 1);
  expect(first('default', 1).bytes()).toEqual(first('default', 1).bytes());
  expect(first('default', 1).bytes()).not.toEqual(first('default', 2).bytes());
});

test('files come back as they were written, on both networks', () => {
  const { parameters } = tinyPipeline();
  const attach = (network: Parameters, targets: readonly string[]) => {
    const adapter = LoraAdapter.attach(network, { rank: 2, alpha: 5, targets, seed: 1 });
    noGrad(() => adapter.modules.forEach(({ branch }, i) => void branch.up.fill_(i + 1)));
    return adapter;
  };
  const unet = attach(parameters.unet, UNET_ATTENTION);
  const textEncoder = attach(parameters.textEncoder, TEXT_ATTENTION);
  const folder = mkdtempSync(join(tmpdir(), 'lora-'));
  expect(saveLora(folder, { unet, textEncoder })).toBe(join(folder, 'pytorch_lora_weights.safetensors'));
  const read = loadLora(folder, parameters, 0.5);
  for (const [written, found] of [
    [unet, read.unet!],
    [textEncoder, read.textEncoder!],
  ] as const) {
    expect(found.modules.map(({ path, rank, alpha }) => [path, rank, alpha]).sort()).toEqual(
      written.modules.map(({ path }) => [path, 2, 5]).sort(),
    );
    for (const [name, value] of written.state())
      expect(found.state().get(name)!.bytes()).toEqual(value.bytes());
    expect(found.modules[0]!.branch.scale).toBe(0.5 * (5 / 2));
  }
});

test('reads the names and alphas of kohya trainers', () => {
  const { parameters } = tinyPipeline();
  const file = join(mkdtempSync(join(tmpdir(), 'lora-')), 'kohya.safetensors');
  const module = 'lora_te_text_model_encoder_layers_1_self_attn_q_proj';
  writeSafetensors(
    file,
    new Map([
      [`${module}.lora_down.weight`, tensor(Array(32).fill(0.5), { shape: [2, 16] })],
      [`${module}.lora_up.weight`, tensor(Array(32).fill(0.25), { shape: [16, 2] })],
      [`${module}.alpha`, tensor(1)],
    ]),
  );
  const { unet, textEncoder } = loadLora(file, parameters);
  expect(unet).toBeUndefined();
  expect(textEncoder!.modules.map(({ path, rank, alpha }) => [path, rank, alpha])).toEqual([
    ['text_model.encoder.layers.1.self_attn.q_proj', 2, 1],
  ]);
  expect(textEncoder!.modules[0]!.branch.scale).toBe(0.5);
});

test('reads the names that diffusers and PEFT have had, and their scalings', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'lora-')), 'old.safetensors');
  const attention = 'unet.mid_block.attentions.0.transformer_blocks.0.attn1';
  const text = 'text_encoder.text_model.encoder.layers.0.self_attn';
  const pair = (down: string, up: string): [string, ReturnType<typeof tensor>][] => [
    [`${down}.weight`, tensor([[1, 1]])],
    [`${up}.weight`, tensor([[1], [1]])],
  ];
  writeSafetensors(
    file,
    new Map([
      ...pair(`${attention}.processor.to_q_lora.down`, `${attention}.processor.to_q_lora.up`),
      ...pair(`${attention}.processor.to_out_lora.down`, `${attention}.processor.to_out_lora.up`),
      ...pair(`${attention}.to_k.lora.down`, `${attention}.to_k.lora.up`),
      ...pair(`${attention}.to_v.lora_A`, `${attention}.to_v.lora_B`),
      ...pair(`${text}.to_out_lora.down`, `${text}.to_out_lora.up`),
      ...pair(`${text}.q_proj.lora_linear_layer.down`, `${text}.q_proj.lora_linear_layer.up`),
      ...pair('text_encoder.encoder.layers.1.mlp.fc1.lora_A', 'text_encoder.encoder.layers.1.mlp.fc1.lora_B'),
    ]),
    {
      lora_adapter_metadata: JSON.stringify({
        'unet.lora_alpha': 3,
        'unet.alpha_pattern': { 'attn1.to_v': 7 },
        'text_encoder.lora_alpha': 2,
        'text_encoder.use_rslora': true,
      }),
    },
  );
  const block = 'mid_block.attentions.0.transformer_blocks.0.attn1';
  expect(readLora(file).map(({ path, alpha }) => [path, alpha])).toEqual([
    [`${block}.to_q`, 3],
    [`${block}.to_out.0`, 3],
    [`${block}.to_k`, 3],
    [`${block}.to_v`, 7],
    ['text_model.encoder.layers.0.self_attn.out_proj', 2],
    ['text_model.encoder.layers.0.self_attn.q_proj', 2],
    ['text_model.encoder.layers.1.mlp.fc1', 2],
  ]);
});

test('what does not fit is refused', () => {
  const { parameters } = tinyPipeline();
  const attach = (options: object) => () =>
    LoraAdapter.attach(parameters.unet, { rank: 2, targets: UNET_ATTENTION, seed: 1, ...options });
  expect(attach({ targets: ['q_proj'] })).toThrow(/target "q_proj" — fits no layer.*attn1.to_q/s);
  expect(attach({ rank: 0 })).toThrow(/rank is 0/);
  const file = join(mkdtempSync(join(tmpdir(), 'lora-')), 'other.safetensors');
  const half = ['unet.down_blocks.9.to_q.lora_A.weight', tensor([[1]])] as const;
  writeSafetensors(file, new Map([half]));
  expect(() => loadLora(file, parameters)).toThrow(/down_blocks.9.to_q — has only one of its two matrices/);
  writeSafetensors(file, new Map([half, ['unet.down_blocks.9.to_q.lora_B.weight', tensor([[1]])]]));
  expect(() => loadLora(file, parameters)).toThrow(/down_blocks.9.to_q — the network has no such layer/);
  writeSafetensors(file, new Map([['other.to_q.lora_A.weight', tensor([[1]])]]));
  expect(() => loadLora(file, parameters)).toThrow(/other.to_q.lora_A.weight — belongs to no layer/);
  const path = 'unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q';
  writeSafetensors(file, new Map([[`${path}.lora_A.weight`, tensor([[1, 2]])], [`${path}.lora_B.weight`, tensor([[1]])]])); // biome-ignore format: short
  expect(() => loadLora(file, parameters)).toThrow(/has shape \[1,2\], expected \[1,16\]/);
});
