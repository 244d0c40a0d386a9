import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  baseFingerprint,
  baseKey,
  checkBase,
  storedFingerprint,
} from '@rldf/common/instruments/adapter-base';
import {
  generate,
  LoraAdapter,
  loadLora,
  loadPipeline,
  type Pipeline,
  saveLora,
  savePipeline,
  TEXT_ATTENTION,
  tinyPipeline,
  UNET_ATTENTION,
} from '@rldf/models';
import { free, liveTensors, noGrad, noiseKey, normal, scope, setThreads, type Tensor } from '@rldf/torch';
import { afterAll, expect, test, vi } from 'vitest';
import { rldf } from '../cli/command-line.fixture.js';
import { runCommandLine } from '../cli/program.js';
import { fuseAdapters } from './fuse.js';

setThreads(1);
const folder = mkdtempSync(join(tmpdir(), 'rldf-fuse-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A file with an adapter that is not zero. */
function adapterFile(
  name: string,
  network: 'unet' | 'textEncoder',
  {
    rank = 2,
    alpha = 3,
    targets = network === 'unet' ? UNET_ATTENTION : TEXT_ATTENTION,
    seed = 0,
    base = 0,
  } = {},
): string {
  const pipeline = tinyPipeline(base);
  const adapter = LoraAdapter.attach(pipeline.parameters[network], { rank, alpha, targets, seed });
  noGrad(() => {
    for (const [i, { branch }] of adapter.modules.entries())
      scope(() =>
        branch.up.copy_(
          normal([noiseKey(seed, name, i)], branch.up.shape)
            .squeeze(0)
            .mul(0.5),
        ),
      );
  });
  const file = join(folder, `${name}.safetensors`);
  saveLora(file, { [network]: adapter }, { metadata: { [baseKey]: baseFingerprint(pipeline) } });
  adapter.remove();
  return file;
}

const text = adapterFile('text', 'textEncoder', { seed: 1 });
const one = adapterFile('one', 'unet', { rank: 2, alpha: 6, seed: 2 });
const two = adapterFile('two', 'unet', { rank: 3, targets: ['to_q', 'to_k', 'conv1'], seed: 3 });

async function drawn(pipeline: Pipeline): Promise<Tensor> {
  const { images, latents } = await generate(pipeline, {
    prompts: ['a cat'],
    seeds: [1],
    steps: 3,
    guidanceScale: 2,
  });
  images.free();
  return latents;
}

test('fused files draw what all of them draw together, each at its strength', async () => {
  const before = liveTensors();
  const adapters = [
    { path: text, strength: 1 },
    { path: one, strength: 0.7 },
    { path: two, strength: -0.5 },
  ];
  const fused = fuseAdapters(adapters, join(folder, 'fused.safetensors'));
  expect(liveTensors()).toBe(before);
  expect(fused.rank).toBe(5);
  const pipeline = tinyPipeline(0);
  const plain = await drawn(pipeline);
  const pairs = adapters.map(({ path, strength }) => loadLora(path, pipeline.parameters, strength));
  const together = await drawn(pipeline);
  for (const pair of pairs) for (const adapter of Object.values(pair)) adapter.remove();
  const { unet, textEncoder } = loadLora(fused.file, pipeline.parameters);
  const found = await drawn(pipeline);
  expect(found.sub(together).abs().amax().item()).toBeLessThan(1e-5);
  expect(found.sub(plain).abs().amax().item()).toBeGreaterThan(1e-2);
  expect(fused.layers).toEqual({ unet: unet?.modules.length, textEncoder: textEncoder?.modules.length });
  free([plain, together, found]);
});

test('a layer of one file at strength 1 stays to the bit', () => {
  const { file } = fuseAdapters([{ path: text, strength: 1 }], join(folder, 'same.safetensors'));
  const { parameters } = tinyPipeline(0);
  const [a, b] = [text, file].map((path) => loadLora(path, parameters).textEncoder);
  a?.modules.forEach(({ branch, alpha, rank }, i) => {
    const other = b?.modules[i];
    expect([other?.alpha, other?.rank]).toEqual([alpha, rank]);
    expect(other?.branch.up.toNumbers()).toEqual(branch.up.toNumbers());
  });
});

test('an adapter of another base model is refused, with both names and the way out', () => {
  const other = adapterFile('other', 'unet', { base: 7 });
  const fuse = () =>
    fuseAdapters(
      [
        { path: text, strength: 1 },
        { path: other, strength: 1 },
      ],
      join(folder, 'no.safetensors'),
    );
  expect(fuse).toThrow(/text\.safetensors was made on the base model .*, .*other\.safetensors on/);
  expect(existsSync(join(folder, 'no.safetensors'))).toBe(false);
  expect(() => checkBase(other, tinyPipeline(0), 'emoji')).toThrow(
    /made on another base model .* than emoji/,
  );
  expect(() => checkBase(text, tinyPipeline(0), 'emoji')).not.toThrow();
});

test('the fingerprint tells weights apart, and half precision from full does not', () => {
  const [a, b] = [tinyPipeline(0), tinyPipeline(1)].map(baseFingerprint);
  expect(a).toMatch(/^[0-9a-f]{16}$/);
  expect(a).not.toBe(b);
  const model = join(folder, 'halved');
  savePipeline(tinyPipeline(0), model);
  expect(baseFingerprint(loadPipeline(model, { dtype: 'float16' }))).toBe(a);
});

test('rldf fuse --grid draws neither, each and both, and the surface of strengths', async () => {
  const model = join(folder, 'model');
  const pipeline = tinyPipeline(0);
  savePipeline(pipeline, model);
  const out = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  const output = join(folder, 'both.safetensors');
  const words = ['fuse', text, one, '--output', output, '--grid', join(folder, 'grid'), '--model', model];
  const more = [
    '--reward',
    'jpeg-compressibility',
    '--count',
    '3',
    '--steps',
    '2',
    '--strengths',
    '0.5',
    '--json',
  ];
  const code = await runCommandLine([...words, ...more]);
  const printed = String(out.mock.calls[0]?.[0]);
  out.mockRestore();
  expect(code).toBe(0);
  const { points, files } = JSON.parse(printed);
  expect(points).toHaveLength(9);
  expect(files.map((file: string) => existsSync(file))).toEqual([true, true, true]);
  const surface = JSON.parse(readFileSync(join(folder, 'grid', 'surface.json'), 'utf8'));
  expect(surface.prompts).toHaveLength(3);
  const means = surface.points.map((point: { mean: number }) => point.mean);
  expect(new Set(means).size).toBeGreaterThan(1);
});

test('a grid that cannot be drawn is refused before the sum is written', async () => {
  const model = join(folder, 'another-model');
  savePipeline(tinyPipeline(0), model);
  rmSync(join(model, 'vae'), { recursive: true }); // what would be loaded
  const other = adapterFile('of-another', 'textEncoder', { base: 7 });
  const output = join(folder, 'unwritten.safetensors');
  const cases: [string[], string][] = [
    [[text], 'adapts only the text encoder'],
    [[one, two], 'adapts only the U-Net'],
    [[other, one], 'made on another base model'],
    [[text, one, '--steps', '0'], '--steps 0'],
    [[text, one, '--reward', 'nice'], 'reward nice'],
  ];
  for (const [words, expected] of cases) {
    const { code, err } = await rldf(
      'fuse',
      ...words,
      '--output',
      output,
      '--grid',
      folder,
      '--model',
      model,
    );
    expect([code, err]).toEqual([2, expect.stringContaining(expected)]);
    expect(existsSync(output)).toBe(false);
  }
});

test('the fingerprint of a folder is that of the model in it', () => {
  const model = join(folder, 'stored');
  for (const dtype of ['float32', 'float16'] as const) {
    savePipeline(tinyPipeline(3), model, { dtype });
    expect(storedFingerprint(model)).toBe(baseFingerprint(tinyPipeline(3)));
  }
  const before = liveTensors();
  storedFingerprint(model);
  expect(liveTensors()).toBe(before);
});
