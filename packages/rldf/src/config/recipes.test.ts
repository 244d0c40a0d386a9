import { expect, test } from 'vitest';
import { recipeNames, recipePath } from '../cli/shared.js';
import { loadPrompts } from '../prompts.js';
import { loadRecipe } from './load.js';

test.each(recipeNames())('the shipped recipe %s is good, and its prompts are there', (name) => {
  const recipe = loadRecipe(recipePath(name));
  for (const prompts of [recipe.prompts, recipe.evaluate.prompts, recipe.report.prompts]) {
    if (prompts !== undefined) expect(loadPrompts(prompts).length).toBeGreaterThan(0);
  }
});

test('no prompt of the quickstart’s report is one that is trained on', () => {
  const recipe = loadRecipe(recipePath('quickstart'));
  const trained = new Set(loadPrompts(recipe.prompts).map(({ text }) => text));
  const shown = loadPrompts(recipe.report.prompts!).slice(0, recipe.report.maxPrompts);
  expect(shown.filter(({ text }) => trained.has(text))).toEqual([]);
});
