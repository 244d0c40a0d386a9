import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { grad, Linear, noGrad, Parameters, tensor, writeSafetensors } from '@rldf/torch';
import { expect, test } from 'vitest';
import { LoraAdapter, TEXT_ATTENTION, UNET_ATTENTION } from './lora.js';
import { loadLora, saveLora } from './lora-files.js';
import { encodePrompts } from './pipeline.js';
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

test('what does not fit is refused', () => {
  const { parameters } = tinyPipeline();
  const attach = (options: object) => () =>
    LoraAdapter.attach(parameters.unet, { rank: 2, targets: UNET_ATTENTION, seed: 1, ...options });
  expect(attach({ targets: ['q_proj'] })).toThrow(/target "q_proj" — fits no layer.*attn1.to_q/s);
  expect(attach({ targets: ['conv1'] })).toThrow(/is a convolution/);
  expect(attach({ rank: 0 })).toThrow(/rank is 0/);
  const file = join(mkdtempSync(join(tmpdir(), 'lora-')), 'other.safetensors');
  writeSafetensors(file, new Map([['unet.down_blocks.9.to_q.lora_A.weight', tensor([[1]])]]));
  expect(() => loadLora(file, parameters)).toThrow(
    /unet.down_blocks.9.to_q.lora_A.weight — belongs to no layer/,
  );
  const path = 'unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q';
  writeSafetensors(file, new Map([[`${path}.lora_A.weight`, tensor([[1, 2]])], [`${path}.lora_B.weight`, tensor([[1]])]])); // biome-ignore format: short
  expect(() => loadLora(file, parameters)).toThrow(/has shape \[1,2\], expected \[1,16\]/);
});
