/** How exploration and step size change while an agent learns. Written as text, so that a command line can name them. */

import { UserError } from '@rldf/torch/errors';

/**
 * ε of the ε-greedy policy at a step (counted from 0), in [0, 1]: `0.1` stays, `1/n` is 1/(1 + step), `0.5-0.01/1000` falls
 * in a straight line over 1,000 steps and stays at its end.
 */
export type Exploration = (step: number) => number;

/**
 * Step size α of the n-th update of one state and action (counted from 1): `0.5` stays; `1/n^0.7` meets the conditions of
 * Robbins and Monro (Σ α = ∞, Σ α² < ∞) for exponents in (0.5, 1], under which Q-learning converges (paper, section 3).
 */
export type StepSize = (visits: number) => number;

/** @throws UserError for what is no schedule */
export function exploration(text: string): Exploration {
  const bad = () =>
    new UserError(
      `--epsilon ${text}: no schedule — a number from 0 to 1, such as 0.1; 1/n; or 0.5-0.01/1000 (from, to, steps)`,
    );
  if (text.trim() === '1/n') return (step) => 1 / (1 + step);
  const line = /^\s*([\d.]+)\s*-\s*([\d.]+)\s*\/\s*(\d+)\s*$/.exec(text);
  const [from, to, steps] = line === null ? [Number(text), Number(text), 1] : line.slice(1).map(Number);
  if (text.trim() === '' || ![from, to].every((end) => end! >= 0 && end! <= 1) || !(steps! >= 1)) throw bad();
  return (step) => from! + (to! - from!) * Math.min(1, step / steps!);
}

/** @throws UserError for what is no schedule */
export function stepSize(text: string): StepSize {
  const power = /^\s*1\s*\/\s*n(?:\s*\^\s*([\d.]+))?\s*$/.exec(text);
  if (power !== null) {
    const exponent = Number(power[1] ?? 1);
    if (exponent > 0.5 && exponent <= 1) return (visits) => visits ** -exponent;
    throw new UserError(
      `--alpha ${text}: the exponent is ${exponent} — above 0.5 and at most 1, or the steps sum up to too little or too much (Robbins and Monro)`,
    );
  }
  const size = Number(text);
  if (text.trim() !== '' && size > 0 && size <= 1) return () => size;
  throw new UserError(
    `--alpha ${text}: no step size — a number above 0 and at most 1, such as 0.5, or 1/n^0.7`,
  );
}
