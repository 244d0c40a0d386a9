/** Two to four of a noun: are there as many? */

import { planOf, type SetPrompt } from '@rldf/emoji-world';
import type { Detection } from '@rldf/models';
import { type Measure, meanOf } from './measures.js';
import { type JudgedPrompt, share, suite } from './suite.js';

export interface CountVerdict {
  /** Detections of the prompt's noun. */
  found: number;
  detections: readonly Detection[];
}

const asked = ({ scene }: SetPrompt) => planOf(scene).count;

/**
 * - `countExact`: share of pictures with exactly as many of the noun as the prompt says, and by that number,
 *   `countExact2` to `countExact4`;
 * - `countError`: mean of |found - asked|, objects.
 */
export function countMeasures(
  judged: readonly JudgedPrompt<Pick<CountVerdict, 'found'>>[],
): Record<string, Measure> {
  const exact = (only?: number) =>
    meanOf(
      judged.map(({ prompt, verdicts }) => {
        const count = asked(prompt);
        return verdicts.map(({ found }) =>
          only !== undefined && only !== count ? null : share(found === count),
        );
      }),
    );
  return {
    countExact: exact(),
    ...Object.fromEntries([2, 3, 4].map((count) => [`countExact${count}`, exact(count)])),
    countError: meanOf(
      judged.map(({ prompt, verdicts }) => verdicts.map(({ found }) => Math.abs(found - asked(prompt)))),
    ),
  };
}

export const count = suite<CountVerdict>({
  description: 'exactly two, three or four of a noun',
  judges: ['detector'],
  sets: [{ set: 'eval-count', pictures: 4 }],
  look: async ({ images, prompts }, judges) =>
    (await judges.detect(images)).map((detections, i) => {
      const noun = prompts[i]!.scene.objects[0]?.noun;
      return { found: detections.filter(({ label }) => label === noun).length, detections };
    }),
  measure: countMeasures,
  words: (prompt, { found }) => `${found} of ${asked(prompt)}`,
  boxes: ({ detections }) => detections,
});
