import { cpSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  free,
  liveBytes,
  liveTensors,
  noGrad,
  noiseKey,
  normal,
  readSafetensors,
  setThreads,
  type Tensor,
  tensor,
  writeSafetensors,
} from '@rldf/torch';
import { expect, test } from 'vitest';
import { readJson } from './files.js';
import { type GenerateOptions, generate } from './pipeline.js';
import { loadPipeline, savePipeline } from './pipeline-files.js';
import { tinyPipeline } from './tiny-pipeline.js';

setThreads(1); // the networks are tiny
const pipeline = tinyPipeline();
const saved = mkdtempSync(join(tmpdir(), 'pipeline-'));
savePipeline(pipeline, saved);

/** A copy of the saved folder to damage. */
function copy(): string {
  const folder = mkdtempSync(join(tmpdir(), 'pipeline-'));
  cpSync(saved, folder, { recursive: true });
  return folder;
}

const latentsOf = async (options: GenerateOptions, from = pipeline) => {
  const { images, latents } = await generate(from, options);
  images.free();
  return latents;
};

test('a picture depends on its seed and prompt, not on its batch', async () => {
  const prompts = ['a cat', 'a dog', 'a cat'];
  const steps = 5;
  const options = { prompts, seeds: [1, 2, 3], eta: 1, width: 12, height: 8, steps };
  const { images, latents } = await generate(pipeline, options);
  expect(images.shape).toEqual([3, 8, 12, 3]);
  expect(images.dtype).toBe('uint8');
  expect(latents.shape).toEqual([3, 4, 4, 6]);
  const alone = await latentsOf({ ...options, prompts: ['a dog'], seeds: [2] });
  // kernels sum in another order for another batch: each step may move float32's last bits, by four at most
  const largest = latents.abs().amax();
  const apart = latents.narrow(0, 1, 1).sub(alone).abs().amax().div(largest).item();
  expect(apart).toBeLessThan(4 * steps * 2 ** -23);
  expect(latents.select(0, 0).sub(latents.select(0, 2)).abs().amax().item()).toBeGreaterThan(0.1);
});

test('guidance follows the prompt and leaves the negative prompt', async () => {
  const options = { prompts: ['a cat'], seeds: [1] };
  const plain = await latentsOf({ ...options, guidanceScale: 1 });
  const same = await latentsOf({ ...options, guidanceScale: 5, negativePrompts: 'a cat' });
  expect(same.sub(plain).abs().amax().item()).toBeLessThan(1e-5); // nothing between prompt and negative prompt
  const guided = await latentsOf({ ...options, guidanceScale: 5 });
  expect(guided.sub(plain).abs().amax().item()).toBeGreaterThan(1e-4);
  const zero = await latentsOf({
    ...options,
    guidanceScale: 0,
    negativePrompts: ['a cat'],
    prompts: ['a dog'],
  });
  expect(zero.sub(plain).abs().amax().item()).toBeLessThan(1e-5); // only the negative prompt is left
});

test('given latents take the place of the seed', async () => {
  const first = normal([noiseKey(7, 'initial-latents')], [4, 4, 4]);
  const given = await latentsOf({ prompts: ['a'], seeds: [1], latents: first });
  const drawn = await latentsOf({ prompts: ['a'], seeds: [7] });
  expect(given.bytes()).toEqual(drawn.bytes());
  await expect(generate(pipeline, { prompts: ['a', 'b'], seeds: [1, 2], latents: first })).rejects.toThrow(
    /latents have shape \[1,4,4,4\] — expected \[2,4,4,4\]/,
  );
});

