/** What a preference model says that trained nothing: started from another CLIP, taught by other rules. */

import { type Measure, meanOf } from './measures.js';
import { type JudgedPrompt, suite } from './suite.js';

/** `preference`: mean over pictures, in the judge's unit; it compares models, its zero means nothing. */
export const preferenceMeasures = (judged: readonly JudgedPrompt<number>[]): Record<string, Measure> => ({
  preference: meanOf(judged.map(({ verdicts }) => verdicts)),
});

export const preference = suite<number>({
  description: 'score of the unseen preference judge, all kinds of scenes',
  judges: ['preference'],
  sets: [{ set: 'eval-mixed', pictures: 8 }],
  look: ({ images, prompts }, judges) => judges.preferences(images, prompts),
  measure: preferenceMeasures,
  words: (_, score) => score.toFixed(2),
});
