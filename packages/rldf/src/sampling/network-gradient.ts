import { type LoraAdapter, LoraTape } from '@rldf/models';
import { type GradOptions, gradOrUndefined, type Tensor } from '@rldf/torch';

/** How the gradient of what learns in a network is taken. Two ways, equal up to rounding. */
export interface NetworkGradient {
  /** Runs a part of the network whose gradient will be asked for. */
  record<T>(fn: () => T): T;
  /** By all that learns in the network, and by further tensors; `undefined` where the outputs do not depend on it. */
  grad(
    outputs: Tensor | readonly Tensor[],
    inputs: readonly Tensor[],
    options?: GradOptions,
  ): { parameters: (Tensor | undefined)[]; inputs: (Tensor | undefined)[] };
  /** Forgets what was recorded. */
  clear(): void;
  free(): void;
}

/**
 * Through the graph of the parameters; or, for an adapter that is merged into the weights, from what its layers were
 * shown (`LoraTape`), which saves the branches' operators in both directions.
 */
export function networkGradient(parameters: readonly Tensor[], merged?: LoraAdapter): NetworkGradient {
  if (merged !== undefined) return new LoraTape(merged);
  return {
    record: (fn) => fn(),
    grad(outputs, inputs, options) {
      const all = gradOrUndefined(outputs, [...parameters, ...inputs], options);
      return { parameters: all.slice(0, parameters.length), inputs: all.slice(parameters.length) };
    },
    clear() {},
    free() {},
  };
}
