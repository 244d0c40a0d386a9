// Half precision beside PyTorch's (goldens `half`, made by parity/reference/half.py with diffusers 0.42): as near to its numbers,
// and to those of float32, as its own rounding is.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type DType, grad, noGrad, scope, setThreads, type Tensor, UserError } from '@rldf/torch';
import { afterAll, expect, test } from 'vitest';
import { Golden, goldenFolder } from '../parity/golden.js';
import type { Conditioning } from './conditioning.js';
import { loadLora } from './lora-files.js';
import { generate, type Pipeline } from './pipeline.js';
import { loadPipeline, savePipeline } from './pipeline-files.js';
import { tinyPipeline } from './tiny-pipeline.js';

setThreads(1);
const golden = new Golden('half');
const folder = mkdtempSync(join(tmpdir(), 'rldf-half-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const rms = (values: readonly number[]) =>
  Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
const apart = (a: readonly number[], b: readonly number[]) =>
  rms(a.map((x, i) => x - (b[i] as number))) / rms(b);

/** Roots of mean squares, relative: half precision rounds by 2^-9 (bfloat16) and 2^-12 (float16), a few times over. */
const bounds = { bfloat16: 0.03, float16: 0.004 } as const;

const decodeOf = ({ vae, parameters }: Pipeline, latents: Tensor) =>
  vae.decode(latents.to(parameters.vae.entries.values().next().value!.dtype));

test.each([
  ['pipeline', 'bfloat16'],
  ['pipeline', 'float16'],
  ['pipeline-xl', 'bfloat16'],
  ['pipeline-xl', 'float16'],
] as const)('%s in %s: networks and a gradient as PyTorch computes them', (name, dtype) => {
  const pipeline = loadPipeline(join(goldenFolder, name), { dtype: dtype as DType });
  expect(pipeline.unet.dtype).toBe(dtype);
  scope(() => {
    const of = (key: string) => golden.tensor(`inputs.${name}.${key}`);
    const latents = of('latents').requiresGrad_();
    const told: Conditioning = {
      hiddenStates: of('hidden_states'),
      ...(name === 'pipeline-xl' && { pooled: of('pooled'), timeIds: of('time_ids') }),
    };
    const unet = pipeline.unet.forward(latents, of('timesteps'), told);
    expect(unet.dtype).toBe('float32'); // of the latents
    const found: Record<string, Tensor> = {
      'outputs.unet': unet.detach(),
      'gradients.latents': grad(unet.mul(of('cotangent')).sum(), [latents])[0]!,
      'outputs.vae': noGrad(() => decodeOf(pipeline, latents)), // says force_upcast
      'outputs.text': noGrad(() => pipeline.textEncoder.forward(of('ids')).lastHiddenState),
    };
    for (const [place, tensor] of Object.entries(found)) {
      const [group, what] = place.split('.');
      const expected = (type: string) => golden.tensor(`${group}.${name}.${type}.${what}`).toNumbers();
      const [ours, theirs, exact] = [tensor.toNumbers(), expected(dtype), expected('float32')];
      expect(apart(ours, theirs), `${place} beside PyTorch`).toBeLessThan(bounds[dtype]);
      expect(apart(ours, exact), `${place} beside float32`).toBeLessThan(1.5 * apart(theirs, exact));
    }
  });
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
});

test.each(['bfloat16', 'float16'] as const)(
  'an adapter on a network in %s is float32, and acts as in float32',
  (dtype) => {
    const lora = new Golden('lora');
    const pipeline = loadPipeline(join(goldenFolder, 'pipeline'), { dtype });
    const { unet: adapter } = loadLora(join(goldenFolder, 'lora-diffusers'), pipeline.parameters);
    expect(adapter!.parameters().every((tensor) => tensor.dtype === 'float32')).toBe(true);
    scope(() => {
      const told = { hiddenStates: lora.input('hidden_states') };
      const run = () =>
        noGrad(() => pipeline.unet.forward(lora.input('latents'), lora.input('timesteps'), told).toNumbers());
      expect(apart(run(), lora.tensor('outputs.unet_1.0').toNumbers())).toBeLessThan(bounds[dtype]);
      adapter!.strength = 0;
      expect(apart(run(), lora.tensor('outputs.unet_base').toNumbers())).toBeLessThan(bounds[dtype]);
    });
  },
);

test('an autoencoder that says force_upcast is float32 where float16 is asked for, and only then', () => {
  const pipeline = tinyPipeline(1);
  pipeline.vae.config.force_upcast = true;
  const model = join(folder, 'upcast');
  savePipeline(pipeline, model, { dtype: 'float16' });
  const types = (dtype: Parameters<typeof loadPipeline>[1]) => {
    const { parameters } = loadPipeline(model, dtype);
    return Object.entries(parameters).map(
      ([part, { entries }]) => `${part} ${entries.values().next().value!.dtype}`,
    );
  };
  expect(types({ dtype: 'float16' })).toEqual(['unet float16', 'vae float32', 'textEncoder float16']);
  expect(types({ dtype: 'bfloat16' })).toEqual(['unet bfloat16', 'vae bfloat16', 'textEncoder bfloat16']);
  expect(types({ dtype: { unet: 'bfloat16', vae: 'float16' } })).toEqual([
    'unet bfloat16',
    'vae float32',
    'textEncoder float32',
  ]);
});

test('latents stay float32; an autoencoder that overflows in float16 is refused, not drawn black', async () => {
  const pipeline = tinyPipeline(2);
  noGrad(() => pipeline.parameters.vae.entries.get('decoder.conv_in.weight')!.mul_(3e4));
  noGrad(() => pipeline.parameters.vae.entries.get('decoder.mid_block.resnets.0.conv2.weight')!.mul_(100));
  const model = join(folder, 'overflow');
  savePipeline(pipeline, model);
  const draw = async (vae: DType) => {
    const { images, latents } = await generate(loadPipeline(model, { dtype: { unet: 'float16', vae } }), {
      prompts: ['a cat'],
      seeds: [1],
      steps: 2,
    });
    expect(images.dtype).toBe('uint8');
    return latents.dtype;
  };
  expect(await draw('float32')).toBe('float32');
  const refused = await draw('float16').catch((error: Error) => error);
  expect(refused).toBeInstanceOf(UserError);
  expect((refused as Error).message).toMatch(/^decode: picture 1 holds NaN or infinity — .*float32/);
});
