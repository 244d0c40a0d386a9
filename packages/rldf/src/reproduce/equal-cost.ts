/**
 * Arms compared at equal cost: how far each had come when it had spent what the cheapest arm spends in its whole training,
 * read off the validation curves. Equal pictures are not equal cost: a reward's gradient takes backward passes per picture.
 */

import { mean, tInterval } from '@rldf/common/base/stats';
import type { ArmResult } from './arm-result.js';
import type { Estimate } from './table.js';
import { gainAfter, validationGains } from './validation-curve.js';

/** What a training spends, and how it is called. */
export const currencies = { unetForwards: 'U-Net forwards', cpuSeconds: 'CPU seconds' } as const;
export type Currency = keyof typeof currencies;

export interface EqualCost {
  /** What every arm may spend: the whole training of the cheapest one, on average over its seeds. */
  budget: number;
  /** Gain of the validation reward over the untrained model at that point; of arms with a validation curve. */
  gains: Record<string, Estimate>;
}

/** @returns undefined where fewer than two arms have validation curves */
export function equalCost(
  arms: readonly string[],
  armResults: readonly ArmResult[],
  currency: Currency,
): EqualCost | undefined {
  const spent = (of: readonly ArmResult[]) => mean(of.map(({ cost }) => cost[currency]));
  const measured = arms.flatMap((arm) => {
    const here = armResults.filter(
      (armResult) => armResult.arm === arm && validationGains(armResult).length > 1,
    );
    return here.length === 0 ? [] : [{ arm, here }];
  });
  if (measured.length < 2) return undefined;
  const budget = Math.min(...measured.map(({ here }) => spent(here)));
  const gains = measured.map(({ arm, here }) => {
    const share = budget / spent(here);
    const each = here.map((armResult) =>
      gainAfter(validationGains(armResult), share * armResult.cost.pictures),
    );
    const ci95 = each.length > 1 ? tInterval(each).interval : null;
    return [arm, { mean: mean(each), ci95, seeds: each.length }] as const;
  });
  return { budget, gains: Object.fromEntries(gains) };
}
