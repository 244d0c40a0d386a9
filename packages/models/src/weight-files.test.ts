import { cpSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UserError } from '@rldf/torch';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openModel, parseModelPath } from './model-files.js';
import { loadPipeline, savePipeline } from './pipeline-files.js';
import { tinyPipeline } from './tiny-pipeline.js';
import { chooseWeights } from './weight-files.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-weights-'));
const model = join(folder, 'model');
const unet = 'diffusion_pytorch_model';
afterAll(() => rmSync(folder, { recursive: true }));

/** Plain weights of seed 1; the U-Net's fp16 variant is of seed 2, so that it shows which was read. */
beforeAll(() => {
  for (const seed of [1, 2]) {
    const pipeline = tinyPipeline(seed);
    savePipeline(pipeline, seed === 1 ? model : join(folder, 'other'));
    for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  }
  cpSync(
    join(folder, 'other', 'unet', `${unet}.safetensors`),
    join(model, 'unet', `${unet}.fp16.safetensors`),
  );
});

const first = (location: string) => {
  const pipeline = loadPipeline(location);
  const value = pipeline.parameters.unet.entries.get('conv_in.weight')!.toNumbers()[0];
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  return value;
};

test('a variant is read where it is asked for; parts without it are read plain', () => {
  expect(first(model)).not.toBe(first(`${model}:fp16`));
  expect(first(`${model}:fp16`)).toBe(first(join(folder, 'other')));
  expect(openModel(`${model}:fp16`).weights('vae').where).toBe(join(model, 'vae', `${unet}.safetensors`));
  expect(openModel(model).bytes()).toBe(openModel(`${model}:fp16`).bytes());
  for (const name of ['bf16', 'ema']) {
    expect(() => loadPipeline(`${model}:${name}`)).toThrow(
      new RegExp(`model:${name}: there is no variant ${name} of .*unet.* there are: fp16. Name one of these`),
    );
    expect(() => loadPipeline(`${model}:${name}`)).toThrow(UserError);
  }
  expect(parseModelPath(`${model}:fp16`)).toEqual({ path: model, variant: 'fp16' });
  expect(parseModelPath(join(folder, 'none:fp16'))).toEqual({ path: join(folder, 'none:fp16') });
});

test.each([
  ['plain before variants', ['a.safetensors', 'a.fp16.safetensors'], undefined, 'a.safetensors'],
  ['a variant that is asked for', ['a.safetensors', 'a.fp16.safetensors'], 'fp16', 'a.fp16.safetensors'],
  ['plain for a variant that is not there', ['a.safetensors'], 'fp16', 'a.safetensors'],
  ['fp16 before others', ['a.bf16.safetensors', 'a.fp16.safetensors'], undefined, 'a.fp16.safetensors'],
  ['the only one', ['a.non_ema.safetensors'], undefined, 'a.non_ema.safetensors'],
  ['none of several', ['a.x.safetensors', 'a.y.safetensors'], undefined, undefined],
  [
    'shards',
    ['a.safetensors.index.json', 'a-00001-of-00002.safetensors'],
    undefined,
    'a.safetensors.index.json',
  ],
  ['shards of a variant', ['a.safetensors.index.fp16.json'], 'fp16', 'a.safetensors.index.fp16.json'],
  [
    'older shards of a variant',
    ['a.fp16.safetensors.index.json'],
    undefined,
    'a.fp16.safetensors.index.json',
  ],
  ['older still', ['a.safetensors.fp16.index.json'], 'fp16', 'a.safetensors.fp16.index.json'],
  ['another network’s', ['b.safetensors', 'ab.fp16.safetensors'], undefined, undefined],
])('chosen is %s', (_, names, variant, chosen) => {
  expect(chooseWeights(names, 'a.safetensors', variant).name).toBe(chosen);
});

test('a folder of pickles says how it is converted, and opens none', () => {
  const pickles = join(folder, 'pickles');
  cpSync(model, pickles, { recursive: true });
  rmSync(join(pickles, 'unet', `${unet}.fp16.safetensors`));
  renameSync(join(pickles, 'unet', `${unet}.safetensors`), join(pickles, 'unet', `${unet}.bin`));
  expect(() => loadPipeline(pickles)).toThrow(
    /diffusion_pytorch_model.bin beside it is a pickle, which can run code, and is never opened. Convert the model with: python -c ".*from_pretrained\('.*pickles', use_safetensors=False\).save_pretrained\('.*pickles-safetensors'\)"/,
  );
  writeFileSync(join(pickles, 'unet', `${unet}-00001-of-00002.safetensors`), '');
  expect(() => loadPipeline(pickles)).toThrow(/is there, but not the index of the shards: restore it/);
});
