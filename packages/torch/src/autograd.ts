import { dtypeNumber } from './dtype.js';
import { type Handle, native } from './native.js';
import { Tensor, wrap } from './tensor.js';

const op = {
  grad: native.resolve('rldf::grad', ''),
  gradEnabled: native.resolve('rldf::grad_enabled', ''),
  setGradEnabled: native.resolve('rldf::set_grad_enabled', ''),
  autocast: native.resolve('rldf::autocast', ''),
};

/** Whether operations are recorded for differentiation. */
export const gradEnabled = (): boolean => native.call(op.gradEnabled);

/** Runs `fn` without recording operations for differentiation. */
export function noGrad<T>(fn: () => T): T {
  return withGradMode(false, fn);
}

/** Runs `fn` with recording on, also inside {@link noGrad}: checkpointing recomputes a step so. */
export function enableGrad<T>(fn: () => T): T {
  return withGradMode(true, fn);
}

function withGradMode<T>(on: boolean, fn: () => T): T {
  const before = native.call(op.gradEnabled);
  native.call(op.setGradEnabled, on);
  try {
    return fn();
  } finally {
    native.call(op.setGradEnabled, before);
  }
}

let autocasting = false;

/**
 * Runs `fn` with matrix products, convolutions and attention in a narrower type on this device; parameters, sums and
 * normalisation stay as they are. Nested calls keep the outer type.
 */
export function autocast<T>(
  dtype: 'bfloat16' | 'float16' | 'float32',
  fn: () => T,
  device: 'cpu' | 'cuda' = 'cpu',
): T {
  if (dtype === 'float32' || autocasting) return fn();
  native.call(op.autocast, device, dtypeNumber(dtype));
  autocasting = true;
  try {
    return fn();
  } finally {
    autocasting = false;
    native.call(op.autocast, device, null);
  }
}

export interface GradOptions {
  /** dL/d(output) for each output; ones for scalars when left out. */
  gradOutputs?: readonly Tensor[];
  /** Keep the graph for another call. */
  retainGraph?: boolean;
  /** Record the gradient computation itself (second derivatives). */
  createGraph?: boolean;
}

/**
 * Gradients of the sum of `outputs` with respect to `inputs`, one for each input, same shapes.
 * There is no hidden `.grad`: what is not asked for is not computed, and nothing accumulates.
 *
 * @throws if an input was not used to compute the outputs.
 */
export function grad(
  outputs: Tensor | readonly Tensor[],
  inputs: readonly Tensor[],
  options: GradOptions = {},
): Tensor[] {
  return call(outputs, inputs, options, false).map((handle) => wrap(handle as number));
}

/** Like {@link grad}; an input that the outputs do not depend on yields `undefined`. */
export function gradOrUndefined(
  outputs: Tensor | readonly Tensor[],
  inputs: readonly Tensor[],
  options: GradOptions = {},
): (Tensor | undefined)[] {
  return call(outputs, inputs, options, true).map((handle) =>
    handle === undefined ? undefined : wrap(handle),
  );
}

function call(
  outputs: Tensor | readonly Tensor[],
  inputs: readonly Tensor[],
  options: GradOptions,
  allowUnused: boolean,
): (Handle | undefined)[] {
  const list = outputs instanceof Tensor ? [outputs] : outputs;
  return native.call(
    op.grad,
    list.map((tensor) => tensor.handle),
    inputs.map((tensor) => tensor.handle),
    (options.gradOutputs ?? []).map((tensor) => tensor.handle),
    options.retainGraph ?? false,
    options.createGraph ?? false,
    allowUnused,
  );
}
