/** A table's results on a part of its test prompts, such as those with "left of", or those that nothing was trained on. */

import { loadPrompts, repeatPrompts } from '../prompts/prompts.js';
import type { Recipe } from '../recipe/recipe.js';
import type { ArmResult } from './arm-result.js';

/** The different test prompts of a recipe, in the order of a result's scores. */
export function testPrompts({ report, evaluate, prompts }: Recipe): string[] {
  const all = repeatPrompts(loadPrompts(report.prompts ?? evaluate.prompts ?? prompts), report.maxPrompts, 1);
  return [...new Set(all.map(({ text }) => text))];
}

/**
 * Results with the scores of the test prompts alone in which a regular expression is found; without the arms that have none.
 * @param prompts test prompts by arm
 */
export function resultsOfGroup(
  pattern: string,
  armResults: readonly ArmResult[],
  prompts: Readonly<Record<string, readonly string[]>>,
): ArmResult[] {
  const sought = new RegExp(pattern);
  return armResults.flatMap((armResult) => {
    const texts = prompts[armResult.arm] ?? [];
    const kept = texts.flatMap((text, i) => (sought.test(text) ? [i] : []));
    if (kept.length === 0) return [];
    const of = (scores: readonly number[]) => kept.map((i) => scores[i] as number);
    const scores = Object.entries(armResult.scores).map(
      ([name, { before, after }]) => [name, { before: of(before), after: of(after) }] as const,
    );
    return [{ ...armResult, scores: Object.fromEntries(scores) }];
  });
}
