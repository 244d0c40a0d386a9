import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { methods } from '../methods/index.js';
import type { Recipe } from '../recipe/recipe.js';
import { checkPolicy, samplerNotices } from './policy-check.js';

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

test('ancestral Euler ends without noise under any settings, and is a policy all the same', () => {
  const ancestral = (name: string) => {
    const { sample, ...rest } = recipe(name) as { sample: object; method: string };
    return { ...rest, sample: { ...sample, scheduler: 'euler-ancestral' } } as unknown as Recipe;
  };
  for (const settings of [{}, { timestep_spacing: 'linspace' }, { timestep_spacing: 'trailing' }]) {
    configure(settings);
    checkPolicy(ancestral('ddpo'));
    checkPolicy(ancestral('dpok'));
  }
});

test('training tells what it draws with in the place of the model’s own sampler', () => {
  const own = { _class_name: 'PNDMScheduler', skip_prk_steps: true };
  expect(samplerNotices(recipe('ddpo'), own)).toEqual([
    'sampler: training draws with DDIMScheduler, evaluation with the model’s PNDMScheduler — a policy needs the probability of each step',
  ]);
  expect(samplerNotices(recipe('alignprop'), own)).toEqual([
    expect.stringMatching(/the gradient is followed/),
  ]);
  expect(samplerNotices(recipe('ip-rldf'), own)).toEqual([]); // draws with the model's own
  expect(samplerNotices(recipe('ddpo'), { _class_name: 'DDIMScheduler' })).toEqual([]);
  const kept = { _class_name: 'EulerAncestralDiscreteScheduler', use_karras_sigmas: true };
  expect(samplerNotices(recipe('ip-rldf'), kept)).toEqual([
    'sampler: the model’s use_karras_sigmas: true is passed over, as in diffusers — EulerAncestralDiscreteScheduler has no such option',
  ]);
});

test('models that are not here are judged by what is known of them', () => {
  checkPolicy(recipe('ddpo', 'nobody/has-this'));
  checkPolicy(recipe('ddpo', 'sd-1.5'));
  expect(() => checkPolicy(recipe('ddpo', 'sd-1.5', 0))).toThrow(/standard deviation 0 at eta 0/);
});
