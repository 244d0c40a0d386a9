// What the fuzz campaign found (npm run campaign -- fuzz), each as its smallest case.
import { cpSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { liveTensors, readSafetensors, UserError } from '@rldf/torch';
import { expect, test } from 'vitest';
import { CLIPTokenizer, fromVocabulary } from './clip-tokenizer.js';
import { readJson } from './files.js';
import { loadPipeline, savePipeline } from './pipeline-files.js';
import { createScheduler } from './schedulers/scheduler.js';
import { tinyPipeline } from './tiny-pipeline.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-damaged-'));
{
  const pipeline = tinyPipeline();
  savePipeline(pipeline, join(folder, 'good'));
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
}

function messageOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(UserError);
    return (error as Error).message;
  }
  return 'no error';
}

/** Loads the model with some keys of one of its files changed. */
function loadChanged(file: string, changes: object): string {
  const model = join(folder, 'changed');
  cpSync(join(folder, 'good'), model, { recursive: true });
  const path = join(model, file);
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), ...changes }));
  const before = liveTensors();
  const message = messageOf(() => {
    for (const parameters of Object.values(loadPipeline(model).parameters)) parameters.free();
  });
  expect(liveTensors()).toBe(before);
  return message;
}

test.each([
  [
    'unet/config.json',
    { sample_size: 1e9 },
    'sample_size is 1000000000 — must be a whole number from 1 to 8192',
  ],
  ['unet/config.json', { sample_size: 'x' }, 'sample_size is "x"'],
  [
    'unet/config.json',
    { in_channels: 1e9 },
    'in_channels is 1000000000 — must be a whole number from 1 to 65536',
  ],
  [
    'unet/config.json',
    { block_out_channels: [8, 1e9] },
    'block_out_channels is [8,1000000000] — must be a list',
  ],
  ['unet/config.json', { block_out_channels: { length: 1e9 } }, 'must be a list'],
  ['unet/config.json', { layers_per_block: 1e9 }, 'layers_per_block is 1000000000'],
  ['unet/config.json', { norm_eps: -1 }, 'norm_eps is -1'],
  ['unet/config.json', { down_block_types: ['constructor', 'DownBlock2D'] }, 'contains "constructor"'],
  ['scheduler/scheduler_config.json', { num_train_timesteps: 1e9 }, 'num_train_timesteps is 1000000000'],
  ['scheduler/scheduler_config.json', { trained_betas: 'x' }, 'trained_betas is "x"'],
  ['scheduler/scheduler_config.json', { beta_end: 2 }, 'beta_end is 2'],
  [
    'scheduler/scheduler_config.json',
    { _class_name: 'constructor' },
    'scheduler "constructor" — not supported',
  ],
  ['vae/config.json', { scaling_factor: 0 }, 'scaling_factor is 0'],
  ['text_encoder/config.json', { hidden_act: 'toString' }, 'hidden_act is "toString"'],
  ['text_encoder/config.json', { num_hidden_layers: 1e9 }, 'num_hidden_layers is 1000000000'],
  ['text_encoder/config.json', { eos_token_id: 'x' }, 'eos_token_id is "x"'],
  ['model_index.json', { vae: undefined }, 'vae is nothing'],
  ['tokenizer/tokenizer_config.json', { model_max_length: 1000 }, 'the tokenizer makes 1000 tokens'],
  ['tokenizer/tokenizer_config.json', { model_max_length: '12' }, 'model_max_length is "12"'],
] as const)('%s with %j is refused, and leaves nothing behind', (file, changes, message) => {
  expect(loadChanged(file, changes)).toContain(message);
});

test('numbers of another kind and values nested beyond measure are refused where they are read', () => {
  const file = join(folder, 'deep.json');
  writeFileSync(file, `{"a":${'['.repeat(20_000)}${']'.repeat(20_000)}}`);
  expect(messageOf(() => readJson(file))).toContain('is nested deeper than 100 levels');
  expect(messageOf(() => createScheduler({ beta_start: Number.NaN }))).toContain('beta_start');
  const tensors = join(folder, 'x.safetensors');
  const header = Buffer.from(`{"a":{"dtype":${'['.repeat(20_000)}${']'.repeat(20_000)}}}`);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(header.length));
  writeFileSync(tensors, Buffer.concat([prefix, header]));
  expect(messageOf(() => readSafetensors(tensors))).toContain('has dtype a deeply nested value');
});

test.each([
  [{ merges: [3] }, {}, 'merges hold 3 — must be a list of pairs of tokens'],
  [{ vocab: { a: -1 } }, {}, 'the id of token "a" is -1'],
  [{ vocab: 'x' }, {}, 'the vocabulary is "x"'],
  [{}, { pad_token: {} }, 'special token nothing — is not in the vocabulary'],
  [{}, { pad_token: { content: { toString: 1 } } }, 'is not in the vocabulary'],
])('a tokenizer with %j and %j is refused', (model, config, message) => {
  const { tokenizer, parameters } = tinyPipeline();
  for (const network of Object.values(parameters)) network.free();
  tokenizer.save(join(folder, 'tokenizer'));
  const good = readJson(join(folder, 'tokenizer', 'tokenizer.json'));
  const make = () => new CLIPTokenizer({ ...good, model: { ...(good.model as object), ...model } }, config);
  expect(messageOf(make)).toContain(message);
});

test('a pattern that could take for ever to match is refused', () => {
  const vocabulary = { 'a</w>': 0, '<|startoftext|>': 1, '<|endoftext|>': 2 };
  const tokenizer = fromVocabulary(vocabulary, []) as { pre_tokenizer: unknown };
  tokenizer.pre_tokenizer = {
    type: 'Split',
    pattern: { Regex: '(a+)+$' },
    behavior: 'Removed',
    invert: true,
  };
  expect(messageOf(() => new CLIPTokenizer(tokenizer, {}))).toContain('repeats a group');
});
