/**
 * Arms compared at equal cost: how far each had come when it had spent what the cheapest arm spends in its whole training,
 * read off the validation curves. Equal pictures are not equal cost: a reward's gradient takes backward passes per picture.
 */

import { mean, tInterval } from '@rldf/common/base/stats';
import type { ArmResult } from './arm-result.js';
import type { Estimate } from './table.js';

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
      interpolate(validationGains(armResult), share * armResult.cost.pictures),
    );
    const ci95 = each.length > 1 ? tInterval(each).interval : null;
    return [arm, { mean: mean(each), ci95, seeds: each.length }] as const;
  });
  return { budget, gains: Object.fromEntries(gains) };
}

type Point = readonly [pictures: number, gain: number];

/** From [0, 0] on, in the order of training. */
function validationGains({ curve }: ArmResult): Point[] {
  const points = curve.flatMap(({ pictures, validation }) =>
    validation === null ? [] : [[pictures, validation] as const],
  );
  const [first] = points;
  return first?.[0] === 0 ? points.map(([pictures, value]) => [pictures, value - first[1]]) : [];
}

/** Straight lines between the points; the last value after them. */
function interpolate(points: readonly Point[], pictures: number): number {
  const next = points.findIndex(([x]) => x >= pictures);
  if (next <= 0) return (points.at(next) as Point)[1];
  const [x0, y0] = points[next - 1] as Point;
  const [x1, y1] = points[next] as Point;
  return y0 + ((pictures - x0) / (x1 - x0)) * (y1 - y0);
}