test('every scheduler draws, and leaves nothing behind', async () => {
  const before = [liveTensors(), liveBytes()];
  for (const scheduler of [
    'DDIMScheduler',
    'DDPMScheduler',
    'DPMSolverMultistepScheduler',
    'EulerDiscreteScheduler',
  ] as const) {
    const { images, latents } = await generate(pipeline, { prompts: ['a'], seeds: [1], scheduler, steps: 3 });
    expect(latents.toNumbers().every(Number.isFinite)).toBe(true);
    images.free();
    latents.free();
  }
  const controller = new AbortController();
  const stopped = generate(pipeline, {
    prompts: ['a'],
    seeds: [1],
    scheduler: 'DPMSolverMultistepScheduler',
    signal: controller.signal,
    onStep: ({ step }) => (step === 1 ? controller.abort(new Error('enough')) : undefined),
  });
  await expect(stopped).rejects.toThrow('enough');
  expect([liveTensors(), liveBytes()]).toEqual(before);
});

test('between steps what a caller does is waited for, and then the event loop turns, as for timers and Ctrl-C', async () => {
  const events: string[] = [];
  const nextTurn = () => new Promise<void>((resolve) => setImmediate(resolve));
  const latents = await latentsOf({
    prompts: ['a'],
    seeds: [1],
    steps: 3,
    onStep: async ({ step, timestep }) => {
      events.push(`step ${step} ${timestep}`);
      await nextTurn();
      await nextTurn();
      events.push('done');
      setImmediate(() => events.push('turn'));
    },
  });
  latents.free();
  const after = ['done', 'turn'];
  expect(events).toEqual(['step 0 667', ...after, 'step 1 334', ...after, 'step 2 1', ...after]);
});

test('options that do not fit are refused', async () => {
  const options = { prompts: ['a', 'b'], seeds: [1, 2] };
  const refused = (changes: object) => expect(generate(pipeline, { ...options, ...changes })).rejects;
  await refused({ seeds: [1] }).toThrow(/1 seeds for 2 prompts/);
  await refused({ prompts: [], seeds: [] }).toThrow(/no prompts/);
  await refused({ width: 7 }).toThrow(/width is 7 — must be a positive multiple of 2/);
  await refused({ guidanceScale: Number.NaN }).toThrow(/guidanceScale is NaN/);
  await refused({ negativePrompts: ['a'] }).toThrow(/1 negative prompts for 2/);
  await refused({ steps: 2.5 }).toThrow(/2.5 steps/);
});

test('a saved pipeline draws the same', async () => {
  const options = { prompts: ['a cat'], seeds: [1] };
  const expected = await latentsOf(options);
  const loaded = loadPipeline(saved);
  expect(loaded.defaults).toEqual({ steps: 4, guidanceScale: 3 });
  expect((await latentsOf(options, loaded)).bytes()).toEqual(expected.bytes());
  const half = mkdtempSync(join(tmpdir(), 'pipeline-'));
  savePipeline(pipeline, half, { dtype: 'float16' });
  expect(
    [...readSafetensors(join(half, 'unet', 'diffusion_pytorch_model.safetensors')).tensors.values()][0]!
      .dtype,
  ).toBe('float16');
  const close = await latentsOf(options, loadPipeline(half));
  expect(close.sub(expected).abs().amax().item()).toBeLessThan(0.02);
  expect(readJson(join(half, 'model_index.json')).unet).toEqual(['diffusers', 'UNet2DConditionModel']);
});

test('a folder with something missing says what', () => {
  const without = (file: string) => {
    const folder = copy();
    rmSync(join(folder, file), { recursive: true });
    return () => loadPipeline(folder);
  };
  expect(without('model_index.json')).toThrow(/model_index.json: cannot be read/);
  expect(without('unet/config.json')).toThrow(/unet\/config.json: cannot be read/);
  expect(without('scheduler/scheduler_config.json')).toThrow(/scheduler_config.json/);
  expect(without('vae/diffusion_pytorch_model.safetensors')).toThrow(
    /vae\/diffusion_pytorch_model.safetensors: is missing/,
  );
  expect(without('tokenizer')).toThrow(/vocab.json: cannot be read/);
  const pickled = copy();
  renameSync(join(pickled, 'text_encoder/model.safetensors'), join(pickled, 'text_encoder/model.bin'));
  expect(() => loadPipeline(pickled)).toThrow(/is a pickle/);
});

