import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { findModel, listModels } from './models.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-models-'));
const write = (path: string, content: string) => {
  mkdirSync(join(folder, path, '..'), { recursive: true });
  writeFileSync(join(folder, path), content);
};
write('one/model_index.json', '{}');
write('one/unet/weights.bin', 'x'.repeat(98));
write('one/README.md', '---\nlicense: apache-2.0\n---\n# One\n');
write('one/clip/config.json', '{"text_config":{},"vision_config":{}}');
const folders = {
  one: join(folder, 'one'),
  'one-clip': join(folder, 'one', 'clip'),
  gone: join(folder, 'gone'),
};

test('models that are here are listed with kind, licence and size', () => {
  expect(listModels(folders)).toEqual([
    { name: 'one', path: folders.one, kind: 'text-to-image', licence: 'apache-2.0', bytes: 2 + 98 + 34 },
    { name: 'one-clip', path: folders['one-clip'], kind: 'clip', licence: 'apache-2.0', bytes: 37 },
  ]);
});

test('a model is found by name or path; otherwise the message says what there is', () => {
  expect(findModel('one', folders).path).toBe(folders.one);
  expect(findModel(folders.one, {}).name).toBe('one');
  expect(() => findModel('onne', folders)).toThrow('shipped are: one. Did you mean one?');
  expect(() => findModel(folder, folders)).toThrow('no model_index.json in');
  expect(() => findModel('one-clip', folders)).toThrow('neither a shipped model');
});
