// How every trainee is trained, and followed while it is.
import { join } from 'node:path';
import { keep, noGrad, type StateDict, scope, type Tensor, tensor } from '@rldf/torch';
import { type FitEvent, type FitOptions, fitTrainee, loadCheckpoint, type Trainee } from 'rldf/training';
import type { Context } from '../checks.js';
import { AVERAGE, type Ours, UPDATES } from './comparison.js';

export const SEED = 5;

/** Everything that a fault could hide behind is away from its default. */
const fitting = {
  learningRate: 1e-4,
  warmup: 4,
  decay: 0.7,
  betas: [0.8, 0.95] as const,
  weightDecay: 0.5,
  maxGradNorm: 0.1,
  emaDecay: 0.7,
};
export type Fitting = Omit<typeof fitting, 'betas'> & { precision?: 'bfloat16' };

const optionsFor = (given: Partial<Fitting>) => ({ ...fitting, ...given });
/** The same in the other side's words; our schedule ends at this share of the rate. */
export const theirOptions = (given: Partial<Fitting>) => ({
  ...optionsFor(given),
  steps: UPDATES,
  floor: 0.02,
});

export function ourOptions(context: Context, name: string, given: Partial<Fitting>): FitOptions {
  const folder = join(context.folder, `run-${name.replaceAll(/\W+/g, '-')}`);
  return { ...optionsFor(given), folder, steps: UPDATES, eventSeconds: 0 };
}

/**
 * Runs a training of ours to its end: losses and norms from its events, weights from its last checkpoint.
 * @param named what learns, in order; undefined for what a training makes and drops itself
 */
export async function followed(
  { folder }: FitOptions,
  named: readonly (readonly [string, Tensor | undefined])[],
  events: AsyncIterable<FitEvent>,
): Promise<Ours> {
  const losses: number[] = [];
  const norms: number[] = [];
  for await (const { loss, gradNorm } of events) {
    losses.push(loss);
    norms.push(gradNorm);
  }
  const { state } = loadCheckpoint(join(folder, 'checkpoints'));
  const { parameters, average } = state as { parameters: Tensor[]; average: { averaged: Tensor[] } };
  const weights: StateDict = new Map();
  for (const [i, [name, averaged = average.averaged[i] as Tensor]] of named.entries()) {
    weights.set(name, parameters[i] as Tensor);
    weights.set(`${AVERAGE}${name}`, averaged); // a training leaves the averages in place
  }
  return { losses, norms, weights };
}

export function trainee(context: Context, name: string, given: Partial<Fitting>, named: readonly (readonly [string, Tensor])[], loss: Trainee['loss']) {
  const options = ourOptions(context, name, given);
  const parameters = named.map(([, parameter]) => parameter.requiresGrad_());
  return followed(options, named, fitTrainee({ parameters, loss: (step) => scope(() => loss(step)) }, options));
} // biome-ignore format: its arguments are a table

export const copies = (entries: Iterable<readonly [string, Tensor]>, prefix = ''): StateDict =>
  noGrad(() => new Map([...entries].map(([name, one]) => [`${prefix}${name}`, keep(one.detach().clone())])));

/** Data of every update, named `update.part`. */
export function eachUpdate(data: StateDict, of: (step: number) => Record<string, Tensor>): void {
  for (let step = 0; step < UPDATES; step++) {
    const parts = noGrad(() => scope(() => Object.fromEntries(Object.entries(of(step)).map(([k, v]) => [k, keep(v.contiguous())])))); // biome-ignore format: one thought
    for (const [name, part] of Object.entries(parts)) data.set(`${step}.${name}`, part);
  }
}
export const part = (data: StateDict, step: number, name: string) => data.get(`${step}.${name}`) as Tensor;
export const integers = (values: readonly number[]) => tensor([...values], { dtype: 'int64' });

/** Every product is rounded to 8 bits, 2e-3, and attention is two products here and one kernel there: what is measured, doubled. */
export const inHalf = { losses: 1e-2, norms: 5e-2, weights: 0.1, way: 0.1 };
