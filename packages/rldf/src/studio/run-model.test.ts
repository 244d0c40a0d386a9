import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { stringify } from 'yaml';
import { minimalRecipe } from '../methods/minimal-recipes.fixture.js';
import type { Run } from '../run/run.js';
import { saveTinyModel } from '../train/tiny-run.fixture.js';
import { RunModel } from './run-model.js';

test('a run whose prompts are in the words of a detector of photographs can be drawn with', () => {
  const folder = mkdtempSync(join(tmpdir(), 'rldf-run-model-'));
  const recipePath = join(folder, 'recipe.yaml');
  const recipe = minimalRecipe('ip-rldf', {
    model: saveTinyModel(join(folder, 'model')),
    prompts: ['a snowboard to the right of a bench', 'a cup'],
    detector: 'human', // it is not asked, so its package need not be here
    relabel: true,
    rescale: 0.5,
  });
  writeFileSync(recipePath, stringify(recipe));
  const model = new RunModel({ recipePath } as Run);
  expect(model.recipe.method).toBe('ip-rldf');
  model.free();
});
