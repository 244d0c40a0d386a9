import { enableGrad, free, keep, noGrad, scope, Tensor } from '@rldf/torch';
import type { BlockRunner } from './block-runner.js';

/** What a block read and made. */
interface Entry {
  block: () => Tensor;
  reads: readonly Tensor[];
  /** Cut from every graph; it gathers a gradient. */
  made: Tensor;
  /** The same with its graph, where the block is not to run again. */
  whole?: Tensor;
}

/** Takes the gradient of a scalar product: of `output` with `gradient`, by what learns (which it adds up itself) and by `inputs`. */
export type TakeGradient = (
  outputs: readonly Tensor[],
  inputs: readonly Tensor[],
  gradients: readonly Tensor[],
) => readonly (Tensor | undefined)[];

/**
 * A network's passes, cut at its output and, to checkpoint (Chen et al. 2016, "Training deep nets with sublinear memory cost"), at
 * every block: then only what goes from block to block is kept, and in the backward pass each block runs once more, its graph is
 * followed and given back. As many gradients as without; one forward pass more, and the memory of one block.
 */
export class BlockTape implements BlockRunner {
  readonly #again: boolean;
  #entries: Entry[] = [];
  /** What came from outside, and the same cut from its graph. */
  #outer: { given: Tensor; cut: Tensor }[] = [];
  /** What a pass ended in. */
  #results: Tensor[] = [];

  /** @param checkpoints whether blocks run again, or keep their graphs and only the output is cut */
  constructor({ checkpoints }: { checkpoints: boolean }) {
    this.#again = checkpoints;
  }

  outer<Tree>(tree: Tree): Tree {
    return this.#again ? (this.#cut(tree) as Tree) : tree;
  }

  run(block: () => Tensor, reads: readonly Tensor[]): Tensor {
    if (!this.#again) return block();
    const made = noGrad(() => keep(scope(block).detach())).requiresGrad_();
    this.#entries.push({ block, reads, made });
    return made;
  }

  last(block: () => Tensor, reads: readonly Tensor[]): Tensor {
    if (this.#again) {
      const made = this.run(block, reads);
      this.#results.push(made);
      return made;
    }
    const whole = block();
    if (!whole.requiresGrad) return whole;
    const made = keep(whole.detach()).requiresGrad_();
    this.#entries.push({ block, reads, made, whole: keep(whole) });
    this.#results.push(made);
    return made;
  }

  /** What the passes ended in: the gradient of a loss by these goes into `backward`. */
  get results(): readonly Tensor[] {
    return this.#results;
  }

  /**
   * Follows gradients of the results back to what learns and to `inputs`. Once: graphs are given back.
   * @param arriving one a result
   * @param takes how a gradient is taken, of a block that runs again and of what was there. Call it within a scope
   * @returns one an input
   */
  backward(
    arriving: readonly (Tensor | undefined)[],
    inputs: readonly Tensor[],
    takes: { again: TakeGradient; record<T>(fn: () => T): T; outside: TakeGradient },
  ): (Tensor | undefined)[] {
    const sums = new Map<Tensor, Tensor>();
    const ofInputs = inputs.map((): Tensor | undefined => undefined);
    const add = (tensor: Tensor, gradient: Tensor | undefined) => {
      if (gradient === undefined) return;
      const known = sums.get(tensor);
      sums.set(tensor, keep(known === undefined ? gradient : noGrad(() => known.add(gradient))));
      if (known !== undefined) free([known, gradient]);
    };
    const addInput = (found: readonly (Tensor | undefined)[]) => {
      for (const [i, gradient] of found.entries()) {
        const known = ofInputs[i];
        if (gradient !== undefined)
          ofInputs[i] = known === undefined ? gradient : noGrad(() => known.add(gradient));
      }
    };
    try {
      for (const [i, result] of this.#results.entries()) {
        const given = arriving[i];
        if (given !== undefined) add(result, given.detach());
      }
      const outer = this.#outer.map(({ cut }) => cut).filter((cut) => cut.requiresGrad);
      for (const { block, reads, made, whole } of [...this.#entries].reverse()) {
        const gradient = sums.get(made);
        if (gradient === undefined) continue;
        if (whole !== undefined) {
          addInput(scope(() => takes.outside([whole], inputs, [gradient])));
        } else {
          const read = [...new Set([...reads.filter((tensor) => tensor.requiresGrad), ...outer])];
          const found = scope(() => {
            const output = enableGrad(() => takes.record(block));
            return output.requiresGrad ? takes.again([output], read, [gradient]) : [];
          });
          for (const [i, tensor] of read.entries()) add(tensor, found[i]);
        }
        sums.delete(made);
        gradient.free();
      }
      const reached = this.#outer.flatMap(({ given, cut }) => {
        const gradient = sums.get(cut);
        return gradient === undefined ? [] : [{ given, gradient }];
      });
      if (reached.length > 0) {
        const outputs = reached.map(({ given }) => given);
        const gradients = reached.map(({ gradient }) => gradient);
        addInput(scope(() => takes.outside(outputs, inputs, gradients)));
      }
      return ofInputs;
    } finally {
      free([...sums.values()]);
    }
  }

  /** Forgets all passes. */
  clear(): void {
    free(this.#entries.map(({ made, whole }) => [made, whole]));
    free(this.#outer.map(({ given, cut }) => [given, cut]));
    this.#entries = [];
    this.#outer = [];
    this.#results = [];
  }

  #cut(tree: unknown): unknown {
    if (tree instanceof Tensor) {
      const cut = keep(tree.detach());
      if (tree.requiresGrad) cut.requiresGrad_();
      this.#outer.push({ given: tree.requiresGrad ? keep(tree.to(tree.dtype)) : cut, cut }); // a handle of its own
      return cut;
    }
    if (Array.isArray(tree)) return tree.map((part) => this.#cut(part));
    if (tree instanceof Map) return new Map([...tree].map(([key, part]) => [key, this.#cut(part)]));
    if (tree === null || typeof tree !== 'object') return tree;
    return Object.fromEntries(Object.entries(tree).map(([key, part]) => [key, this.#cut(part)]));
  }
}
