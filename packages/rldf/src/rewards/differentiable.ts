/** Which rewards have a gradient that a method can follow, told from a recipe alone where that is possible. */

import type { ArithmeticProblem } from '../config/batch-arithmetic.js';
import type { RewardField, SingleReward } from '../config/fields.js';
import { cards, type RewardCard } from './cards.js';
import { publishedCards } from './published-cards.js';

/** Names of the built-in rewards that are differentiable. */
export const differentiableRewards: readonly string[] = Object.entries<RewardCard>(cards).flatMap(
  ([name, { differentiable }]) => (differentiable ? [name] : []),
);

/** Of a reward without a gradient, or a part of one. Whether a module has one shows when it is loaded. */
export function gradientProblems(method: string, field: RewardField): ArithmeticProblem[] {
  const parts = Array.isArray(field)
    ? field.map((part, i) => ({ single: part.reward, path: ['reward', i, 'reward'] }))
    : [{ single: field, path: ['reward'] }];
  return parts.flatMap(({ single, path }) => {
    const name = nameWithoutGradient(single);
    const unknown = typeof single === 'string' && !Object.hasOwn(cards, single);
    if (name === undefined || unknown || differentiableRewards.includes(name)) return [];
    if (Object.hasOwn(publishedCards, name)) return []; // all of them have one
    return [{ path, message: gradientMissing(method, name) }];
  });
}

/** What to call a reward that may have no gradient; undefined of a module, which shows when it is loaded. */
function nameWithoutGradient(single: SingleReward): string | undefined {
  if (typeof single === 'string') return single;
  if ('name' in single) return single.name;
  if ('score' in single) return single.score;
  if ('text' in single) return 'text';
  if ('ratings' in single) return 'people’s ratings';
  if ('http' in single) return `what ${single.http} answers`;
  return 'vision' in single ? `what ${single.model} says` : undefined;
}

/** @param reward its name, or what else to call it */
export function gradientMissing(method: string, reward: string): string {
  return `${method} follows the reward’s gradient, and ${reward} has none — set reward to one of ${differentiableRewards.join(', ')}, to a module that also exports \`differentiable(images01, prompts)\`, or method to one that needs no gradient, such as ddpo`;
}
