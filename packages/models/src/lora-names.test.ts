import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type DType, liveTensors, scope, type Tensor, tensor, writeSafetensors } from '@rldf/torch';
import { expect, test } from 'vitest';
import { LoraAdapter } from './lora.js';
import { loadLora, writeLora } from './lora-files.js';
import { fromKohyaName, kohyaTensors } from './lora-kohya.js';
import { fromLdmPath, placeOf } from './lora-names.js';
import { adapterFile, readLora } from './lora-read.js';
import { tinyPipeline } from './tiny-pipeline.js';

/** LDM's names of all layers of a U-Net, and diffusers' by its converter of checkpoints; by residual blocks a level. */
const { ldm, xl } = JSON.parse(
  readFileSync(new URL('../goldens/lora-names.json', import.meta.url), 'utf8'),
) as {
  ldm: { [layersPerBlock: string]: { [name: string]: string } };
  /** Of an XL U-Net, in SGM's names. */
  xl: { [name: string]: string };
};

const folder = mkdtempSync(join(tmpdir(), 'lora-names-'));
type Values = number[] | number[][];
/** A file of named tensors. */
function written(name: string, entries: { [name: string]: Values }, dtype: DType = 'float32'): string {
  const file = join(folder, name);
  scope(() => {
    const tensors = Object.entries(entries).map(([key, value]) => [key, tensor(value, { dtype })] as const);
    writeSafetensors(file, new Map(tensors));
  });
  return file;
}
const pair = (down: string, up: string) => ({ [`${down}.weight`]: [[1, 2]], [`${up}.weight`]: [[1], [2]] });
const pathsOf = (file: string, options = {}) =>
  scope(() => readLora(file, options).map(({ part, path }) => `${part} ${path}`));

test.each(Object.entries(ldm))(
  'LDM’s names with %s residual blocks a level are those of diffusers’ converter',
  (layersPerBlock, names) => {
    expect(Object.keys(names).length).toBeGreaterThan(100);
    for (const [name, expected] of Object.entries(names)) {
      expect([name, fromLdmPath(name, Number(layersPerBlock))]).toEqual([name, expected]);
      const flat = `lora_unet_${name.replaceAll('.', '_')}.lora_down.weight`;
      const place = { part: 'unet', path: expected, key: 'down', ldm: true };
      expect(placeOf('f', flat, Number(layersPerBlock))).toEqual(place);
      const dotted = `diffusion_model.${name}.lora_A.weight`;
      expect(placeOf('f', dotted, Number(layersPerBlock))).toEqual(place);
    }
  },
);

test('SGM’s names of an XL U-Net are those of diffusers’ converter, in kohya’s files both ways', () => {
  expect(Object.keys(xl)).toHaveLength(374);
  expect(xl['label_emb.0.2']).toBe('add_embedding.linear_2');
  expect(xl['output_blocks.2.2.conv']).toBe('up_blocks.0.upsamplers.0.conv');
  scope(() => {
    const matrix = tensor([[1]]);
    const layers = Object.values(xl).map(
      (path) => ({ part: 'unet', path, down: matrix, up: matrix, alpha: 1 }) as const,
    );
    const written = [...kohyaTensors(layers).keys()].filter((name) => name.endsWith('.lora_down.weight'));
    const expected = Object.keys(xl).map((name) => `lora_unet_${name.replaceAll('.', '_')}.lora_down.weight`);
    expect(written).toEqual(expected);
    for (const [i, name] of written.entries())
      expect(placeOf('f', name, 2)).toEqual({ part: 'unet', path: layers[i]!.path, key: 'down', ldm: true });
  });
});

const names2 = 'text_model.encoder.layers.0.mlp.fc1';
test.each([
  ['lora_te1_text_model_encoder_layers_0_mlp_fc1', `textEncoder ${names2}`],
  ['lora_te2_text_model_encoder_layers_0_mlp_fc1', `textEncoder2 ${names2}`],
  ['lora_te2_text_projection', 'textEncoder2 text_projection'], // of OneTrainer
  ['text_encoder_2.text_projection', 'textEncoder2 text_projection'],
  [`text_encoder_2.base_model.model.${names2}`, `textEncoder2 ${names2}`],
  [`text_encoders.clip_g.transformer.${names2}`, `textEncoder2 ${names2}`],
  [`clip_g.transformer.${names2}`, `textEncoder2 ${names2}`],
  ['lora_unet_label_emb_0_0', 'unet add_embedding.linear_1'],
  ['base_model.model.add_embedding.linear_2', 'unet add_embedding.linear_2'],
  ['diffusion_model.label_emb.0.2', 'unet add_embedding.linear_2'],
] as const)('XL: %s is %s', (module, expected) => {
  expect(pathsOf(written('xl.safetensors', pair(`${module}.lora_down`, `${module}.lora_up`)))).toEqual([
    expected,
  ]);
});

