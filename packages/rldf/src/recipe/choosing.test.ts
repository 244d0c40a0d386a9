import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { instrumentCard, listInstruments } from '@rldf/common/instruments/instruments';
import { promptSet, promptSetNames, prompts as promptsOfSplit, sceneKinds } from '@rldf/emoji-world';
import { expect, test } from 'vitest';
import { recipeNames, recipePath, recipesFolder } from '../cli/shared.js';
import { loadPrompts } from '../prompts/prompts.js';
import { loadProtocol, recipeOf } from '../reproduce/protocol.js';
import { rewards } from '../rewards/index.js';
import { loadRecipe } from './load.js';
import type { Recipe } from './recipe.js';

// A training learns from its prompts, and its best checkpoint is chosen by those of its validation. What it is measured
// by afterwards may be neither, and a judge, which only measures, may neither give rewards nor find what is relabelled.

const worldRecipes = recipeNames().filter((name) => !name.startsWith('stable-diffusion/'));

const textsOf = (prompts: Recipe['prompts'] | undefined) =>
  prompts === undefined ? [] : loadPrompts(prompts).map(({ text }) => text);

/** All that a training sees before it has ended. */
const seenBy = (recipe: Recipe) => [
  ...textsOf(recipe.prompts),
  ...textsOf(recipe.evaluate.prompts),
  ...('base' in recipe && recipe.base ? textsOf(recipe.base.prompts) : []),
];

const single = new Set(promptsOfSplit('test', 'single')); // "a cat" is in every split
const measuring = new Set(
  [
    ...sceneKinds.flatMap((kind) => (kind === 'single' ? [] : promptsOfSplit('test', kind))),
    ...promptSetNames.flatMap((name) => {
      const { purpose, prompts } = promptSet(name);
      return purpose === 'evaluation' ? prompts.map(({ prompt }) => prompt) : [];
    }),
  ].filter((prompt) => !single.has(prompt)),
);

test.each(worldRecipes)(
  '%s: no prompt of the test split or of an evaluation set trains or chooses',
  (name) => {
    const recipe = loadRecipe(recipePath(name));
    const seen = new Set(seenBy(recipe));
    expect([...seen].filter((text) => measuring.has(text))).toEqual([]);
    if (recipe.report.prompts === undefined) return;
    const shown = textsOf(recipe.report.prompts).slice(0, recipe.report.maxPrompts);
    expect(shown.filter((text) => seen.has(text))).toEqual([]);
  },
);

const judges = listInstruments().filter((name) => instrumentCard(name).role === 'judge');

test('what measures is known, and so is what trains', () => {
  expect(measuring.size).toBeGreaterThan(1000);
  expect(new Set(seenBy(loadRecipe(recipePath('emoji/ip-rldf')))).size).toBeGreaterThan(2100); // 100, 2,000 and validation
});

test('no judge gives a reward or finds what is relabelled', () => {
  expect(judges.length).toBeGreaterThan(2);
  expect(Object.keys(rewards).filter((name) => judges.includes(name))).toEqual([]);
  for (const name of recipeNames()) {
    const recipe = loadRecipe(recipePath(name));
    const named = JSON.stringify({ ...recipe, watch: undefined });
    expect(
      judges.filter((judge) => named.includes(`"${judge}"`)),
      name,
    ).toEqual([]);
  }
});

const tables = join(recipesFolder, 'reproduce');
const trainingTables = readdirSync(tables).filter((table) => table !== 'rldf'); // searches, which train nothing

test.each(trainingTables)('table %s: its judges trained nothing, nor did prompts that measure', (table) => {
  const protocol = loadProtocol(table, tables, recipeNames());
  for (const [arm, changes] of Object.entries(protocol.arms)) {
    if ('fuse' in changes) continue; // a sum of other arms
    const recipe = recipeOf(protocol, arm, protocol.seeds[0] as number, 'full', recipePath);
    const reward = JSON.stringify(recipe.reward);
    expect(
      protocol.judges.filter((judge) => reward.includes(`"${judge}"`)),
      arm,
    ).toEqual([]);
    expect(
      seenBy(recipe).filter((text) => measuring.has(text)),
      arm,
    ).toEqual([]);
  }
});
