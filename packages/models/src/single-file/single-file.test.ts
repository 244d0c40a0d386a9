import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  liveTensors,
  ones,
  readHeader,
  readSafetensors,
  type StateDict,
  scope,
  tensor,
  UserError,
  writeSafetensors,
  zeros,
} from '@rldf/torch';
import { afterAll, expect, test } from 'vitest';
import { clipTokenizer } from '../clip-vocabulary.js';
import { openModel } from '../model-files.js';
import type { Pipeline } from '../pipeline.js';
import { loadPipeline, storedWeights } from '../pipeline-files.js';
import { tinyPipeline } from '../tiny-pipeline.js';
import { emaName } from './names.js';
import { saveSingleFile } from './save.js';
import { tinyCheckpoint } from './tiny-checkpoint.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-single-'));
afterAll(() => rmSync(folder, { recursive: true }));
const kinds = ['sd1', 'sd2', 'xl'] as const;

const release = ({ parameters }: Pipeline) => {
  for (const network of Object.values(parameters)) network.free();
};
/** Every weight of every network, byte for byte. */
function expectSame(found: Pipeline, expected: Pipeline): void {
  const parts = Object.keys(expected.parameters) as (keyof Pipeline['parameters'])[];
  expect(Object.keys(found.parameters)).toEqual(parts);
  for (const part of parts) {
    const own = found.parameters[part]!.entries;
    const other = expected.parameters[part]!.entries;
    expect([...own.keys()].sort()).toEqual([...other.keys()].sort());
    for (const [name, value] of other)
      expect(Buffer.compare(own.get(name)!.bytes(), value.bytes()), `${part} ${name}`).toBe(0);
  }
}
/** As another tool would have written it: without our configurations, and with what is changed. */
function foreign(
  name: string,
  from: string,
  change: (tensors: StateDict) => void = () => {},
  metadata = {},
): string {
  const path = join(folder, name);
  scope(() => {
    const { tensors } = readSafetensors(from);
    change(tensors);
    writeSafetensors(path, tensors, metadata);
  });
  return path;
}
const written = Object.fromEntries(
  kinds.map((kind) => {
    const pipeline = tinyCheckpoint(kind, 7);
    const file = join(folder, `${kind}.safetensors`);
    saveSingleFile(pipeline, file);
    return [kind, { file, pipeline }];
  }),
) as { [kind in (typeof kinds)[number]]: { file: string; pipeline: Pipeline } };
const { sd1, sd2, xl } = written;

test.each(kinds)('%s: written under the first names and read back, every weight is the same', (kind) => {
  const { file, pipeline } = written[kind];
  const before = liveTensors();
  const loaded = loadPipeline(foreign(`${kind}-plain.safetensors`, file));
  expectSame(loaded, pipeline);
  expect(loaded.unet.config).toEqual({ ...loaded.unet.config, ...pipeline.unet.config });
  expect(loaded.unet.config.use_linear_projection).toBe(kind !== 'sd1');
  expect(loaded.textEncoder.config).toEqual({ ...loaded.textEncoder.config, ...pipeline.textEncoder.config });
  expect(loaded.vae.config).toEqual({ ...loaded.vae.config, ...pipeline.vae.config });
  expect(loaded.schedulerConfig).toEqual(pipeline.schedulerConfig);
  expect(loaded.tokenizer.padId).toBe(kind === 'sd2' ? 0 : 49407);
  expect(loaded.tokenizer2?.padId).toBe(kind === 'xl' ? 0 : undefined);
  expect(loaded.forceZerosForEmptyPrompt).toBe(pipeline.forceZerosForEmptyPrompt);
  expect(loaded.textEncoder2?.config).toEqual(
    pipeline.textEncoder2 && { ...loaded.textEncoder2?.config, ...pipeline.textEncoder2.config },
  );
  release(loaded);
  expect(liveTensors()).toBe(before);
});

