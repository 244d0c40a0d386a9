/**
 * Semantic locality (RLDF paper, section 3): values that look alike lie side by side on their axis. Here it is measured:
 * an axis is put into the order in which neighbours' embeddings are nearest (seriation: the shortest path through all).
 */

import { noiseKey, Random } from '@rldf/torch';
import { type Axis, type AxisOrders, Encoding, type Meanings } from './encoding.js';
import type { Grammar } from './grammar.js';
import { cosine } from './rewards.js';

/**
 * `clip`: by CLIP embeddings of what each value says; `clip-pictures`: by those and by embeddings of a picture of each value;
 * `file`: as the grammar's author wrote them; `shuffled`: at random.
 */
export const axisOrders = ['clip', 'clip-pictures', 'file', 'shuffled'] as const;
export type AxisOrder = (typeof axisOrders)[number];

export interface Locality {
  /** The order in use. */
  order: AxisOrder;
  /** Mean distance (1 - cosine) of neighbours on the axis: in the order in use, the file's, and any shuffled one on average. */
  neighbourDistance: { used: number; file: number; shuffled: number };
}

/** Mean distance of neighbours. @param order a permutation of the rows of `distances` */
export function neighbourDistance(
  order: readonly number[],
  distances: readonly (readonly number[])[],
): number {
  if (order.length < 2) return 0;
  return (
    order.slice(1).reduce((sum, value, i) => sum + distances[order[i]!]![value]!, 0) / (order.length - 1)
  );
}

/** A short path through all points: nearest neighbours from every start, the best one improved by 2-opt. Deterministic. */
export function seriate(distances: readonly (readonly number[])[]): number[] {
  const count = distances.length;
  let best: number[] = [];
  let least = Number.POSITIVE_INFINITY;
  for (let start = 0; start < count; start++) {
    const path = twoOpt(nearestPath(start, distances), distances);
    const length = neighbourDistance(path, distances);
    if (length < least - 1e-12) [best, least] = [path, length];
    if (count > 40 && start % 8 !== 7) start = Math.min(count - 1, start + 7); // of long axes every eighth start
  }
  return best[0]! <= best.at(-1)! ? best : best.reverse();
}

function nearestPath(start: number, distances: readonly (readonly number[])[]): number[] {
  const left = new Set(distances.keys());
  const path = [start];
  left.delete(start);
  while (left.size > 0) {
    const row = distances[path.at(-1)!]!;
    const next = [...left].reduce((near, other) => (row[other]! < row[near]! ? other : near));
    left.delete(next);
    path.push(next);
  }
  return path;
}

function twoOpt(path: number[], distances: readonly (readonly number[])[]): number[] {
  const between = (i: number, j: number) =>
    path[i] === undefined || path[j] === undefined ? 0 : distances[path[i]]![path[j]]!;
  for (let improved = true; improved; ) {
    improved = false;
    for (let i = 0; i < path.length - 1; i++) {
      for (let j = i + 1; j < path.length; j++) {
        const gain = between(i - 1, i) + between(j, j + 1) - between(i - 1, j) - between(i, j + 1);
        if (gain <= 1e-12) continue;
        path.splice(i, j - i + 1, ...path.slice(i, j + 1).reverse());
        improved = true;
      }
    }
  }
  return path;
}

export interface LocalWorldOptions {
  grammar: Grammar;
  /** The input's encoding: each window contains it. */
  goal: Meanings;
  order: AxisOrder;
  /** Of shuffled orders, and of where in its window the goal lies. */
  seed: number;
  /** Embeddings of sentences, or of pictures of them: one list of vectors a kind. */
  embed(sentences: readonly string[]): Promise<readonly (readonly (readonly number[])[])[]>;
}

/**
 * An encoding whose axes are ordered and cut to the grammar's windows. Numbers keep their order.
 * @returns also the locality of each ordered axis, by the embeddings given
 */
export async function localEncoding({
  grammar,
  goal,
  order,
  seed,
  embed,
}: LocalWorldOptions): Promise<{ encoding: Encoding; locality: Record<string, Locality> }> {
  const plain = new Encoding(grammar);
  const orders: Record<string, AxisOrders[string]> = {};
  const locality: Record<string, Locality> = {};
  for (const [index, axis] of plain.axes.entries()) {
    const random = new Random(noiseKey(seed, 'search-order', index));
    const file = axis.wholeOrder;
    let used = file;
    if (axis.role !== 'count' && file.length > 2) {
      const distances = await axisDistances(plain, axis, embed);
      if (order === 'shuffled') used = random.shuffle(file);
      else if (order !== 'file') used = seriate(distances);
      const pairs = distances.flatMap((row, i) => row.slice(i + 1));
      locality[axis.name] = {
        order,
        neighbourDistance: {
          used: neighbourDistance(used, distances),
          file: neighbourDistance(file, distances),
          shuffled: pairs.reduce((sum, distance) => sum + distance, 0) / pairs.length,
        },
      };
    }
    const length = Math.min(grammar.window.get(axis.symbol) ?? used.length, used.length);
    const place = used.indexOf(axis.meanings.indexOf(goal[axis.name] ?? ''));
    const from = Math.max(0, Math.min(used.length - length, place - random.integer(length)));
    orders[axis.name] = { order: used, from, length };
  }
  return { encoding: new Encoding(grammar, orders), locality };
}

/** 1 - cosine of the axis' values, the mean over kinds of embeddings; the rest of the sentence is each axis' first choice. */
async function axisDistances(
  encoding: Encoding,
  axis: Axis,
  embed: LocalWorldOptions['embed'],
): Promise<number[][]> {
  const kinds = await embed(axis.meanings.map((meaning) => encoding.sentenceOf({ [axis.name]: meaning })));
  return axis.meanings.map((_, i) =>
    axis.meanings.map((__, j) =>
      i === j
        ? 0
        : kinds.reduce((sum, vectors) => sum + 1 - cosine(vectors[i]!, vectors[j]!), 0) / kinds.length,
    ),
  );
}
