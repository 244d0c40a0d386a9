import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ones, writeSafetensors } from '@rldf/torch';
import { afterAll, expect, test } from 'vitest';
import { baseKey, baseOf, commonBase } from './adapter-base.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-base-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('the state of a checkpoint is no adapter, and says where the adapter lies', () => {
  const value = ones([1]);
  const [adapter, state] = [join(folder, 'adapter.safetensors'), join(folder, 'state.safetensors')];
  writeSafetensors(adapter, new Map([['unet.to_q.lora_A.weight', value]]), { [baseKey]: 'abc' });
  writeSafetensors(state, new Map([['training/trainables/unet/0', value]]));
  value.free();
  expect(baseOf(adapter)).toBe('abc');
  expect(() => commonBase([adapter, state], 'fuse')).toThrow(
    /state\.safetensors: is the state of a checkpoint, which only `rldf resume` reads — .*the run's folder adapters/,
  );
});