test('PEFT’s folder of the second text encoder is told by its name', () => {
  const place = join(mkdtempSync(join(tmpdir(), 'peft-')), 'text_encoder_2');
  mkdirSync(place);
  const entries = pair(`base_model.model.${names2}.lora_A`, `base_model.model.${names2}.lora_B`);
  copyFileSync(written('second.safetensors', entries), join(place, 'adapter_model.safetensors'));
  expect(pathsOf(place)).toEqual([`textEncoder2 ${names2}`]);
});

test('names that are not LDM’s are left alone', () => {
  for (const name of ['down_blocks.0.attentions.0.proj_in', 'input_blocks.1.0.proj_in', 'middle_block.0.proj_in', 'output_blocks.1.1.in_layers.2', 'input_blocks.3.1.op']) // biome-ignore format: one line
    expect(fromLdmPath(name, 2)).toBeUndefined();
  expect(fromKohyaName('lora_te1_text_model_encoder_layers_0_mlp_fc1')).toEqual({
    part: 'textEncoder',
    path: 'text_model.encoder.layers.0.mlp.fc1',
  });
});

test('a file in LDM’s names loads by the number of blocks that the network has', () => {
  const { parameters } = tinyPipeline(); // one residual block a level: input_blocks.3 is the second level's
  const name = 'lora_unet_input_blocks_3_0_in_layers_2';
  const zeros = (shape: number[]) => tensor(Array(shape.reduce((a, b) => a * b)).fill(1), { shape });
  const file = join(folder, 'ldm.safetensors');
  writeSafetensors(
    file,
    new Map([
      [`${name}.lora_down.weight`, zeros([2, 8, 3, 3])],
      [`${name}.lora_up.weight`, zeros([16, 2, 1, 1])],
    ]),
  );
  const { unet } = loadLora(file, parameters);
  expect(unet!.modules.map(({ path }) => path)).toEqual(['down_blocks.1.resnets.0.conv1']);
  expect(pathsOf(file)).toEqual(['unet down_blocks.0.resnets.2.conv1']); // as in Stable Diffusion
  for (const network of Object.values(parameters)) network.free();
});

test('diffusers’ names win where a file has a layer in both', () => {
  const attention = 'attentions_0_transformer_blocks_0_attn1_to_q';
  const own = `lora_unet_down_blocks_0_${attention}`;
  const file = written('both.safetensors', {
    ...pair(`${own}.lora_down`, `${own}.lora_up`),
    'lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q.lora_down.weight': [[5, 6]],
    'lora_unet_input_blocks_1_1_transformer_blocks_0_attn1_to_q.lora_up.weight': [[7], [8]],
  });
  const down = scope(() => readLora(file).map((layer) => layer.down.toNumbers()));
  expect(down).toEqual([[1, 2]]);
});

