import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { methods } from '../methods/index.js';
import type { Recipe } from '../recipe/recipe.js';
import { checkPolicy } from './policy-check.js';

const model = mkdtempSync(join(tmpdir(), 'rldf-policy-'));
mkdirSync(join(model, 'scheduler'));
writeFileSync(join(model, 'model_index.json'), '{}');
/** Stable Diffusion's schedule, with other settings. */
const configure = (settings: object) =>
  writeFileSync(
    join(model, 'scheduler', 'scheduler_config.json'),
    JSON.stringify({ _class_name: 'PNDMScheduler', steps_offset: 1, set_alpha_to_one: false, ...settings }),
  );
const recipe = (method: string, name = model, eta = 1) =>
  ({ method, model: name, sample: { steps: 13, eta } }) as unknown as Recipe;

test('a policy without noise at a step is refused by the setting, from the configuration alone', () => {
  const byPolicy = Object.entries(methods).flatMap(([name, method]) =>
    'drawsByPolicy' in method ? [name] : [],
  );
  expect(byPolicy).toEqual(['ddpo', 'dpok', 'dpo', 'raft', 'rwr']);
  configure({});
  for (const name of Object.keys(methods)) checkPolicy(recipe(name));
  configure({ timestep_spacing: 'linspace' });
  for (const name of Object.keys(methods)) {
    const check = () => checkPolicy(recipe(name));
    if (byPolicy.includes(name))
      expect(check).toThrow(/step 13 of 13 .* has timestep_spacing: linspace \(set leading\)/);
    else check();
  }
});

test('models that are not here are judged by what is known of them', () => {
  checkPolicy(recipe('ddpo', 'nobody/has-this'));
  checkPolicy(recipe('ddpo', 'sd-1.5'));
  expect(() => checkPolicy(recipe('ddpo', 'sd-1.5', 0))).toThrow(/standard deviation 0 at eta 0/);
});
