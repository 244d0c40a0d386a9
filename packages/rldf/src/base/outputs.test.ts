import { linkSync, mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { UserError } from '@rldf/torch';
import { expect, test } from 'vitest';
import { rldf } from '../cli/command-line.fixture.js';
import { refuseOverwriting } from './outputs.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-outputs-'));
const file = (name: string) => join(folder, name);
writeFileSync(file('a.safetensors'), 'a');
writeFileSync(file('b.safetensors'), 'a');
linkSync(file('a.safetensors'), file('hard.safetensors'));
symlinkSync(file('a.safetensors'), file('soft.safetensors'));
mkdirSync(file('run'));
writeFileSync(file('run/only.safetensors'), 'd');
writeFileSync(file('run/adapter_model.safetensors'), 'e');
symlinkSync(file('run/only.safetensors'), file('linked.safetensors'));
linkSync(file('run/adapter_model.safetensors'), file('hardlinked.safetensors'));
writeFileSync(file('run/pytorch_lora_weights.safetensors'), 'c');

test.each([
  ['a.safetensors', 'a.safetensors'],
  ['run/../a.safetensors', 'a.safetensors'],
  ['hard.safetensors', 'a.safetensors'],
  ['soft.safetensors', 'a.safetensors'],
  ['run/pytorch_lora_weights.safetensors', 'run'],
  ['run/only.safetensors', 'run'],
  ['linked.safetensors', 'run'],
  ['hardlinked.safetensors', 'run'],
])('%s is the input %s', (output, input) => {
  const call = () => refuseOverwriting('--output', file(output), [file('b.safetensors'), file(input)]);
  expect(call).toThrow(UserError);
  expect(call).toThrow(`is the input ${file(input)} — it would be overwritten`);
});

test('another file, and one that is not there, may be written', () => {
  refuseOverwriting('--output', file('b.safetensors'), [file('a.safetensors')]);
  refuseOverwriting('--output', file('new.safetensors'), [file('new.safetensors'), file('a.safetensors')]);
});

const adapter = () => file('a.safetensors');
test.each([
  ['fuse', () => ['fuse', `${adapter()}:0.5`, '--output', adapter()]],
  ['export', () => ['export', adapter(), '--format', 'kohya', '--output', file('soft.safetensors')]],
  ['generate', () => ['generate', 'a', '--adapter', adapter(), '--save-latents', adapter()]],
  ['generate', () => ['generate', '--prompt-file', adapter(), '--save-latents', adapter()]],
  ['search', () => ['search', '--image', file('world.png'), '--output', folder]],
])('rldf %s refuses to overwrite its input, and leaves it as it is', async (_, words) => {
  writeFileSync(file('world.png'), 'a');
  const { code, err } = await rldf(...words());
  expect([code, err]).toEqual([2, expect.stringContaining('it would be overwritten')]);
  expect(readFileSync(adapter(), 'utf8')).toBe('a');
});
