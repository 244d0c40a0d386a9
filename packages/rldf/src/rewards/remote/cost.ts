/** What a vision judge will be asked, told before. */

import type { SingleReward } from '../../config/fields.js';
import type { VisionRewardField } from '../../config/remote-fields.js';
import { loadJudgeTemplate } from './judge-template.js';

/** Calls behind the score of one picture. */
export function callsEach(template: ReturnType<typeof loadJudgeTemplate>): number {
  return template.ask === 'pair' ? 2 * template.opponents : 1; // each pair in both orders, told to both
}

/** @param pictures that are scored at most */
export function callsOf(reward: SingleReward, pictures: number): string[] {
  if (typeof reward !== 'object' || !('vision' in reward)) return [];
  const calls = pictures * callsEach(loadJudgeTemplate(reward.vision));
  return [costOf(reward, calls, `${pictures} pictures`)];
}

/** @param pairs of two models' pictures, each asked about in both orders */
export function callsOfPairs(reward: SingleReward, pairs: number): string[] {
  if (typeof reward !== 'object' || !('vision' in reward)) return [];
  return [costOf(reward, 2 * pairs, `${pairs} pairs in both orders`)];
}

function costOf(
  { vision, model, endpoint, budget, price }: VisionRewardField,
  calls: number,
  of: string,
): string {
  const money =
    price === undefined ? '' : `, about ${Number((calls * price).toPrecision(3))} in all at ${price} a call`;
  const ends =
    calls <= budget
      ? ''
      : `; the budget of ${budget} ends the work before — raise it to ${calls}, or score fewer pictures`;
  return `${vision}: at most ${calls} calls of ${model} at ${new URL(endpoint).host} for ${of}${money}${ends}`;
}
