/** One noun alone: does the picture show it? */

import { type Measure, meanOf } from './measures.js';
import { type JudgedPrompt, share, suite } from './suite.js';

/** `single`: share of pictures that the judge, who knows all nouns of the world, calls by the prompt's noun. */
export function singleMeasures(judged: readonly JudgedPrompt<string>[]): Record<string, Measure> {
  return {
    single: meanOf(
      judged.map(({ prompt, verdicts }) =>
        verdicts.map((noun) => share(noun === prompt.scene.objects[0]?.noun)),
      ),
    ),
  };
}

export const single = suite<string>({
  description: 'the noun of "a cat", named among all nouns of the world',
  judges: ['classifier'],
  sets: [{ set: 'eval-single', pictures: 8 }],
  look: ({ images }, judges) => judges.classify(images),
  measure: singleMeasures,
  words: (_, noun) => noun,
});
