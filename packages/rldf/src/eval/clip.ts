/** CLIP score: 100 x cosine between picture and prompt (Hessel et al. 2021), by a CLIP that trained nothing here. */

import { type Measure, meanOf } from './measures.js';
import { type JudgedPrompt, suite } from './suite.js';

/** `clipScore`: mean over pictures. */
export const clipMeasures = (judged: readonly JudgedPrompt<number>[]): Record<string, Measure> => ({
  clipScore: meanOf(judged.map(({ verdicts }) => verdicts)),
});

export const clip = suite<number>({
  description: '100 x cosine between picture and prompt, all kinds of scenes',
  judges: ['clip'],
  sets: [{ set: 'eval-mixed', pictures: 8 }],
  look: ({ images, prompts }, judges) => judges.clipScores(images, prompts),
  measure: clipMeasures,
  words: (_, score) => score.toFixed(1),
});