test('names are those of LDM and open_clip, with fused projections and convolutions where they had them', () => {
  const shapes = (file: string) =>
    Object.fromEntries(readHeader(file).entries.map(({ name, shape }) => [name, shape]));
  expect(shapes(sd1.file)).toMatchObject({
    'model.diffusion_model.input_blocks.3.0.op.weight': [32, 32, 3, 3],
    'model.diffusion_model.output_blocks.2.1.conv.weight': [64, 64, 3, 3],
    'model.diffusion_model.output_blocks.5.1.transformer_blocks.0.attn2.to_k.weight': [32, 32],
    'first_stage_model.decoder.up.0.block.0.nin_shortcut.weight': [32, 64, 1, 1],
    'first_stage_model.decoder.mid.attn_1.q.weight': [64, 64, 1, 1],
    'cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc1.weight': [64, 32],
  });
  expect(shapes(sd2.file)).toMatchObject({
    'cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight': [96, 32],
    'cond_stage_model.model.transformer.resblocks.2.mlp.c_proj.bias': [32], // the layer that is not read
    'cond_stage_model.model.text_projection': [32, 32],
  });
  expect(shapes(xl.file)).toMatchObject({
    'model.diffusion_model.label_emb.0.0.weight': [128, 72],
    'model.diffusion_model.output_blocks.2.2.conv.weight': [64, 64, 3, 3], // behind the attention
    'conditioner.embedders.0.transformer.text_model.encoder.layers.1.mlp.fc1.weight': [64, 32],
    'conditioner.embedders.1.model.transformer.resblocks.2.attn.in_proj_bias': [144],
    'conditioner.embedders.1.model.text_projection': [48, 24], // turned
  });
});

test('our own files keep what the names cannot say', () => {
  const pipeline = tinyCheckpoint('sd1', 3);
  const file = join(folder, 'own.safetensors');
  saveSingleFile({ ...pipeline, defaults: { steps: 9, guidanceScale: 4 } }, file, { dtype: 'float16' });
  const loaded = loadPipeline(file);
  expect(loaded.unet.config).toEqual(pipeline.unet.config);
  expect(loaded.defaults).toEqual({ steps: 9, guidanceScale: 4 });
  expect(readHeader(file).metadata).toMatchObject({
    'modelspec.architecture': 'stable-diffusion-v1',
    'modelspec.prediction_type': 'epsilon',
    'modelspec.resolution': '128x128',
  });
  expect(openModel(file).bytes()).toBeLessThan(openModel(sd1.file).bytes() * 0.6);
  for (const one of [pipeline, loaded]) release(one);
});

test('XL’s empty prompt stays what it was', () => {
  const file = join(folder, 'not-zeros.safetensors');
  saveSingleFile({ ...xl.pipeline, forceZerosForEmptyPrompt: false }, file);
  expect(openModel(file).index().force_zeros_for_empty_prompt).toBe(false);
  expect(openModel(xl.file).index().force_zeros_for_empty_prompt).toBe(true);
});

test.each(kinds)('%s: a fingerprint is made of the same as that of a folder', (kind) => {
  scope(() => {
    const { unet, textEncoder, textEncoder2 } = written[kind].pipeline.parameters;
    const networks = { unet, textEncoder, ...(textEncoder2 && { textEncoder2 }) };
    const stored = storedWeights(written[kind].file);
    expect(Object.keys(stored)).toEqual(Object.keys(networks));
    for (const [part, { entries }] of Object.entries(networks)) {
      const own = stored[part as keyof typeof stored]!;
      expect([...own.keys()].sort()).toEqual([...entries.keys()].sort());
      for (const [name, value] of own)
        expect(Buffer.compare(value.contiguous().bytes(), entries.get(name)!.bytes())).toBe(0);
    }
  });
});

test('what trainers and old code leave in a checkpoint is passed over', () => {
  const text = 'cond_stage_model.transformer.';
  const file = foreign('old.safetensors', sd1.file, (tensors) => {
    tensors.set('betas', ones([1000]));
    tensors.set('first_stage_model.loss.logvar', ones([]));
    tensors.set('model_ema.decay', ones([]));
    for (const [name, value] of [...tensors]) {
      if (!name.startsWith(`${text}text_model.`)) continue; // as transformers 5 names the bare tower
      tensors.delete(name);
      tensors.set(name.replace('text_model.', ''), value);
    }
    tensors.set(`${text}embeddings.position_ids`, zeros([1, 77], { dtype: 'int64' }));
    tensors.set(`${text}text_projection.weight`, ones([64, 64]));
    tensors.set(`${text}logit_scale`, ones([]));
  });
  const loaded = loadPipeline(file);
  expectSame(loaded, sd1.pipeline);
  release(loaded);
});

test('SD 2.x of trainers that save only the layers that are read', () => {
  // the rule goes by 23 layers: a tower of so many
  const file = foreign('sd2-23.safetensors', sd2.file, (tensors) => {
    const layer = /^cond_stage_model\.model\.transformer\.resblocks\.(\d+)\./;
    const template = [...tensors].filter(([name]) => layer.exec(name)?.[1] === '0');
    for (const name of [...tensors.keys()]) if (layer.test(name)) tensors.delete(name);
    for (let i = 0; i < 23; i++)
      for (const [name, value] of template)
        tensors.set(name.replace('resblocks.0.', `resblocks.${i}.`), value);
  });
  expect(openModel(file).config('text_encoder').config.num_hidden_layers).toBe(23);
});

