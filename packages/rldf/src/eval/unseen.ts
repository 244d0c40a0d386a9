/** Generalisation as DiffExp tests it: animals and activities that fine-tuning never names. */

import { activityProps, type SetPrompt } from '@rldf/emoji-world';
import type { Detection } from '@rldf/models';
import { type Measure, meanOf } from './measures.js';
import { type JudgedPrompt, share, suite } from './suite.js';

export interface UnseenVerdict {
  /** The judge's noun for the whole picture. */
  noun: string;
  detections: readonly Detection[];
}

/**
 * - `unseenAnimals`: share of pictures of an unseen animal alone that the judge calls by its name;
 * - `unseenActivities`: share of pictures of an animal at an unseen activity with the animal and the activity's prop.
 */
export function unseenMeasures(judged: readonly JudgedPrompt<UnseenVerdict>[]): Record<string, Measure> {
  const each = (activity: boolean) =>
    meanOf(
      judged.map(({ prompt, verdicts }) =>
        verdicts.map((verdict) =>
          (prompt.scene.activity !== undefined) === activity ? share(shown(prompt, verdict)) : null,
        ),
      ),
    );
  return { unseenAnimals: each(false), unseenActivities: each(true) };
}

function shown({ scene }: SetPrompt, { noun, detections }: UnseenVerdict): boolean {
  const animal = scene.objects[0]?.noun;
  if (scene.activity === undefined) return noun === animal;
  const labels = detections.map(({ label }) => label);
  return labels.includes(animal ?? '') && labels.includes(activityProps[scene.activity].noun);
}

export const unseen = suite<UnseenVerdict>({
  description: 'animals and activities that DiffExp keeps out of fine-tuning',
  judges: ['classifier', 'detector'],
  sets: [
    { set: 'diffexp-unseen-animals', pictures: 24 },
    { set: 'diffexp-unseen-activities', pictures: 2 },
  ],
  look: async ({ images }, judges) => {
    const nouns = judges.classify(images);
    return (await judges.detect(images)).map((detections, i) => ({ noun: nouns[i]!, detections }));
  },
  measure: unseenMeasures,
  words: (prompt, verdict) =>
    shown(prompt, verdict) ? 'right' : prompt.scene.activity ? 'not both' : verdict.noun,
  boxes: ({ detections }) => detections,
});