test('weights that do not fit are named with both shapes', () => {
  const damaged = (change: (state: Map<string, ReturnType<typeof tensor>>) => void) => {
    const folder = copy();
    const file = join(folder, 'unet', 'diffusion_pytorch_model.safetensors');
    const { tensors } = readSafetensors(file);
    change(tensors);
    writeSafetensors(`${file}.new`, tensors);
    renameSync(`${file}.new`, file);
    return () => loadPipeline(folder);
  };
  expect(damaged((state) => state.set('conv_in.bias', tensor([1, 2, 3])))).toThrow(
    /unet\/diffusion_pytorch_model.safetensors: tensor "conv_in.bias" has shape \[3\], the config asks for \[8\]/,
  );
  expect(damaged((state) => state.delete('conv_in.bias'))).toThrow(/"conv_in.bias" \[8\] is missing/);
  expect(damaged((state) => state.set('controlnet.bias', tensor([1])))).toThrow(/controlnet.bias/);
  expect(damaged((state) => state.set('conv_in.bias', tensor(Array(8).fill(Number.NaN))))).toThrow(
    /tensor "conv_in.bias" \[8\] holds NaN or infinity/,
  );
});

test('models of another kind are refused', () => {
  const folder = copy();
  const index = readJson(join(folder, 'model_index.json'));
  writeFileSync(
    join(folder, 'model_index.json'),
    JSON.stringify({ ...index, unet: ['diffusers', 'UNet3D'] }),
  );
  expect(() => loadPipeline(folder)).toThrow(
    /unet is \["diffusers","UNet3D"\] — supported: UNet2DConditionModel/,
  );
});

test('JSON as Python writes it', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'json-')), 'a.json');
  writeFileSync(file, '{ "lambda_min_clipped": -Infinity, "name": "x: Infinity y", "nan": NaN }');
  expect(readJson(file)).toEqual({
    lambda_min_clipped: Number.NEGATIVE_INFINITY,
    name: 'x: Infinity y',
    nan: null,
  });
});

test.each([
  ['diffusion_pytorch_model.safetensors.index.fp16.json', 'fp16'],
  ['diffusion_pytorch_model.fp16.safetensors.index.json', 'fp16'],
  ['diffusion_pytorch_model.safetensors.fp16.index.json', 'fp16'],
  ['diffusion_pytorch_model.safetensors.index.non_ema.json', 'non_ema'],
  ['diffusion_pytorch_model.safetensors.index.json', ''],
])('shards are found by their index %s', (index, variant) => {
  const folder = join(copy(), 'unet');
  const whole = join(folder, 'diffusion_pytorch_model.safetensors');
  const { tensors } = readSafetensors(whole);
  const names = [...tensors.keys()];
  const shards = [0, 1].map(
    (i) => `diffusion_pytorch_model${variant && `.${variant}`}-0000${i + 1}-of-00002.safetensors`,
  );
  for (const [i, shard] of shards.entries()) {
    const own = names.filter((_, place) => place % 2 === i);
    writeSafetensors(join(folder, shard), new Map(own.map((name) => [name, tensors.get(name)!])));
  }
  rmSync(whole);
  const missing = () => loadPipeline(join(folder, '..'));
  expect(missing).toThrow(/-00001-of-00002\.safetensors is there, but not the index of the shards/);
  const map = Object.fromEntries(names.map((name, place) => [name, shards[place % 2]]));
  writeFileSync(join(folder, index), JSON.stringify({ metadata: {}, weight_map: map }));
  const read = loadPipeline(join(folder, '..'));
  expect(read.parameters.unet.entries.get('conv_in.weight')!.bytes()).toEqual(
    tensors.get('conv_in.weight')!.bytes(),
  );
  for (const parameters of Object.values(read.parameters)) parameters.free();
  free(tensors);
});

