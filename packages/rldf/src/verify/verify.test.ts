import { spawnSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ones, setThreads, tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { saveTinyModel, tinyRecipe } from '../train/tiny-run.fixture.js';
import { firstRowDifference, firstTensorDifference } from './compare.js';

setThreads(1);
const folder = mkdtempSync(join(tmpdir(), 'rldf-verify-test-'));
const model = saveTinyModel(join(folder, 'model'));
const recipe = join(folder, 'recipe.yaml');

/** Runs the real command line. */
function rldf(...words: string[]) {
  const main = fileURLToPath(new URL('../cli/main.ts', import.meta.url));
  return spawnSync(process.execPath, ['--conditions=rldf-source', '--import', 'tsx', main, ...words], {
    encoding: 'utf8',
  });
}

test('verify-resume: equal on a good recipe; the first difference and exit code 1 where a reward is not repeatable', () => {
  writeFileSync(recipe, JSON.stringify(tinyRecipe(model, 9)));
  const good = rldf('verify-resume', recipe, '--steps', '2', '--json');
  expect([good.status, good.stderr]).toEqual([0, '']);
  const result = JSON.parse(good.stdout);
  expect(result).toMatchObject({ equal: true, steps: 2, at: 1 });
  expect(result.comparisons.map(({ what }: { what: string }) => what)).toEqual([
    'metrics',
    'state.safetensors',
    'state.json',
    'pytorch_lora_weights.safetensors',
  ]);
  for (const { hashes } of result.comparisons) expect(hashes[0]).toMatch(/^[0-9a-f]{64}$/);

  writeFileSync(
    join(folder, 'clock.mjs'),
    'export const reward = ({ images }) => images.map((_, i) => process.hrtime()[1] / 1e9 + i);\n',
  );
  const bad = { ...tinyRecipe(model, 9), reward: { module: './clock.mjs' } };
  writeFileSync(recipe, JSON.stringify(bad));
  const differs = rldf('verify-resume', recipe, '--steps', '2');
  expect(differs.status).toBe(1);
  expect(differs.stdout).toMatch(/NOT equal: metrics of step 0, validation\/reward: [\d.e-]+ and [\d.e-]+/);
});

test('verify-seed: noise equal bit for bit, latents within 1e-4', () => {
  const { status, stdout } = rldf('verify-seed', model, '--steps', '2', '--json');
  expect(status).toBe(0);
  const result = JSON.parse(stdout);
  expect(result).toMatchObject({ equal: true, batches: [4, 1] });
  expect(result.noise).toHaveLength(3);
  expect(new Set(result.noise.map(({ hashes }: { hashes: string[] }) => hashes[0])).size).toBe(3);
  expect(result.latents.largest).toBeLessThan(1e-4);
});

test('what is impossible is said with exit code 2', () => {
  const { status, stderr } = rldf('verify-resume', recipe, '--steps', '2', '--at', '2');
  expect([status, stderr]).toEqual([2, expect.stringContaining('1 <= k < n')]);
});

test('the first difference is named with index and values', () => {
  const a = new Map([['w', tensor([1, 2, 3, 4], { shape: [2, 2] })]]);
  const b = new Map([['w', tensor([1, 2, 3.5, 4], { shape: [2, 2] })]]);
  expect(firstTensorDifference(a, a)).toBeUndefined();
  expect(firstTensorDifference(a, b)).toBe('w [1, 0]: 3 and 3.5');
  expect(firstTensorDifference(a, b, 1)).toBeUndefined();
  expect(firstTensorDifference(a, new Map([['w', ones([2, 2], { dtype: 'float64' })]]))).toBe(
    'w is float32 [2, 2] and float64 [2, 2]',
  );
  expect(firstTensorDifference(new Map([['z', tensor([0])]]), new Map([['z', tensor([-0])]]))).toBe(
    'z [0]: 0 and 0',
  );
  expect(firstTensorDifference(a, new Map())).toBe('w is in only one of them');
  expect(firstRowDifference([{ step: 1, x: 2 }], [{ step: 1, x: 3 }])).toBe('metrics of step 1, x: 2 and 3');
  expect(firstRowDifference([{ step: 1 }], [])).toBe('1 and 0 rows of metrics');
});
