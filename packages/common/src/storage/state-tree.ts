/** Saving and loading a state tree (tensors and JSON) as one safetensors and one JSON file, whatever its shape. */

import { join } from 'node:path';
import { readSafetensors, type StateTree, Tensor, writeSafetensors } from '@rldf/torch';
import { InternalError, UserError } from '@rldf/torch/errors';
import { fileOperation, readTextIfThere, writeFileDurably } from '../base/files.js';

export const tensorFile = 'state.safetensors';
export const treeFile = 'state.json';

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** Calls `visit` for every leaf with its path (`optimizer/moments/0`), in the tree's order. */
export function visitLeaves(
  tree: StateTree,
  visit: (path: string, leaf: Tensor | string | number | boolean | null) => void,
  path = '',
): void {
  if (tree === null || typeof tree !== 'object' || tree instanceof Tensor) {
    visit(path, tree);
    return;
  }
  const entries = Array.isArray(tree) ? tree.entries() : Object.entries(tree);
  for (const [key, child] of entries) visitLeaves(child, visit, below(path, key));
}

/** Every tensor of the tree by its path. */
export function tensorsOf(tree: StateTree): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  visitLeaves(tree, (path, leaf) => {
    if (leaf instanceof Tensor) tensors.set(path, leaf);
  });
  return tensors;
}

/** Path of the first leaf with a NaN or an infinity in it, if there is one. */
export function firstNonFinite(tree: StateTree): string | undefined {
  let found: string | undefined;
  visitLeaves(tree, (path, leaf) => {
    if (found !== undefined) return;
    if (typeof leaf === 'number' && !Number.isFinite(leaf)) found = `${path} (${leaf})`;
    if (leaf instanceof Tensor && hasNonFinite(leaf)) found = `${path} [${leaf.shape.join(', ')}]`;
  });
  return found;
}

/** Writes `state.safetensors` and `state.json` into an existing folder. */
export function writeStateTree(folder: string, tree: StateTree): void {
  const tensors = new Map<string, Tensor>();
  const json = toJson(tree, '', tensors);
  const path = join(folder, tensorFile);
  fileOperation('write', path, () => writeSafetensors(path, tensors));
  writeFileDurably(join(folder, treeFile), `${JSON.stringify(json, null, 1)}\n`);
}

/**
 * Reads what `writeStateTree` wrote. The tensors are copies in memory of their own (a mapped file may be aligned so
 * that other kernels are chosen, which would break bit-for-bit resuming); the caller owns them.
 * @throws UserError when a file is missing, cut off or not of this kind
 */
export function readStateTree(folder: string): StateTree {
  const treePath = join(folder, treeFile);
  const text = readTextIfThere(treePath);
  if (text === undefined) throw new UserError(`${treePath}: missing — a checkpoint holds this file`);
  let json: Json;
  try {
    json = JSON.parse(text) as Json;
  } catch (error) {
    throw new UserError(
      `${treePath}: not readable as JSON (${(error as Error).message}) — it is cut off or damaged`,
    );
  }
  const tensorPath = join(folder, tensorFile);
  const { tensors: mapped } = readSafetensors(tensorPath);
  const tensors = new Map([...mapped].map(([name, tensor]) => [name, tensor.clone()]));
  for (const tensor of mapped.values()) tensor.free();
  return fromJson(json, tensors, tensorPath);
}

/**
 * Checks that `loaded` has every tensor of `expected` with the same shape and dtype, and names the first that differs.
 * @throws UserError
 */
export function checkSameTensors(where: string, loaded: StateTree, expected: StateTree): void {
  const found = tensorsOf(loaded);
  for (const [path, tensor] of tensorsOf(expected)) {
    const other = found.get(path);
    if (other === undefined) {
      throw new UserError(
        `${where}: no tensor ${path} — this run's model needs it. The checkpoint belongs to another model or recipe; resume it with the recipe it was made with`,
      );
    }
    const have = `${other.dtype} [${other.shape.join(', ')}]`;
    const want = `${tensor.dtype} [${tensor.shape.join(', ')}]`;
    if (have !== want) {
      throw new UserError(
        `${where}: tensor ${path} is ${have}, expected ${want} — the checkpoint belongs to another model or recipe (rank, model). Resume it with the recipe it was made with`,
      );
    }
  }
}

/** Path of a child; `~` and `/` within a key are spelt ~0 and ~1, as in JSON Pointer, so that paths are unique. */
function below(path: string, key: string | number): string {
  const name = `${key}`.replaceAll('~', '~0').replaceAll('/', '~1');
  return path === '' ? name : `${path}/${name}`;
}

function hasNonFinite(tensor: Tensor): boolean {
  if (!tensor.dtype.includes('float')) return false;
  const values = tensor.toArray();
  for (let index = 0; index < values.length; index++)
    if (!Number.isFinite(Number(values[index]))) return true;
  return false;
}

function toJson(tree: StateTree, path: string, tensors: Map<string, Tensor>): Json {
  if (tree instanceof Tensor) {
    tensors.set(path, tree);
    return { $tensor: path };
  }
  // JSON has no -0, NaN or infinities; -0 must survive for a resumed run to equal the uninterrupted one.
  if (typeof tree === 'number') {
    return Number.isFinite(tree) && !Object.is(tree, -0)
      ? tree
      : { $number: Object.is(tree, -0) ? '-0' : `${tree}` };
  }
  if (tree === null || typeof tree !== 'object') {
    if (tree !== null && typeof tree !== 'string' && typeof tree !== 'boolean') {
      throw new InternalError(`state tree at ${path}: a ${typeof tree} — only tensors and JSON can be saved`);
    }
    return tree;
  }
  if (Array.isArray(tree)) return tree.map((child, index) => toJson(child, below(path, index), tensors));
  // Keys that begin with $ get another one, since $tensor and $number mark what JSON has no words for.
  const entries = Object.entries(tree).map(([key, child]) => [
    key.startsWith('$') ? `$${key}` : key,
    toJson(child, below(path, key), tensors),
  ]);
  return Object.fromEntries(entries);
}

function fromJson(json: Json, tensors: Map<string, Tensor>, where: string): StateTree {
  if (json === null || typeof json !== 'object') return json;
  if (Array.isArray(json)) return json.map((child) => fromJson(child, tensors, where));
  if (typeof json.$number === 'string') return Number(json.$number);
  if (typeof json.$tensor === 'string') {
    const tensor = tensors.get(json.$tensor);
    if (tensor === undefined) {
      throw new UserError(
        `${where}: no tensor ${json.$tensor} — the two files of the checkpoint do not belong together`,
      );
    }
    return tensor;
  }
  const entries = Object.entries(json).map(([key, child]) => [
    key.startsWith('$') ? key.slice(1) : key,
    fromJson(child, tensors, where),
  ]);
  return Object.fromEntries(entries);
}
