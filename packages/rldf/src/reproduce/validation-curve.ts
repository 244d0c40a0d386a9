/** The validation curve of an arm, read between its points. */

import { mean } from '@rldf/common/base/stats';
import type { ArmResult } from './arm-result.js';

/** Training pictures, and the gain of the validation reward over the untrained model. */
export type Point = readonly [pictures: number, gain: number];

/** From [0, 0] on, in the order of training; empty where the untrained model was not evaluated. */
export function validationGains({ curve }: ArmResult): Point[] {
  const points = curve.flatMap(({ pictures, validation }) =>
    validation === null ? [] : [[pictures, validation] as const],
  );
  const [first] = points;
  return first?.[0] === 0 ? points.map(([pictures, value]) => [pictures, value - first[1]]) : [];
}

/** The gain after so many pictures: straight lines between the points; the last value after them. */
export function gainAfter(points: readonly Point[], pictures: number): number {
  const next = points.findIndex(([x]) => x >= pictures);
  if (next <= 0) return (points.at(next) as Point)[1];
  const [x0, y0] = points[next - 1] as Point;
  const [x1, y1] = points[next] as Point;
  return y0 + ((pictures - x0) / (x1 - x0)) * (y1 - y0);
}

/** The first number of pictures, on the straight lines, after which the gain is at least `gain`; undefined if it never is. */
export function firstReaching(points: readonly Point[], gain: number): number | undefined {
  const next = points.findIndex(([pictures, y]) => pictures > 0 && y >= gain);
  if (next < 1) return undefined;
  const [x0, y0] = points[next - 1] as Point;
  const [x1, y1] = points[next] as Point;
  return y0 >= gain ? x1 : x0 + ((gain - y0) / (y1 - y0)) * (x1 - x0);
}

/** The validation reward of an arm, mean over its seeds. */
export interface ValidationSummary {
  before: number;
  last: number;
  /** The highest of each seed's evaluations, that of the untrained model among them. */
  best: number;
  /** Training pictures of the best, mean over seeds. */
  bestPictures: number;
}

/** @returns undefined where a seed has fewer than two evaluations */
export function validationSummary(armResults: readonly ArmResult[]): ValidationSummary | undefined {
  const curves = armResults.map(({ curve }) =>
    curve.flatMap(({ pictures, validation }) => (validation === null ? [] : [{ pictures, validation }])),
  );
  if (curves.some((curve) => curve.length < 2)) return undefined;
  const bests = curves.map((curve) => curve.reduce((a, b) => (b.validation > a.validation ? b : a)));
  return {
    before: mean(curves.map((curve) => curve[0]!.validation)),
    last: mean(curves.map((curve) => curve.at(-1)!.validation)),
    best: mean(bests.map(({ validation }) => validation)),
    bestPictures: mean(bests.map(({ pictures }) => pictures)),
  };
}