test.each([
  ['base_model.model.mid_block.attentions.0.proj_in', 'unet mid_block.attentions.0.proj_in'],
  ['unet.base_model.model.conv_in', 'unet conv_in'],
  ['module.base_model.model.conv_in', 'unet conv_in'],
  ['_orig_mod.conv_in', 'unet conv_in'],
  ['diffusion_model.middle_block.1.proj_in', 'unet mid_block.attentions.0.proj_in'],
  ['lycoris_down_blocks_0_attentions_1_proj_in', 'unet down_blocks.0.attentions.1.proj_in'],
  ['lycoris_text_model_encoder_layers_0_mlp_fc1', 'textEncoder text_model.encoder.layers.0.mlp.fc1'],
  [
    'text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1',
    'textEncoder text_model.encoder.layers.0.mlp.fc1',
  ],
  [
    'clip_l.transformer.text_model.encoder.layers.0.mlp.fc1',
    'textEncoder text_model.encoder.layers.0.mlp.fc1',
  ],
  [
    'mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_out',
    'unet mid_block.attentions.0.transformer_blocks.0.attn2.to_out.0',
  ],
  ['base_model.model.text_model.encoder.layers.0.mlp.fc1', 'textEncoder text_model.encoder.layers.0.mlp.fc1'],
  ['base_model.model.encoder.layers.0.mlp.fc1', 'textEncoder text_model.encoder.layers.0.mlp.fc1'],
  [
    'text_encoder.base_model.model.text_model.encoder.layers.0.mlp.fc1',
    'textEncoder text_model.encoder.layers.0.mlp.fc1',
  ],
] as const)('%s is %s', (module, expected) => {
  expect(pathsOf(written('one.safetensors', pair(`${module}.lora_A`, `${module}.lora_B`)))).toEqual([
    expected,
  ]);
  expect(
    pathsOf(written('named.safetensors', pair(`${module}.lora_A.first`, `${module}.lora_B.first`))),
  ).toEqual([expected]);
});

test.each([
  [{ 'lora_unet_conv_in.hada_w3_a': [[1]] }, 'belongs to no layer of the U-Net or the text encoder'],
  [{ 'lora_unet_conv_in.scalar': [1] }, 'belongs to no layer of the U-Net or the text encoder'],
  [{ 'unet.conv_in.lora_B.bias': [1] }, 'belongs to a LoRA with biases'],
  [{ 'lora_unet_conv_in.oft_blocks': [[1]] }, 'belongs to an OFT'],
  [{ emb_params: [[1]] }, 'belongs to a textual inversion'],
  [{ 'diffusion_model.layers.25.attention.to_v.lora_B.weight': [[1]] }, 'is for a diffusion transformer'],
  [{ 'lora_unet_joint_blocks_0_x.lora_down.weight': [[1]] }, 'is for a diffusion transformer'],
  [{ 'lora_unet_conv_in.diff': [[1]] }, 'belongs to a difference of whole weights'],
  [{ 'lora_unet_double_blocks_0_img_attn_proj.lora_down.weight': [[1]] }, 'is for a diffusion transformer'],
  [{ 'transformer.x.lora_A.weight': [[1]] }, 'is for a diffusion transformer'],
])('%j is refused: %s', (entries: { [name: string]: Values }, message) => {
  // also where plain pairs stand before it
  const file = written('other.safetensors', {
    ...pair('unet.conv_in.lora_A', 'unet.conv_in.lora_B'),
    ...entries,
  });
  expect(() => readLora(file)).toThrow(`other.safetensors: tensor ${Object.keys(entries)[0]} — ${message}`);
});

test('whole numbers, NaN and infinity are refused by the tensor’s name, and leave nothing behind', () => {
  const live = liveTensors();
  const entries = pair('unet.conv_in.lora_A', 'unet.conv_in.lora_B');
  for (const dtype of ['int64', 'int32', 'uint8', 'bool'] as const) {
    const file = written('whole.safetensors', entries, dtype);
    expect(() => readLora(file)).toThrow(
      `tensor unet.conv_in.lora_A.weight is ${dtype} — an adapter's matrices`,
    );
  }
  for (const wrong of [Number.NaN, Number.NEGATIVE_INFINITY]) {
    const file = written(
      'nan.safetensors',
      { ...entries, 'unet.conv_in.lora_B.weight': [[1], [wrong]] },
      'float16',
    );
    expect(() => readLora(file)).toThrow(
      'nan.safetensors: tensor "unet.conv_in.lora_B.weight" [2, 1] holds NaN or infinity',
    );
  }
  expect(liveTensors()).toBe(live);
});

test('whole alphas are read: trainers write them so', () => {
  const module = 'lora_unet_conv_in';
  const file = join(folder, 'alpha.safetensors');
  scope(() => {
    const matrices = Object.entries(pair(`${module}.lora_down`, `${module}.lora_up`));
    const tensors = matrices.map(([name, value]) => [name, tensor(value)] as const);
    writeSafetensors(file, new Map([...tensors, [`${module}.alpha`, tensor(3, { dtype: 'int64' })]]));
  });
  expect(scope(() => readLora(file)[0]!.alpha)).toBe(3);
});