test('a moving average beside the weights is read when it is asked for', () => {
  const file = foreign('with-ema.safetensors', sd1.file, (tensors) => {
    for (const [name, value] of [...tensors]) {
      const [, own] = /^model\.diffusion_model\.(.+)$/.exec(name) ?? [];
      if (own !== undefined) tensors.set(emaName(own), value.add(1));
    }
  });
  const [plain, ema] = [loadPipeline(file), loadPipeline(`${file}:ema`)];
  expectSame(plain, sd1.pipeline);
  const name = 'down_blocks.0.resnets.0.conv1.weight';
  scope(() => {
    const expected = plain.parameters.unet.entries.get(name)!.add(1);
    expect(Buffer.compare(ema.parameters.unet.entries.get(name)!.bytes(), expected.bytes())).toBe(0);
  });
  release(plain);
  release(ema);
  expect(() => loadPipeline(`${sd1.file}:ema`)).toThrow(
    /:ema: the file holds no moving average of the U-Net/,
  );
  expect(() => loadPipeline(`${sd1.file}:fp16`)).toThrow(/a single file has no variant "fp16"/);
});

test('a missing VAE is named, and one beside the checkpoint is read', () => {
  const without = (tensors: StateDict) => {
    for (const name of [...tensors.keys()]) if (name.startsWith('first_stage_model.')) tensors.delete(name);
  };
  const file = foreign('no-vae.safetensors', sd1.file, without);
  expect(() => loadPipeline(file)).toThrow(
    /no-vae.safetensors: there is no VAE in it \(first_stage_model\.\) .* beside it as .*no-vae.vae.safetensors/,
  );
  foreign('no-vae.vae.safetensors', sd1.file, (tensors) => {
    for (const [name, value] of [...tensors]) {
      tensors.delete(name);
      if (name.startsWith('first_stage_model.')) tensors.set(name.slice('first_stage_model.'.length), value);
    }
  });
  const loaded = loadPipeline(file);
  expectSame(loaded, sd1.pipeline);
  release(loaded);
  expect(() => loadPipeline(join(folder, 'no-vae.vae.safetensors'))).toThrow(/holds a VAE only/);
});

test('velocity and zero terminal signal-to-noise: by markers, metadata, a configuration beside it, or the weights', () => {
  const prediction = (file: string) => openModel(file).config('scheduler').config;
  const add =
    (...names: string[]) =>
    (tensors: StateDict) => {
      for (const name of names) tensors.set(name, tensor([]));
    };
  expect(prediction(foreign('v.safetensors', sd1.file, add('v_pred')))).toMatchObject({
    ...{ prediction_type: 'v_prediction', timestep_spacing: 'leading', _class_name: 'DDIMScheduler' },
  });
  expect(prediction(foreign('vz.safetensors', sd1.file, add('v_pred', 'ztsnr')))).toMatchObject({
    ...{ prediction_type: 'v_prediction', timestep_spacing: 'trailing', rescale_betas_zero_snr: true },
  });
  const spec = { 'modelspec.prediction_type': 'v' };
  expect(prediction(foreign('spec.safetensors', sd1.file, add(), spec)).prediction_type).toBe('v_prediction');
  const yaml = foreign('yaml.safetensors', sd1.file);
  writeFileSync(join(folder, 'yaml.yaml'), 'model:\n  params:\n    parameterization: "v"\n');
  expect(prediction(yaml).prediction_type).toBe('v_prediction');

  const bias = 'model.diffusion_model.output_blocks.5.1.transformer_blocks.0.norm1.bias';
  const spread = (size: number) => (tensors: StateDict) =>
    void tensors.set(bias, tensor(Array.from({ length: 64 }, (_, i) => (i % 2 === 0 ? size : -size))));
  const velocity = openModel(foreign('wide.safetensors', sd2.file, spread(0.2)));
  expect(velocity.config('scheduler').config.prediction_type).toBe('v_prediction');
  expect(velocity.config('unet').config).toMatchObject({ sample_size: 96, upcast_attention: true });
  const noise = openModel(foreign('narrow.safetensors', sd2.file, spread(0.05)));
  expect(noise.config('scheduler').config.prediction_type).toBe('epsilon');
  expect(noise.config('unet').config.sample_size).toBe(64);
  const base = foreign('base.safetensors', sd2.file, (tensors) => {
    spread(0.2)(tensors);
    tensors.set('global_step', tensor([875_000], { dtype: 'int64' }));
  });
  expect(prediction(base).prediction_type).toBe('epsilon'); // 2.0's base model says no more than that
});

