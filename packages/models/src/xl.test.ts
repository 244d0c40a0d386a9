import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { liveTensors, noGrad, scope, setThreads, type Tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { readJson, writeJson } from './files.js';
import { LoraAdapter, TEXT_ATTENTION } from './lora.js';
import { loadLora, saveLora } from './lora-files.js';
import { type GenerateOptions, generate } from './pipeline.js';
import { loadPipeline, savePipeline } from './pipeline-files.js';
import { encodePrompts } from './prompts.js';
import { tinyPipeline, tinyXlPipeline } from './tiny-pipeline.js';

setThreads(1); // the networks are tiny
const pipeline = tinyXlPipeline();
const saved = mkdtempSync(join(tmpdir(), 'xl-'));
savePipeline(pipeline, saved);

const draw = async (options: Partial<GenerateOptions> = {}, from = pipeline) => {
  const { images, latents } = await generate(from, { prompts: ['a cat'], seeds: [1], ...options });
  images.free();
  return latents;
};
const apart = (a: Tensor, b: Tensor) => scope(() => a.sub(b).abs().amax().item());

test('a saved pipeline has both text encoders and draws the same', async () => {
  const loaded = loadPipeline(saved);
  expect(loaded.forceZerosForEmptyPrompt).toBe(true);
  expect(loaded.tokenizer.padId).not.toBe(loaded.tokenizer2?.padId);
  expect((await draw({}, loaded)).bytes()).toEqual((await draw()).bytes());
  const index = readJson(join(saved, 'model_index.json'));
  expect(index).toMatchObject({
    _class_name: 'StableDiffusionXLPipeline',
    force_zeros_for_empty_prompt: true,
    text_encoder_2: ['transformers', 'CLIPTextModelWithProjection'],
  });
});

test('no negative prompt is not the empty one, unless the model was trained so', async () => {
  const [none, empty] = [await draw(), await draw({ negativePrompts: '' })];
  expect(apart(none, empty)).toBeGreaterThan(1e-3);
  const other = { ...pipeline, forceZerosForEmptyPrompt: false };
  expect((await draw({}, other)).bytes()).toEqual(empty.bytes());
  const { hiddenStates, pooled } = noGrad(() => encodePrompts(pipeline, ['a cat', null]));
  expect(hiddenStates.select(0, 1).abs().amax().item()).toBe(0);
  expect(pooled!.select(0, 1).abs().amax().item()).toBe(0);
  const alone = noGrad(() => encodePrompts(pipeline, ['a cat']));
  expect(apart(hiddenStates.narrow(0, 0, 1), alone.hiddenStates)).toBeLessThan(1e-6);
});

test('the network is told original size, crop and target size as height and width; by default what is drawn', async () => {
  const idsOf = (from = pipeline, size?: [number, number]) =>
    noGrad(() => encodePrompts(from, ['a', 'b'], size).timeIds!.toNumbers());
  expect(idsOf()).toEqual([8, 8, 0, 0, 8, 8, 8, 8, 0, 0, 8, 8]);
  expect(idsOf(pipeline, [6, 10])).toEqual([6, 10, 0, 0, 6, 10, 6, 10, 0, 0, 6, 10]);
  expect(idsOf({ ...pipeline, size: [4, 12] }).slice(0, 6)).toEqual([4, 12, 0, 0, 4, 12]);
  const told = {
    ...pipeline,
    microConditioning: { originalSize: [9, 7], crop: [1, 2], targetSize: [5, 3] } as const,
  };
  expect(idsOf(told).slice(0, 6)).toEqual([9, 7, 1, 2, 5, 3]);
  expect(apart(await draw(), await draw({}, told))).toBeGreaterThan(1e-4);
  // the same picture as by width and height of the call
  const sized = await draw({}, { ...pipeline, size: [4, 12] });
  expect(sized.shape).toEqual([1, 4, 2, 6]);
  expect(sized.bytes()).toEqual((await draw({ height: 4, width: 12 })).bytes());
});

test('in half precision a decoder that overflows there stays in float32', () => {
  const folder = mkdtempSync(join(tmpdir(), 'xl-'));
  cpSync(saved, folder, { recursive: true });
  const types = () => {
    const { parameters } = loadPipeline(folder, { dtype: 'float16' });
    return [parameters.unet, parameters.vae].map(({ entries }) => entries.values().next().value!.dtype);
  };
  expect(types()).toEqual(['float16', 'float16']);
  const config = join(folder, 'vae', 'config.json');
  writeJson(config, { ...readJson(config), force_upcast: true });
  expect(types()).toEqual(['float16', 'float32']);
  writeJson(config, { ...readJson(config), force_upcast: 'no' });
  expect(types).toThrow(/force_upcast is "no" — must be true or false/);
});

test('drawing leaves nothing behind', async () => {
  const before = liveTensors();
  (await draw({ guidanceScale: 3 })).free();
  (await draw({ guidanceScale: 1 })).free();
  expect(liveTensors()).toBe(before);
});

test('folders whose parts do not fit are refused', () => {
  const damaged = (change: (folder: string) => void) => {
    const folder = mkdtempSync(join(tmpdir(), 'xl-'));
    cpSync(saved, folder, { recursive: true });
    change(folder);
    return () => loadPipeline(folder);
  };
  const edit = (file: string, changes: object) => (folder: string) =>
    writeJson(join(folder, file), { ...readJson(join(folder, file)), ...changes });
  expect(damaged(edit('model_index.json', { text_encoder_2: [null, null] }))).toThrow(
    /text_encoder_2 is \[null,null\] — supported: CLIPTextModelWithProjection/,
  );
  expect(damaged(edit('model_index.json', { text_encoder: [null, null] }))).toThrow(/text_encoder is/); // the refiner
  expect(damaged(edit('unet/config.json', { addition_time_embed_dim: 5 }))).toThrow(
    /reads 30 numbers of prompt and sizes, of which there are 36/,
  );
  expect(damaged(edit('tokenizer_2/tokenizer_config.json', { model_max_length: 11 }))).toThrow(
    /tokenizers make 12 of 84 tokens and 11 of 84 tokens/,
  );
  expect(damaged((folder) => rmSync(join(folder, 'text_encoder_2'), { recursive: true }))).toThrow(
    /text_encoder_2.config.json: cannot be read/,
  );
  // an XL U-Net in a folder of Stable Diffusion 1.x
  const plain = mkdtempSync(join(tmpdir(), 'xl-'));
  savePipeline(tinyPipeline(), plain);
  rmSync(join(plain, 'unet'), { recursive: true });
  cpSync(join(saved, 'unet'), join(plain, 'unet'), { recursive: true });
  expect(() => loadPipeline(plain)).toThrow(/reads text of width 28, the text encoder writes 16/);
});

test('an adapter of both text encoders is read back, and refused by a model that has one', () => {
  const folder = mkdtempSync(join(tmpdir(), 'xl-'));
  const own = tinyXlPipeline(1);
  const attach = (part: 'textEncoder' | 'textEncoder2') =>
    LoraAdapter.attach(own.parameters[part]!, {
      rank: 2,
      targets: TEXT_ATTENTION,
      seed: 3,
      init: 'gaussian',
    });
  const file = saveLora(folder, { textEncoder: attach('textEncoder'), textEncoder2: attach('textEncoder2') });
  const read = loadLora(file, pipeline.parameters);
  expect(Object.entries(read).map(([part, adapter]) => [part, adapter.modules.length])).toEqual([
    ['textEncoder', 2 * 4],
    ['textEncoder2', 3 * 4],
  ]);
  for (const adapter of Object.values(read)) adapter.remove();
  expect(() => loadLora(file, tinyPipeline().parameters)).toThrow(/is for a second text encoder/);
});
