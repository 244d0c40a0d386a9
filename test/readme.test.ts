import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { savePipeline, tinyPipeline } from '@rldf/models';
import { expect, test } from 'vitest';

const root = resolve(import.meta.dirname, '..');
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const example = readFileSync(join(root, 'examples', 'train.ts'), 'utf8');

test('the README shows examples/train.ts word for word, in at most twenty lines', () => {
  const [, block] = /```ts\n([\s\S]*?)```/.exec(readme) ?? [];
  expect(block).toBe(example);
  expect(example.trimEnd().split('\n').length).toBeLessThanOrEqual(20);
});

test('the example trains through the public API', () => {
  const folder = mkdtempSync(join(tmpdir(), 'rldf-example-'));
  savePipeline(tinyPipeline(), join(folder, 'model'));
  symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules')); // runs go into the temporary folder
  const words = [
    '--conditions=rldf-source',
    '--import',
    'tsx',
    join(root, 'examples', 'train.ts'),
    '2',
    '2',
    '2',
    join(folder, 'model'),
  ];
  const { status, stdout, stderr } = spawnSync(process.execPath, words, { cwd: folder, encoding: 'utf8' });
  expect(stderr.replace(/^.*ExperimentalWarning.*$/gm, '').trim()).toBe('');
  expect(status).toBe(0);
  const lines = stdout.trim().split('\n');
  expect(lines[0]).toMatch(/^1 -?\d/);
  expect(lines[1]).toMatch(/^2 -?\d/);
  expect(stdout).toContain('pytorch_lora_weights.safetensors');
});