const unet = 'model.diffusion_model.';
const others: [string, { [name: string]: number[] }, RegExp][] = [
  ['an adapter', { 'lora_unet_x.lora_down.weight': [1] }, /is an adapter .* Give it as an adapter/],
  ['FLUX', { 'double_blocks.0.img_attn.qkv.weight': [1] }, /is a diffusion transformer/],
  ['SD 3', { [`${unet}joint_blocks.0.x.weight`]: [1] }, /is a diffusion transformer/],
  ['Playground', { edm_mean: [1], [`${unet}out.2.weight`]: [1] }, /is Playground 2.5/],
  ['GLIGEN', { 'model.diffusion_model.position_net.linears.0.weight': [1] }, /is a GLIGEN checkpoint/],
  ['the refiner', { 'conditioner.embedders.0.model.ln_final.weight': [1] }, /is the refiner/],
  ['a ControlNet', { 'control_model.x': [1] }, /is a ControlNet/],
  ['a textual inversion', { emb_params: [1, 768] }, /is a textual inversion/],
  ['a part of a folder', { 'down_blocks.0.resnets.0.conv1.weight': [1] }, /is the U-Net of a folder/],
  [
    'an inpainting model',
    { [`${unet}input_blocks.0.0.weight`]: [1, 9, 1, 1] },
    /is an inpainting model \(its U-Net reads 9 channels\)/,
  ],
  ['InstructPix2Pix', { [`${unet}input_blocks.0.0.weight`]: [1, 8, 1, 1] }, /is InstructPix2Pix/],
  [
    'a U-Net',
    { 'input_blocks.0.0.weight': [1, 4, 1, 1] },
    /holds a U-Net only, without text encoder and VAE/,
  ],
  ['no text encoder', { [`${unet}input_blocks.0.0.weight`]: [1, 4, 1, 1] }, /there is no text encoder in it/],
  ['something else', { 'layer.weight': [1] }, /its first tensor is called "layer.weight"/],
];
test.each(others)('%s is named', (name, shapes, message) => {
  const file = join(folder, 'other.safetensors');
  scope(() =>
    writeSafetensors(file, new Map(Object.entries(shapes).map(([name, shape]) => [name, zeros(shape)]))),
  );
  expect(() => loadPipeline(file), name).toThrow(message);
  expect(() => loadPipeline(file)).toThrow(UserError);
});

test('pickles and quantised files are never opened', () => {
  for (const name of ['model.ckpt', 'model.pt', 'model.bin', 'model.gguf'])
    writeFileSync(join(folder, name), 'x');
  expect(() => loadPipeline(join(folder, 'model.ckpt'))).toThrow(
    /model.ckpt: is no .safetensors file .* pickles, .* Convert it with: python -c "import torch, .*weights_only=True.*model.safetensors'\)"/,
  );
  expect(() => loadPipeline(join(folder, 'model.gguf'))).toThrow(/a quantised GGUF file/);
});

test('a damaged checkpoint names the tensor, and leaves nothing behind', () => {
  const before = liveTensors();
  const name = 'model.diffusion_model.input_blocks.1.0.in_layers.2.weight';
  const cases: [string, (tensors: StateDict) => void, RegExp][] = [
    [
      'gone',
      (tensors) => void tensors.delete(name),
      /tensor "down_blocks.0.resnets.0.conv1.weight" .* is missing/,
    ],
    [
      'odd',
      (tensors) => void tensors.set('model.diffusion_model.extra.weight', ones([1])),
      /model.diffusion_model.extra.weight/,
    ],
    ['shape', (tensors) => void tensors.set(name, ones([32, 32, 1, 1])), /has shape \[32, 32, 1, 1\]/],
  ];
  for (const [what, change, message] of cases)
    expect(() => loadPipeline(foreign(`${what}.safetensors`, sd1.file, change))).toThrow(message);
  expect(liveTensors()).toBe(before);
});

test('what a single file cannot hold is refused, and nothing is written', () => {
  const file = join(folder, 'refused.safetensors');
  const own = tinyPipeline(1);
  expect(() => saveSingleFile(own, file)).toThrow(
    /tokenizer has a vocabulary of its own .* --format diffusers/,
  );
  const added = { ...own, tokenizer: clipTokenizer('!') };
  added.parameters.unet.entries.set('position_net.null.weight', ones([1]));
  expect(() => saveSingleFile(added, file)).toThrow(
    /the U-Net has the layer position_net.null.weight — single files/,
  );
  expect(readdirSync(folder)).not.toContain('refused.safetensors');
  release(own);
});

test('CLIP’s vocabulary: ids as OpenAI’s own', () => {
  expect(clipTokenizer('!').encode(['a photo of a cat']).ids[0]!.slice(0, 9)).toEqual([
    ...[49406, 320, 1125, 539, 320, 2368, 49407, 0, 0],
  ]);
  expect(clipTokenizer('<|endoftext|>').padId).toBe(49407);
});