test('the text encoder’s variants are found too; of several that are not fp16 none is guessed', () => {
  const folder = copy();
  const place = (name: string) => join(folder, 'text_encoder', name);
  renameSync(place('model.safetensors'), place('model.bf16.safetensors'));
  const load = () => {
    for (const parameters of Object.values(loadPipeline(folder).parameters)) parameters.free();
  };
  load();
  cpSync(place('model.bf16.safetensors'), place('model.ema.safetensors'));
  expect(load).toThrow(/model\.safetensors: is missing, and there are the variants bf16, ema —/);
  cpSync(place('model.bf16.safetensors'), place('model.fp16.safetensors'));
  load();
});

test('pictures that turn into NaN are told by picture, seed and step, and leave nothing behind', async () => {
  const broken = tinyPipeline();
  const options = { prompts: ['a cat', 'a dog'], seeds: [3, 4], steps: 4 };
  const message = async (latents?: Tensor) =>
    generate(broken, { ...options, ...(latents ? { latents } : {}) }).then(
      () => 'drawn',
      (error: Error) => `${error.name}: ${error.message}`,
    );
  expect(await message(tensor(Array(128).fill(0), { shape: [2, 4, 4, 4] }))).toBe('drawn');
  const bad = tensor(Array.from({ length: 128 }, (_, i) => (i === 100 ? Number.POSITIVE_INFINITY : 0)), { shape: [2, 4, 4, 4] }); // biome-ignore format: one line
  const live = liveTensors();
  expect(await message(bad)).toMatch(
    /^UserError: generate: the latents of picture 2 of 2 \("a dog", seed 4\) hold NaN or infinity after step 1 of 4 — such a picture is black/,
  );
  expect(liveTensors()).toBe(live);
  const bias = broken.parameters.vae.entries.get('decoder.conv_out.bias')!;
  noGrad(() => bias.fill_(Number.NaN));
  expect(await message()).toMatch(/^UserError: decode: picture 1 holds NaN or infinity — it would be black/);
  expect(liveTensors()).toBe(live);
});

test('eta is refused where no noise is added by it', async () => {
  const options = {
    prompts: ['a cat'],
    seeds: [1],
    steps: 4,
    eta: 0.5,
    scheduler: 'EulerDiscreteScheduler',
  } as const;
  await expect(generate(pipeline, options)).rejects.toThrow(
    /eta is 0.5 — only DDIM adds noise by eta; EulerDiscreteScheduler has none/,
  );
});

test('PNDM and LMS draw, and progress counts the network’s calls', async () => {
  for (const [scheduler, calls] of [
    ['PNDMScheduler', 6],
    ['LMSDiscreteScheduler', 5],
  ] as const) {
    const own = { ...pipeline, schedulerConfig: { ...pipeline.schedulerConfig, skip_prk_steps: true } };
    const steps: string[] = [];
    const latents = await latentsOf({ prompts: ['a cat'], seeds: [1], steps: 5, scheduler, onStep: (event) => void steps.push(`${event.step + 1}/${event.steps}`) }, own); // biome-ignore format: one line
    expect(steps.at(-1)).toBe(`${calls}/${calls}`);
    expect(latents.abs().amax().item()).toBeGreaterThan(0.1);
  }
});

test('weights that half precision cannot hold are not written', () => {
  const large = tinyPipeline();
  noGrad(() => large.parameters.unet.entries.get('conv_in.bias')!.fill_(1e6));
  const folder = mkdtempSync(join(tmpdir(), 'pipeline-'));
  expect(() => savePipeline(large, folder, { dtype: 'float16' })).toThrow(
    /tensor "conv_in.bias" \[8\] holds NaN or infinity — nothing was written. Store it in float32: float16 may not reach/,
  );
  savePipeline(large, folder);
  for (const parameters of Object.values(large.parameters)) parameters.free();
});
