/** The recipe's `explore` block: DiffExp on top of any method that draws with the model it trains. docs/methods/diffexp.md */

import { z } from 'zod';
import type { ArithmeticProblem } from '../config/batch-arithmetic.js';
import { count, fraction } from '../config/fields.js';
import { lowSteps } from './diffexp.js';

const guidanceSchema = z.strictObject({
  low: z
    .number()
    .min(0)
    .max(100)
    .default(1)
    .describe(
      'Guidance scale of the first steps; it must be below `sample.guidanceScale`. The paper ' +
        'says “extremely low”; the value 1 is ours.',
    ),
  steps: count
    .max(1000)
    .optional()
    .describe('How many of the first denoising steps are sampled with low guidance.'),
  fraction: z
    .number()
    .gt(0)
    .lt(1)
    .optional()
    .describe(
      'The same as a fraction of all steps, rounded to whole steps. By default 0.1 ' +
        '(timesteps above 900), which is our choice.',
    ),
});

const wordsSchema = z.strictObject({
  minimum: z
    .number()
    .min(0)
    .max(10)
    .default(1)
    .describe('Smallest weight of the chosen word. The default is our choice.'),
  maximum: z
    .number()
    .min(0)
    .max(10)
    .default(1.5)
    .describe(
      'Largest weight of the chosen word. Each image draws its own weight uniformly between ' +
        'the two. The default is our choice.',
    ),
});

export const exploreSchema = z
  .strictObject({
    guidance: guidanceSchema
      .nullish()
      .describe(
        'Low guidance in the first denoising steps, then `sample.guidanceScale`. This makes ' +
          'images more diverse.',
      ),
    words: wordsSchema
      .nullish()
      .describe(
        'One word of the prompt, a different one for each image, is weighted: z′ = z∅ + a (z ' +
          '− z∅) at its tokens.',
      ),
    share: fraction
      .default(0.75)
      .describe('Fraction of the epochs that explore, from the first on. The paper uses 0.75.'),
  })
  .describe(
    'DiffExp: explores while training images are sampled, and never in evaluation. `{ ' +
      'guidance: {}, words: {} }` turns on both parts.',
  );

export type Explore = z.output<typeof exploreSchema>;

/** Of `sample`, what exploring depends on. */
export interface ExploredSampling {
  steps: number;
  guidanceScale: number;
}

/** Why an `explore` block would not explore. */
export function exploreProblems(explore: Explore, sample: ExploredSampling): ArithmeticProblem[] {
  const problems: ArithmeticProblem[] = [];
  const refuse = (path: string[], message: string) => problems.push({ path: ['explore', ...path], message });
  const { guidance, words } = explore;
  if (guidance == null && words == null) {
    refuse(
      [],
      'neither guidance nor words — nothing would be explored. Set explore: { guidance: {}, words: {} } for both with their defaults, or one of them',
    );
  }
  if (guidance != null) {
    const { steps, fraction: part } = guidance;
    const low = lowSteps(explore, sample.steps);
    const enough = `Set explore.guidance.steps to 1 to ${sample.steps - 1}`;
    if (steps !== undefined && part !== undefined) {
      refuse(
        ['guidance'],
        `both steps: ${steps} and fraction: ${part} — the switch is one place. Leave one out`,
      );
    } else if (low < 1) {
      refuse(
        ['guidance'],
        `${part ?? 0.1} of ${sample.steps} denoising steps is less than half a step — the schedule would change no step. ${enough}`,
      );
    } else if (low >= sample.steps) {
      refuse(
        ['guidance'],
        `all ${sample.steps} denoising steps would be drawn at low guidance — the schedule is low, then high. ${enough}`,
      );
    }
    if (guidance.low >= sample.guidanceScale) {
      refuse(
        ['guidance', 'low'],
        `${guidance.low} is not below sample.guidanceScale: ${sample.guidanceScale} — the first steps must be drawn at lower guidance, or the schedule explores nothing. Lower it, or raise sample.guidanceScale`,
      );
    }
  }
  if (words != null && words.minimum > words.maximum) {
    refuse(['words', 'minimum'], `${words.minimum} is above maximum: ${words.maximum} — exchange them`);
  } else if (words != null && words.minimum === 1 && words.maximum === 1) {
    refuse(
      ['words'],
      'minimum and maximum are both 1 — a word of weight 1 counts as before. Raise explore.words.maximum, such as to 1.5',
    );
  }
  return problems;
}
