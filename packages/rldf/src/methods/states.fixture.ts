/** States of trainings in tests: copied, and as words, in which two that are equal bit for bit agree. */
import { type StateTree, Tensor } from '@rldf/torch';

/** A state with each tensor replaced. */
function mapped(tree: StateTree, replace: (tensor: Tensor) => unknown): unknown {
  if (tree instanceof Tensor) return replace(tree);
  if (Array.isArray(tree)) return tree.map((child: StateTree) => mapped(child, replace));
  if (tree === null || typeof tree !== 'object') return tree;
  return Object.fromEntries(Object.entries(tree).map(([name, child]) => [name, mapped(child, replace)]));
}

export const copied = (tree: StateTree) => mapped(tree, (tensor) => tensor.detach().clone()) as StateTree;

/** All that must agree, in words. */
export const words = (tree: StateTree) => JSON.stringify(mapped(tree, (tensor) => tensor.toNumbers()));
