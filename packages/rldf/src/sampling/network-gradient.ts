import {
  atOnce,
  BlockTape,
  type LoraAdapter,
  LoraTape,
  type Pipeline,
  type UNet2DConditionModel,
} from '@rldf/models';
import {
  free,
  type GradOptions,
  gradOrUndefined,
  isHalf,
  keep,
  noGrad,
  scope,
  type Tensor,
} from '@rldf/torch';

/** How the gradient of what learns in a network is taken. Some ways, equal up to rounding. */
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
 * shown (`LoraTape`), which saves the branches' operators in both directions. Block by block, if the pipeline is told to checkpoint.
 */
export function networkGradient(
  parameters: readonly Tensor[],
  merged?: LoraAdapter,
  pipeline?: Pick<Pipeline, 'unet' | 'checkpointing'>,
): NetworkGradient {
  const whole = () => (merged === undefined ? throughGraph(parameters) : new LoraTape(merged));
  if (pipeline === undefined || !(pipeline.checkpointing || isHalf(pipeline.unet.dtype))) return whole();
  return new CutGradient(whole, pipeline.unet, pipeline.checkpointing ?? false);
}

const throughGraph = (parameters: readonly Tensor[]): NetworkGradient => ({
  record: (fn) => fn(),
  grad(outputs, inputs, options) {
    const all = gradOrUndefined(outputs, [...parameters, ...inputs], options);
    return { parameters: all.slice(0, parameters.length), inputs: all.slice(parameters.length) };
  },
  clear() {},
  free() {},
});

/**
 * The gradient through a network that is cut at its output (`BlockTape`), and at every block to checkpoint. At the cut the gradient
 * that arrives is known, in float32: for a network in float16 it is brought to a maximum of 1 by a power of two, which is taken out
 * again afterwards, or most of it would be below float16's smallest number (Micikevicius et al. 2018, "Mixed precision training").
 */
class CutGradient implements NetworkGradient {
  readonly #unet: UNet2DConditionModel;
  readonly #tape: BlockTape;
  /** Of what lies outside of blocks, and of a block that runs again. */
  readonly #outside: NetworkGradient;
  readonly #again: NetworkGradient;

  constructor(whole: () => NetworkGradient, unet: UNet2DConditionModel, checkpoints: boolean) {
    this.#unet = unet;
    this.#tape = new BlockTape({ checkpoints });
    this.#outside = whole();
    this.#again = whole();
  }

  record<T>(fn: () => T): T {
    this.#unet.blocks = this.#tape;
    try {
      return this.#outside.record(fn);
    } finally {
      this.#unet.blocks = atOnce;
    }
  }

  grad(
    outputs: Tensor | readonly Tensor[],
    inputs: readonly Tensor[],
    options: GradOptions = {},
  ): ReturnType<NetworkGradient['grad']> {
    return scope(() => {
      const { results } = this.#tape;
      let sums: (Tensor | undefined)[] = [];
      const takenBy = (network: NetworkGradient) => {
        return (outputs: readonly Tensor[], inputs: readonly Tensor[], gradients: readonly Tensor[]) => {
          const gradOutputs = noGrad(() => gradients.map((gradient, i) => gradient.to(outputs[i]!.dtype)));
          const found = network.grad(outputs, inputs, { gradOutputs });
          sums = noGrad(() => found.parameters.map((gradient, i) => added(sums[i], gradient)));
          return found.inputs;
        };
      };
      try {
        const outside = takenBy(this.#outside);
        if (results.length === 0) {
          const { gradOutputs } = options;
          if (gradOutputs === undefined) return this.#outside.grad(outputs, inputs, options);
          const scale = this.#scaleOf(gradOutputs);
          const found = outside([outputs].flat(), inputs, times(gradOutputs, scale) as Tensor[]);
          return { parameters: handedOver(sums, 1 / scale), inputs: times(found, 1 / scale) };
        }
        const arriving = gradOrUndefined(outputs, [...results, ...inputs], { ...options, retainGraph: true });
        const ofResults = arriving.slice(0, results.length);
        const scale = this.#scaleOf(ofResults);
        const again = takenBy(this.#again);
        const through = this.#tape.backward(times(ofResults, scale), inputs, {
          outside,
          record: (fn) => this.#again.record(fn),
          again: (...given) => {
            const found = again(...given);
            this.#again.clear();
            return found;
          },
        });
        const direct = arriving.slice(results.length);
        return noGrad(() => ({
          parameters: handedOver(sums, 1 / scale),
          inputs: times(through, 1 / scale).map((gradient, i) => sum(direct[i], gradient)),
        }));
      } catch (error) {
        free(sums);
        throw error;
      }
    });
  }

  clear(): void {
    this.#tape.clear();
    this.#outside.clear();
  }

  free(): void {
    this.clear();
    this.#outside.free();
    this.#again.free();
  }

  /** The power of two that brings the largest number to 1 at most, and above a half. 1 where float16 is not computed in. */
  #scaleOf(gradients: readonly (Tensor | undefined)[]): number {
    if (this.#unet.dtype !== 'float16') return 1;
    const largest = noGrad(() =>
      scope(() => Math.max(0, ...gradients.flatMap((gradient) => gradient?.abs().amax().item() ?? []))),
    );
    return largest > 0 && Number.isFinite(largest) ? 2 ** -Math.ceil(Math.log2(largest)) : 1;
  }
}

const sum = (a: Tensor | undefined, b: Tensor | undefined) =>
  a !== undefined && b !== undefined ? a.add(b) : (a ?? b);

/** A sum that outlives scopes. */
function added(known: Tensor | undefined, gradient: Tensor | undefined): Tensor | undefined {
  if (gradient === undefined) return known;
  const together = keep(known === undefined ? gradient : known.add(gradient));
  known?.free();
  return together;
}

/** Products of sums that outlived scopes, which these do no more. */
function handedOver(sums: readonly (Tensor | undefined)[], factor: number): (Tensor | undefined)[] {
  const products = times(sums, factor).map((product) => product?.detach());
  free(sums);
  return products;
}

/** Products in float32 where they are of half precision. */
const times = (gradients: readonly (Tensor | undefined)[], factor: number) =>
  noGrad(() =>
    gradients.map((gradient) => {
      const wide = gradient && isHalf(gradient.dtype) ? gradient.to('float32') : gradient;
      return factor === 1 ? wide : wide?.mul(factor);
    }),
  );
