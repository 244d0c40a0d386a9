// A model of Stable Diffusion XL's kind through the commands: plan, train, generate, fuse, export, eval.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { savePipeline, tinyXlPipeline } from '@rldf/models';
import { readHeader, setThreads } from '@rldf/torch';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { tinyRecipe } from '../train/tiny-run.fixture.js';
import { rldf } from './command-line.fixture.js';

setThreads(1);
const folder = mkdtempSync(join(tmpdir(), 'rldf-xl-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const model = join(folder, 'model');
const recipeFile = join(folder, 'recipe.yaml');
const run = join(folder, 'runs', 'xl');
const adapter = join(run, 'adapters', 'pytorch_lora_weights.safetensors');

/** 8 high, 12 wide; both encoders learn, words are weighted, two built-in rewards judge. */
beforeAll(() => {
  const pipeline = tinyXlPipeline();
  savePipeline(pipeline, model);
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  const { train, ...recipe } = tinyRecipe(model, 1);
  const text = {
    ...recipe,
    reward: [
      { reward: 'jpeg-incompressibility', weight: -1 },
      { reward: 'aesthetic', weight: 1 },
    ],
    size: [8, 12],
    microConditioning: { originalSize: [64, 96], crop: [0, 4] },
    explore: { words: {}, guidance: { steps: 1 } },
    train: { ...train, textEncoder2: 'lora' },
  };
  writeFileSync(recipeFile, JSON.stringify(text)); // JSON is YAML
});

const json = async (...words: string[]) => {
  const { code, out, err } = await rldf(...words);
  expect([words[0], code, code === 0 ? '' : err]).toEqual([words[0], 0, '']);
  return JSON.parse(out);
};

test('a recipe is validated, planned, trained; its adapter has all three networks and is used by the other commands', async () => {
  expect((await rldf('validate', recipeFile)).code).toBe(0);
  const planned = await json('plan', recipeFile, '--memory', '2GB', '--no-calibration', '--json');
  expect(planned.fits).toBe(true);
  expect(planned.memory.parameters.textEncoder2).toBeGreaterThan(0);

  const { code, err } = await rldf('train', recipeFile, '--name', 'xl', '--runs', join(folder, 'runs'));
  expect([code, err]).toEqual([0, expect.anything()]);
  const names = readHeader(adapter).entries.map(({ name }) => name.split('.')[0]);
  expect([...new Set(names)].sort()).toEqual(['text_encoder', 'text_encoder_2', 'unet']);
  const report = JSON.parse(readFileSync(join(run, 'report', 'report.json'), 'utf8'));
  expect(report.prompts).toBe(3);

  const drawn = (output: string, ...more: string[]) =>
    json(
      'generate',
      'a cat',
      '--model',
      model,
      '--steps',
      '2',
      '--json',
      '--output',
      join(folder, output),
      ...more,
    );
  await drawn('before');
  await drawn('after', '--adapter', adapter);
  await drawn('empty', '--negative', '');
  const picture = (name: string) => readFileSync(join(folder, name, '0000.png'));
  expect(picture('after').equals(picture('before'))).toBe(false);
  expect(picture('empty').equals(picture('before'))).toBe(false); // the empty prompt is not none

  const output = join(folder, 'fused.safetensors');
  const grid = ['--grid', join(folder, 'grid'), '--model', model, '--reward', 'aesthetic', '--count', '2'];
  const fused = await json('fuse', `${adapter}:0.5`, '--output', output, ...grid, '--steps', '2', '--json');
  expect(fused.layers).toEqual({ unet: expect.any(Number), textEncoder: 8, textEncoder2: 12 });
  expect(fused.points).toHaveLength(9);

  const exported = await json(
    'export',
    adapter,
    '--format',
    'diffusers',
    '--output',
    join(folder, 'out.safetensors'),
    '--json',
  );
  expect(exported.layers).toEqual(fused.layers);

  const small = ['--steps', '2', '--pictures', '2', '--max-prompts', '2', '--json'];
  const where = ['--adapter', adapter, '--output', join(folder, 'eval')];
  const evaluated = await json('eval', model, '--suite', 'diversity', ...where, ...small);
  expect(evaluated.suites.diversity).toBeDefined();
});
