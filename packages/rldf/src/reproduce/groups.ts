/** A table's results on a part of its test prompts, such as those with "left of", or those that nothing was trained on. */

import { shown, UserError } from '@rldf/torch/errors';
import { loadPrompts, repeatPrompts } from '../prompts/prompts.js';
import type { Recipe } from '../recipe/recipe.js';
import type { ArmResult } from './arm-result.js';
import type { Protocol } from './protocol.js';

/** The different test prompts of a recipe, in the order of a result's scores. */
export function testPrompts({ report, evaluate, prompts }: Recipe): string[] {
  const all = repeatPrompts(loadPrompts(report.prompts ?? evaluate.prompts ?? prompts), report.maxPrompts, 1);
  return [...new Set(all.map(({ text }) => text))];
}

/** @throws UserError when arms that are compared, prompt by prompt, have other test prompts */
export function checkTestPrompts(
  { file, arms, reference, claims }: Pick<Protocol, 'file' | 'arms' | 'reference' | 'claims'>,
  prompts: Readonly<Record<string, readonly string[]>>,
): void {
  const compared = [
    ...Object.keys(arms).map((arm) => ['reference', arm, reference] as const),
    ...Object.entries(claims).map(([name, { arm, against }]) => [`claims.${name}`, arm, against] as const),
  ];
  for (const [where, arm, against] of compared) {
    if (against === undefined) continue;
    const [ours, theirs] = [prompts[arm] ?? [], prompts[against] ?? []];
    const other = ours.findIndex((text, i) => text !== theirs[i]);
    if (other < 0 && ours.length === theirs.length) continue;
    const at = other < 0 ? ours.length : other;
    throw new UserError(
      `${file}  ${where}: test prompt ${at + 1} of ${arm} is ${shown(ours[at])}, of ${against} ${shown(theirs[at])} — arms are compared prompt by prompt. Give both the same report.prompts`,
    );
  }
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
