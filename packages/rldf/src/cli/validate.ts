import { Command } from 'commander';
import type { Recipe } from '../recipe/recipe.js';
import { print } from './output.js';
import { collect, printJson, recipePath, setOption } from './shared.js';

export function validateCommand(): Command {
  return new Command('validate')
    .description('check recipes without running them; every problem with file:line:column')
    .argument('[recipe...]', 'recipe files or names')
    .option(...setOption, collect)
    .option('--json', 'print the resolved recipes as JSON')
    .option('--schema', 'print the JSON Schema of recipes, for editors')
    .addHelpText(
      'after',
      `
Examples:
  $ rldf validate my-recipe.yaml
  $ rldf validate quickstart --set train.rank=16 --json
  $ rldf validate --schema > recipe.schema.json`,
    )
    .action(async (recipes: string[], options: { set?: string[]; json?: boolean; schema?: boolean }) => {
      const { loadRecipe } = await import('../recipe/load.js');
      if (options.schema) {
        const { recipeJsonSchema } = await import('../recipe/recipe.js');
        return printJson(recipeJsonSchema());
      }
      const { UserError } = await import('@rldf/torch/errors');
      if (recipes.length === 0)
        throw new UserError('validate: no recipe given — name a file, such as `rldf validate quickstart`');
      const { loadPrompts } = await import('../prompts/prompts.js');
      const { methodOf } = await import('../methods/index.js');
      const { loadReward } = await import('../rewards/index.js');
      const { checkPolicy } = await import('../plan/policy-check.js');
      const resolved = [];
      for (const recipe of recipes) {
        const checked = loadRecipe(recipePath(recipe), options.set);
        checkPolicy(checked);
        methodOf(checked).checkPrompts?.(checked, loadPrompts(checked.prompts));
        for (const prompts of [checked.evaluate.prompts, checked.report.prompts]) {
          if (prompts !== undefined) loadPrompts(prompts);
        }
        for (const line of await noticesWithoutModel(checked)) process.stderr.write(`${recipe}: ${line}\n`);
        if (JSON.stringify(checked.reward).includes('"module"')) await loadReward(checked.reward);
        resolved.push(checked);
        if (!options.json) print(`${recipe}: good\n`);
      }
      if (options.json) printJson(resolved.length === 1 ? resolved[0] : resolved);
    });
}

/** What the model would not see of the prompts; of the model only the tokenizer is read, if it is here. */
async function noticesWithoutModel(recipe: Recipe): Promise<string[]> {
  const { noticesOf } = await import('../train/from-recipe.js');
  const { findModel } = await import('@rldf/common/instruments/models');
  const { openModel } = await import('@rldf/models');
  let path: string;
  try {
    path = findModel(recipe.model).path;
  } catch {
    return []; // a recipe may be checked where its model is not
  }
  return noticesOf(recipe, openModel(path).tokenizer('tokenizer'));
}
