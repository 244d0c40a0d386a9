/** Rewards from a detector's boxes: is everything there that the prompt names, as often and where it says? */

import { activityProps, parseCaption } from '@rldf/emoji-world';
import type { Detection, Detector } from '@rldf/models';
import { UserError } from '@rldf/torch/errors';
import { type AskedObjects, askedInLabels, wordsOf } from '../prompts/label-nouns.js';
import type { Reward } from './reward.js';

type Relation = NonNullable<AskedObjects['relation']>;

/**
 * IP-RLDF's verdict: 1 if the detector finds exactly two boxes, one of each noun, and their centres stand as the prompt
 * says (strictly, no margin); else 0.
 */
export function spatial(detector: Detector): Reward {
  return reward('spatial', '', detector, undefined, (detections, { counts, relation }, prompt) => {
    if (relation === undefined) throw unfit('spatial', prompt, 'names no relation of two objects');
    const [a, b] = [...counts.keys()].map((noun) => detections.find(({ label }) => label === noun));
    return Number(detections.length === 2 && a !== undefined && b !== undefined && stands(relation, a, b));
  });
}

/** Minus the objects too many and too few, over all nouns that the prompt names: 0 is right. */
export function count(detector: Detector): Reward {
  return reward(
    'count',
    'objects',
    detector,
    undefined,
    (detections, { counts }) =>
      -sum(
        [...counts].map(([noun, asked]) =>
          Math.abs(detections.filter(({ label }) => label === noun).length - asked),
        ),
      ) + 0, // no -0
  );
}

/** 1 if the detector finds every noun that the prompt names, however often and wherever; else 0. */
export function presence(detector: Detector): Reward {
  return reward('presence', '', detector, undefined, (detections, { counts }) =>
    Number([...counts.keys()].every((noun) => detections.some(({ label }) => label === noun))),
  );
}

/** Mean over the nouns that the prompt names of the best score with which the detector finds each; 0 where it does not. */
export function detectorConfidence(detector: Detector): Reward {
  return reward('detector-confidence', '', detector, FAINTEST, (detections, { counts }) => {
    const best = (noun: string) =>
      Math.max(0, ...detections.filter(({ label }) => label === noun).map(({ score }) => score));
    return sum([...counts.keys()].map(best)) / counts.size;
  });
}

/** Least score that counts for the confidence: far below what counts as found. */
const FAINTEST = 0.01;

type Score = (detections: readonly Detection[], asked: AskedObjects, prompt: string) => number;

function reward(
  name: string,
  unit: string,
  detector: Detector,
  threshold: number | undefined,
  score: Score,
): Reward {
  const read = promptReader(detector.labels);
  return {
    name,
    unit,
    ...(detector.licence !== undefined && { licence: detector.licence }),
    ...(detector.ready && { ready: () => detector.ready!() }),
    score({ images, prompts }) {
      const asked = prompts.map((prompt) => {
        const one = read(prompt);
        if (one !== undefined) return one;
        throw unfit(
          name,
          prompt,
          `is no sentence of the built-in world, or names what the detector does not know (its labels are ${someOf(detector.labels)})`,
        );
      });
      const scoresOf = (found: readonly Detection[][]) =>
        found.map((detections, i) => score(detections, asked[i]!, prompts[i]!));
      const found = detector.detect(images, threshold === undefined ? {} : { threshold });
      return Array.isArray(found) ? scoresOf(found) : found.then(scoresOf);
    },
  };
}

/** Reads prompts in the built-in world's words where a detector has them as labels, else in the labels' own. */
export function promptReader(labels: readonly string[]): (prompt: string) => AskedObjects | undefined {
  const words = wordsOf(labels);
  const known = new Set(labels);
  return (prompt) => {
    const told = askedOfWorld(prompt);
    if (told !== undefined && [...told.counts.keys()].every((noun) => known.has(noun))) return told;
    return askedInLabels(prompt, words);
  };
}

/** How many of which noun a sentence of the built-in world asks for, an activity's prop among them. */
function askedOfWorld(prompt: string): AskedObjects | undefined {
  const plan = parseCaption(prompt);
  if (plan === undefined) return undefined;
  const { subjects, count: counted, activity, relation } = plan;
  const counts = new Map(subjects.map(({ noun }) => [noun as string, counted]));
  if (activity !== undefined) counts.set(activityProps[activity].noun, 1);
  return { counts, ...(relation !== undefined && { relation }) };
}

/** Centres compared as in IP-RLDF's code. */
function stands(relation: Relation, { box: a }: Detection, { box: b }: Detection): boolean {
  const dx = b[0] + b[2] - a[0] - a[2];
  const dy = b[1] + b[3] - a[1] - a[3];
  return { left: dx > 0, right: dx < 0, above: dy > 0, below: dy < 0 }[relation];
}

function unfit(name: string, prompt: string, what: string): UserError {
  return new UserError(
    `reward ${name}: the prompt "${prompt}" ${what} — it scores prompts such as ${
      name === 'spatial' ? '"a cat to the left of a dog"' : '"two cats" or "a cat and a dog"'
    }. Choose other prompts (\`rldf world --prompts relation\`) or another reward`,
  );
}

/** The first of a list, in words. */
const someOf = (labels: readonly string[]) =>
  labels.length > 8 ? `${labels.slice(0, 8).join(', ')} and ${labels.length - 8} others` : labels.join(', ');

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
