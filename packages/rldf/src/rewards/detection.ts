/** Rewards from a detector's boxes: is everything there that the prompt names, as often and where it says? */

import { activityProps, type Plan, parseCaption, type Relation } from '@rldf/emoji-world';
import type { Detection, Detector } from '@rldf/models';
import { UserError } from '@rldf/torch/errors';
import type { Reward } from './reward.js';

/**
 * IP-RLDF's verdict: 1 if the detector finds exactly two boxes, one of each noun, and their centres stand as the prompt
 * says (strictly, no margin); else 0.
 */
export function spatial(detector: Detector): Reward {
  return reward('spatial', '', detector, undefined, (detections, plan, prompt) => {
    const { relation, subjects } = plan;
    if (relation === undefined) throw unfit('spatial', prompt, 'names no relation of two objects');
    const [a, b] = subjects.map(({ noun }) => detections.find(({ label }) => label === noun));
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
    (detections, plan) =>
      -sum(
        askedOf(plan).map(([noun, asked]) =>
          Math.abs(detections.filter(({ label }) => label === noun).length - asked),
        ),
      ) + 0, // no -0
  );
}

/** 1 if the detector finds every noun that the prompt names, however often and wherever; else 0. */
export function presence(detector: Detector): Reward {
  return reward('presence', '', detector, undefined, (detections, plan) =>
    Number(askedOf(plan).every(([noun]) => detections.some(({ label }) => label === noun))),
  );
}

/** Mean over the nouns that the prompt names of the best score with which the detector finds each; 0 where it does not. */
export function detectorConfidence(detector: Detector): Reward {
  return reward('detector-confidence', '', detector, FAINTEST, (detections, plan) => {
    const asked = askedOf(plan);
    const best = ([noun]: [string, number]) =>
      Math.max(0, ...detections.filter(({ label }) => label === noun).map(({ score }) => score));
    return sum(asked.map(best)) / asked.length;
  });
}

/** Least score that counts for the confidence: far below what counts as found. */
const FAINTEST = 0.01;

type Score = (detections: readonly Detection[], plan: Plan, prompt: string) => number;

function reward(
  name: string,
  unit: string,
  detector: Detector,
  threshold: number | undefined,
  score: Score,
): Reward {
  return {
    name,
    unit,
    score({ images, prompts }) {
      const plans = prompts.map((prompt) => {
        const plan = parseCaption(prompt);
        if (plan === undefined) throw unfit(name, prompt, 'is no sentence of the built-in world');
        return plan;
      });
      const found = detector.detect(images, threshold === undefined ? {} : { threshold });
      return found.map((detections, i) => score(detections, plans[i] as Plan, prompts[i] as string));
    },
  };
}

/** Centres compared as in IP-RLDF's code. */
function stands(relation: Relation, { box: a }: Detection, { box: b }: Detection): boolean {
  const dx = b[0] + b[2] - a[0] - a[2];
  const dy = b[1] + b[3] - a[1] - a[3];
  return { left: dx > 0, right: dx < 0, above: dy > 0, below: dy < 0 }[relation];
}

/** How many of which noun a plan asks for, an activity's prop among them. */
function askedOf({ subjects, count: counted, activity }: Plan): [string, number][] {
  const props = activity === undefined ? [] : [activityProps[activity].noun];
  return [
    ...subjects.map(({ noun }): [string, number] => [noun, counted]),
    ...props.map((noun): [string, number] => [noun, 1]),
  ];
}

function unfit(name: string, prompt: string, what: string): UserError {
  return new UserError(
    `reward ${name}: the prompt "${prompt}" ${what} — it scores prompts such as ${
      name === 'spatial' ? '"a cat to the left of a dog"' : '"two cats" or "a cat and a dog"'
    }. Choose other prompts (\`rldf world --prompts relation\`) or another reward`,
  );
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