test.each(['unet.conv_in', 'base_model.model.conv_in', 'unet.base_model.model.conv_in', 'conv_in'])(
  'alphas beside PEFT’s names count, before those of the header: %s',
  (module) => {
    const file = join(folder, 'peft-alpha.safetensors');
    scope(() => {
      const matrices = Object.entries(pair(`${module}.lora_A`, `${module}.lora_B`));
      const tensors = matrices.map(([name, value]) => [name, tensor(value)] as const);
      const told = { lora_adapter_metadata: JSON.stringify({ 'unet.r': 1, 'unet.lora_alpha': 7 }) };
      writeSafetensors(file, new Map([...tensors, [`${module}.alpha`, tensor(3)]]), told);
      expect(readLora(file)[0]).toMatchObject({ part: 'unet', path: 'conv_in', alpha: 3 });
      writeSafetensors(file, new Map(tensors), told);
      expect(readLora(file)[0]!.alpha).toBe(7);
    });
  },
);

test('a layer that is there twice is refused', () => {
  const file = written('twice.safetensors', {
    ...pair('unet.conv_in.lora_A', 'unet.conv_in.lora_B'),
    ...pair('base_model.model.conv_in.lora_A', 'base_model.model.conv_in.lora_B'),
  });
  expect(() => readLora(file)).toThrow(/layer conv_in has two of it under different names/);
});

test('an adapter is a safetensors file, or a folder with one that can be told', () => {
  expect(adapterFile('x/y.safetensors')).toBe('x/y.safetensors');
  const pickle = join(folder, 'adapter.bin');
  writeFileSync(pickle, 'x');
  expect(() => adapterFile(pickle)).toThrow(
    /adapter\.bin: is no \.safetensors file — .*Convert it to safetensors/,
  );
  expect(() => adapterFile(join(folder, 'nowhere'))).toThrow(/nowhere: there is no such file or folder/);
  const place = mkdtempSync(join(tmpdir(), 'lora-folder-'));
  expect(() => adapterFile(place)).toThrow(/holds no safetensors file — one is needed/);
  for (const name of ['my.safetensors', 'adapter_model.safetensors', 'pytorch_lora_weights.safetensors']) {
    writeFileSync(join(place, name), '');
    expect(adapterFile(place)).toBe(join(place, name)); // each before those above it
  }
  const run = mkdtempSync(join(tmpdir(), 'lora-folder-'));
  mkdirSync(join(run, 'adapters'));
  expect(() => adapterFile(run)).toThrow(`Look below it: ${join(run, 'adapters')}.`);
  const many = mkdtempSync(join(tmpdir(), 'lora-folder-'));
  for (const name of ['b.safetensors', 'a.safetensors']) writeFileSync(join(many, name), '');
  expect(() => adapterFile(many)).toThrow(/the folder holds a\.safetensors, b\.safetensors — one is needed/);
});

test('sums that overflow are not written, and numbers that are none are not loaded into an adapter', () => {
  const file = join(folder, 'overflow.safetensors');
  scope(() => {
    const layer = {
      part: 'unet',
      path: 'conv_in',
      down: tensor([[1e30, 2]]),
      up: tensor([[1], [2]]),
      alpha: 1,
    } as const;
    expect(() => writeLora(file, [layer], { dtype: 'float16' })).toThrow(
      /overflow\.safetensors: tensor "unet\.conv_in\.lora_A\.weight" \[1, 2\] holds NaN or infinity — nothing was written/,
    );
    expect(existsSync(file)).toBe(false);
  });
  const { parameters } = tinyPipeline();
  const adapter = LoraAdapter.attach(parameters.unet, { rank: 1, targets: ['conv_in'], seed: 0 });
  scope(() => {
    const [[name, value]] = [...adapter.state()] as [[string, Tensor]];
    const changed = (change: Tensor) => new Map([...adapter.state(), [name, change] as const]);
    expect(() => adapter.load(changed(value.detach().to('int64')), 'f')).toThrow(`f: ${name} is int64`);
    expect(() => adapter.load(changed(value.detach().mul(Number.NaN)), 'f')).toThrow(`f: tensor "${name}"`);
  });
  adapter.remove();
  for (const network of Object.values(parameters)) network.free();
});
