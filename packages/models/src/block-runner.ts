import type { Tensor } from '@rldf/torch';

/**
 * How a network's blocks run: at once, or so that a gradient can be taken block by block (`BlockTape`). A block is a function of
 * what it reads.
 */
export interface BlockRunner {
  /** What blocks read from outside of all blocks, in a tree of objects, arrays and maps. Use what is returned. */
  outer<Tree>(tree: Tree): Tree;
  /**
   * Runs a block.
   * @param reads what other blocks made of what it reads
   */
  run(block: () => Tensor, reads: readonly Tensor[]): Tensor;
  /** The same of the last block. */
  last(block: () => Tensor, reads: readonly Tensor[]): Tensor;
}

/** At once, in one graph. */
export const atOnce: BlockRunner = {
  outer: (tree) => tree,
  run: (block) => block(),
  last: (block) => block(),
};
