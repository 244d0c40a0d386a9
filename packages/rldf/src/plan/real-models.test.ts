import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { findConfigs } from './model-configs.js';

const golden = fileURLToPath(new URL('../../../models/goldens/real-models.json', import.meta.url));

test('the real configurations have the tensors that diffusers and transformers have: names, shapes, parameters', () => {
  const script = fileURLToPath(new URL('./real-models.fixture.ts', import.meta.url));
  const words = ['--conditions=rldf-source', '--import', 'tsx', script];
  const { stdout, stderr } = spawnSync(process.execPath, words, {
    env: { ...process.env, RLDF_TORCH: 'shapes' },
    encoding: 'utf8',
  });
  expect(stderr).toBe('');
  const { models } = JSON.parse(readFileSync(golden, 'utf8'));
  expect(JSON.parse(stdout)).toEqual(models);
  expect(models['sdxl-base-1.0'].unet.parameters).toBe(2_567_463_684); // as published
  expect(models['gligen-text-box'].unet).toMatchObject({ tensors: 966, parameters: 1_068_623_204 });
  expect(findConfigs('masterful/gligen-1-4-generation-text-box')).toEqual(findConfigs('gligen-text-box'));
  // 1.4 has the networks of 1.5
  expect(findConfigs('CompVis/stable-diffusion-v1-4')).toEqual(findConfigs('sd-1.5'));
  expect(findConfigs('stabilityai/stable-diffusion-xl-base-1.0')).toEqual(findConfigs('sdxl-base-1.0'));
});
