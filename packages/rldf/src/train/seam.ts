/** What changes where a run is resumed with more epochs. */

import { methodOf } from '../methods/index.js';
import { scheduleOf } from '../methods/learner.js';
import type { Recipe } from '../recipe/recipe.js';

/**
 * A schedule spans the whole run: with another length, the learning rate jumps where the run goes on.
 * @param step behind which it goes on
 * @returns words for it, if the rate differs there
 */
export function describeSeam(before: Recipe, now: Recipe, step: number): string | undefined {
  const [was, is] = [rateBehind(before, step), rateBehind(now, step)];
  if (Math.abs(was - is) <= 1e-3 * Math.max(was, is)) return undefined;
  const short = (rate: number) => String(Number(rate.toPrecision(3)));
  return `the schedule (${now.train.schedule}) now spans ${now.epochs} epochs instead of ${before.epochs}: the learning rate goes on at ${short(is)}, where the shorter run had come to ${short(was)}. For a rate that does not jump, train with \`schedule: constant\`, or with all epochs from the start`;
}

/** The learning rate of the first update behind a step. */
function rateBehind(recipe: Recipe, step: number): number {
  const { updates, steps = recipe.epochs } = methodOf(recipe).plan.arithmetic(recipe);
  const next = Math.round((step * updates) / steps);
  return recipe.train.learningRate * scheduleOf(recipe.train, updates)(next);
}
