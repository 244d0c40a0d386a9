/** How far embeddings lie apart, in pairs. */

import { mean } from './stats.js';

/** Mean of 1 - cosine over all pairs; null below two. @param embeddings one a picture, of equal length */
export function meanPairwiseDistance(embeddings: readonly (readonly number[])[]): number | null {
  const distances = embeddings.flatMap((a, i) => embeddings.slice(i + 1).map((b) => 1 - cosine(a, b)));
  return distances.length === 0 ? null : mean(distances);
}

function cosine(a: readonly number[], b: readonly number[]): number {
  let [dot, squareA, squareB] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    dot += a[i]! * b[i]!;
    squareA += a[i]! ** 2;
    squareB += b[i]! ** 2;
  }
  return dot / Math.sqrt(squareA * squareB);
}
