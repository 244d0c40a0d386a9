import { nounOf } from './nouns.js';
import type { Plan } from './plan.js';
import { hashString } from './random.js';
import type { Scene } from './scene.js';
import { subjectsOf } from './scene.js';

/** Train; validation, which chooses checkpoints; test, which is drawn for results only. */
export const splits = ['train', 'validation', 'test'] as const;
export type Split = (typeof splits)[number];

/** Changed when the way of splitting changes; part of every hash. */
export const SPLIT_VERSION = 1;

const VALIDATION_PERCENT = 10;
const TEST_PERCENT = 10;

/** The split a combination of words belongs to: its hash decides, 80 / 10 / 10. */
export function splitOfKey(key: string): Split {
  const percent = hashString(`emoji-world/${SPLIT_VERSION}/${key}`) % 100;
  if (percent < TEST_PERCENT) return 'test';
  return percent < TEST_PERCENT + VALIDATION_PERCENT ? 'validation' : 'train';
}

/** The combinations in a plan: the unordered pair of nouns, if there are two, and each noun with each of its attributes. */
export function combinationsOf(plan: Plan): { pair?: string; attributes: string[] } {
  const attributes: string[] = [];
  for (const { noun, colour } of plan.subjects) {
    if (colour !== undefined) attributes.push(`colour/${colour}/${noun}`);
    if (plan.background !== 'white') attributes.push(`background/${plan.background}/${noun}`);
    if (plan.style !== undefined) attributes.push(`style/${plan.style}/${noun}`);
    if (plan.activity !== undefined) attributes.push(`activity/${plan.activity}/${noun}`);
    if (plan.people !== undefined) attributes.push(`people/${plan.people}/${noun}`);
    if (plan.count > 1) attributes.push(`count/${plan.count}/${noun}`);
  }
  if (plan.subjects.length < 2) return { attributes };
  const pair = plan.subjects.map(({ noun }) => nounOf(noun).name).sort();
  return { pair: `pair/${pair.join('/')}`, attributes };
}

/**
 * Whether a plan may be drawn in a split. One noun alone ("a cat") may be drawn in all three: there is no other way
 * to say it. Else train holds combinations of train only. Validation and test hold a new combination of their own
 * (with two nouns: their unordered pair) and none of each other's.
 */
export function allowedIn(split: Split, plan: Plan): boolean {
  const { pair, attributes } = combinationsOf(plan);
  if (pair === undefined && attributes.length === 0) return true;
  if (pair !== undefined && splitOfKey(pair) !== split) return false;
  let own = pair !== undefined || split === 'train';
  for (const key of attributes) {
    const owner = splitOfKey(key);
    if (owner === split) own = true;
    else if (owner !== 'train') return false;
  }
  return own;
}

/** The plan that a scene was placed from. */
export function planOf(scene: Scene): Plan {
  const { objects: _, ...rest } = scene;
  const subjects = subjectsOf(scene);
  const counted = subjects.length > 1 && subjects.every(({ noun }) => noun === subjects[0]?.noun);
  const named = (counted ? subjects.slice(0, 1) : subjects).map(({ noun, colour }) =>
    colour === undefined ? { noun } : { noun, colour },
  );
  return { subjects: named, count: counted ? subjects.length : 1, ...rest };
}
