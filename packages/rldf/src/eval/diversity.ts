/** How much the pictures of one prompt differ: what reward training takes away first. */

import { mean } from '../base/stats.js';
import { type Measure, meanOf } from './measures.js';
import { type JudgedPrompt, suite } from './suite.js';

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

/** `diversity`: mean pairwise distance of embeddings within a prompt, averaged over prompts. */
export const diversityMeasures = (
  judged: readonly JudgedPrompt<readonly number[]>[],
): Record<string, Measure> => ({
  diversity: meanOf(judged.map(({ verdicts }) => [meanPairwiseDistance(verdicts)])),
});

export const diversity = suite<readonly number[]>({
  description: 'distance between pictures of one prompt, by the feature network',
  judges: ['features'],
  sets: [{ set: 'eval-mixed', pictures: 8 }],
  look: ({ images }, judges) => judges.features(images),
  measure: diversityMeasures,
  words: () => '',
});
