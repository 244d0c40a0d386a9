/** How much the pictures of one prompt differ: what reward training takes away first. */

import { meanPairwiseDistance } from '@rldf/common/base/pairwise-distance';
import { type Measure, meanOf } from './measures.js';
import { type JudgedPrompt, suite } from './suite.js';

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
