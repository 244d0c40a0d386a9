/**
 * Sample efficiency as DiffExp means it (figures 4 and 6): how many training pictures an arm draws until its validation
 * reward has risen as far as another arm's does in its whole training.
 */

import { mean, seedInterval } from '@rldf/common/base/stats';
import { noiseKey, Random } from '@rldf/torch';
import type { ArmResult } from './arm-result.js';
import { firstReaching, validationGains } from './validation-curve.js';

export interface PicturesToReach {
  /** Gain of the validation reward that is to be reached: the other arm's last one, the mean over its seeds. */
  target: number;
  /**
   * Pictures of the arm divided by those of the other one with the same seed, geometric mean over seeds. A training that
   * never comes so far counts with all its pictures, in both arms alike, so that of two equal arms neither is favoured.
   */
  ratio: number;
  /** Over seeds; null for one seed. */
  ci95: [lo: number, hi: number] | null;
  seeds: number;
  /** Seeds whose training reached the target: of the arm, and of the other one. */
  reached: [arm: number, against: number];
}

/** @returns undefined where the arms have no common seed with validation curves */
export function picturesToReach(
  arm: readonly ArmResult[],
  against: readonly ArmResult[],
): PicturesToReach | undefined {
  const pairs = arm.flatMap((ours) => {
    const other = against.find(({ seed }) => seed === ours.seed);
    if (other === undefined) return [];
    const curves = [ours, other].map(validationGains);
    return curves.every((curve) => curve.length > 1) ? [curves] : [];
  });
  if (pairs.length === 0) return undefined;
  const target = mean(pairs.map(([, other]) => other!.at(-1)![1]));
  const each = pairs.map((curves) =>
    curves.map((curve) => {
      const pictures = firstReaching(curve, target);
      return { pictures: pictures ?? curve.at(-1)![0], reached: pictures !== undefined };
    }),
  );
  const logs = each.map(([ours, other]) => Math.log(ours!.pictures / other!.pictures));
  const ci95 =
    logs.length < 2
      ? null
      : seedInterval(logs, { random: new Random(noiseKey(0, 'pictures to reach')) }).interval;
  const reached = ([0, 1] as const).map((i) => each.filter((pair) => pair[i]!.reached).length);
  return {
    target,
    ratio: Math.exp(mean(logs)),
    ci95: ci95 && [Math.exp(ci95[0]), Math.exp(ci95[1])],
    seeds: logs.length,
    reached: [reached[0]!, reached[1]!],
  };
}
