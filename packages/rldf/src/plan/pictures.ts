/** How many pictures a run draws and has scored, and what that takes of servers that answer for money. */

import { methodOf } from '../methods/index.js';
import { type Prompt, repeatPrompts } from '../prompts/prompts.js';
import type { Recipe } from '../recipe/recipe.js';
import { callsOf } from '../rewards/remote/cost.js';

export interface PromptSets {
  validation: readonly Prompt[];
  test: readonly Prompt[];
}

/** Pictures of one validation, and of the final comparison with one model. */
export function evaluationSets(
  { evaluate, report }: Recipe,
  { validation, test }: PromptSets,
): { validation: number; test: number } {
  return {
    validation: repeatPrompts(validation, evaluate.maxPrompts, evaluate.picturesPerPrompt).length,
    test: repeatPrompts(test, report.maxPrompts, report.picturesPerPrompt).length,
  };
}

/** Pictures of all evaluations of a run. */
export function evaluatedPictures(recipe: Recipe, sets: PromptSets): number {
  const { validation, test } = evaluationSets(recipe, sets);
  return validations(recipe) * validation + 2 * test;
}

/** How often a run is validated, the model before training included. */
function validations(recipe: Recipe): number {
  const { steps = recipe.epochs } = methodOf(recipe).plan.arithmetic(recipe);
  return Math.ceil(steps / recipe.evaluate.every) + 1;
}

/**
 * What the judges of a recipe will be asked in a whole run, in words.
 * @param sets.own the reward is not the recipe's, but the caller's own
 */
export function costsOf(recipe: Recipe, sets: PromptSets & { own?: boolean }): string[] {
  const { pictures } = methodOf(recipe).plan.arithmetic(recipe);
  const evaluated = evaluatedPictures(recipe, sets);
  const watched = validations(recipe) * evaluationSets(recipe, sets).validation;
  const rewards = Array.isArray(recipe.reward) ? recipe.reward.map(({ reward }) => reward) : [recipe.reward];
  return [
    ...(sets.own ? [] : rewards.flatMap((one) => callsOf(one, pictures + evaluated))),
    ...(recipe.watch.judge === undefined ? [] : callsOf(recipe.watch.judge, watched)),
  ];
}
