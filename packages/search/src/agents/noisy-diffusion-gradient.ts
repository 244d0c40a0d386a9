/**
 * Noisy diffusion gradient (nDg), the RLDF paper's second method: "directly computing the gradients Δf on these encodings"
 * (section 3.1). The paper gives no formula. Our reading: f(v) is the distance between the goal and the encoding recognised
 * in the picture drawn at v, and v <- clip(v - η Δ̂f), drawn at its nearest grid point.
 */

import { noiseKey, Random } from '@rldf/torch';

export interface GradientOptions {
  /** Number of values of each axis. */
  lengths: readonly number[];
  start: readonly number[];
  goal: readonly number[];
  /** f at a grid point. Draws a picture. */
  objective(point: readonly number[]): number | Promise<number>;
  /** `central`: differences along every axis, 2 n pictures a step; `spsa`: along one random diagonal, 2 pictures (Spall 1992). */
  estimator: 'central' | 'spsa';
  /** η, in grid steps a unit of slope. */
  rate: number;
  steps: number;
  seed: number;
  /** Goes on after the goal, to see whether it stays there. */
  continueAfterGoal?: boolean;
}

export interface GradientStep {
  /** From 1. */
  step: number;
  /** Where the step led, before and after rounding to the grid. */
  position: number[];
  point: number[];
  gradient: number[];
  /** Steps from the point to the goal. */
  distance: number;
  /** No slope was seen, or it was too small to leave the grid point: the picture noise hides the way. */
  plateau: boolean;
  reachedGoal: boolean;
}

/** Ends at the goal, or after `steps`. */
export async function* noisyDiffusionGradient(options: GradientOptions): AsyncGenerator<GradientStep, void> {
  const { lengths, goal, objective, estimator, rate, seed } = options;
  const inside = (position: readonly number[]) =>
    position.map((value, axis) => Math.min(lengths[axis]! - 1, Math.max(0, value)));
  const at = (position: readonly number[]) => inside(position).map(Math.round);
  let position = [...options.start];
  for (let step = 1; step <= options.steps; step++) {
    const point = at(position);
    const directions =
      estimator === 'central'
        ? point.map((_, axis) => point.map((__, other) => Number(other === axis)))
        : [diagonal(seed, step, point.length)];
    const gradient = point.map(() => 0);
    for (const direction of directions) {
      const [ahead, behind] = [1, -1].map((sign) =>
        at(point.map((value, axis) => value + sign * direction[axis]!)),
      );
      const difference = (await objective(ahead!)) - (await objective(behind!));
      for (const [axis, along] of direction.entries()) {
        const width = ahead![axis]! - behind![axis]!; // 1 at the border, where one side is the point itself
        if (along !== 0 && width !== 0) gradient[axis]! += difference / width;
      }
    }
    position = inside(position.map((value, axis) => value - rate * gradient[axis]!));
    const reached = at(position);
    const distance = reached.reduce((sum, value, axis) => sum + Math.abs(value - goal[axis]!), 0);
    const plateau = reached.every((value, axis) => value === point[axis]);
    yield {
      step,
      position: [...position],
      point: reached,
      gradient,
      distance,
      plateau,
      reachedGoal: distance === 0,
    };
    if (distance === 0 && options.continueAfterGoal !== true) return;
  }
}

/** Signs, each 1 or -1 with equal chance. */
function diagonal(seed: number, step: number, length: number): number[] {
  const random = new Random(noiseKey(seed, 'search-spsa', step));
  return Array.from({ length }, () => (random.uniform() < 0.5 ? -1 : 1));
}
