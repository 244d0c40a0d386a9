import { createHash } from 'node:crypto';
import { captionOf } from './caption.js';
import { nouns } from './nouns.js';
import { type Plan, placePlan } from './plan.js';
import { HashRandom, hashString } from './random.js';
import { type SceneKind, sampleScene, sceneKinds } from './sample.js';
import {
  activities,
  backgrounds,
  colours,
  peopleCounts,
  relations,
  type Scene,
  styles,
  visible,
} from './scene.js';
import { allowedIn, SPLIT_VERSION, type Split } from './split.js';

/** An evaluation prompt with one scene that it is true of. */
export interface PromptScene {
  readonly prompt: string;
  readonly scene: Scene;
}

const LONG_PROMPTS = 400;
const LONG_SEED = 1;

const cache = new Map<string, readonly PromptScene[]>();

/**
 * Every canonical prompt of one kind that belongs to a split, each once, in an order shuffled by hash, so that the
 * first n are a fair sample. Prompts of two splits differ, those of kind "single" excepted: "a cat" is in all three.
 * "long" has up to 400, drawn from the endless many.
 */
export function promptScenes(split: Split, kind: SceneKind): readonly PromptScene[] {
  const key = `${split}/${kind}`;
  let found = cache.get(key);
  if (found === undefined) {
    const scenes = kind === 'long' ? longScenes(split) : plainScenes(split, kind);
    const unique = new Map(scenes.map((scene) => [captionOf(scene), scene]));
    found = [...unique]
      .map(([prompt, scene]) => ({ prompt, scene, order: hashString(`order/${prompt}`) }))
      .sort((a, b) => a.order - b.order || (a.prompt < b.prompt ? -1 : 1))
      .map(({ prompt, scene }) => ({ prompt, scene }));
    cache.set(key, found);
  }
  return found;
}

/** The prompts of `promptScenes` alone. */
export function prompts(split: Split, kind: SceneKind): string[] {
  return promptScenes(split, kind).map(({ prompt }) => prompt);
}

/** Names the version of a split: SHA-256, in hex, over its sorted prompts of every kind. */
export function splitHash(split: Split): string {
  const all = sceneKinds.flatMap((kind) => prompts(split, kind)).sort();
  return createHash('sha256')
    .update(`${SPLIT_VERSION}\n${all.join('\n')}\n`)
    .digest('hex');
}

function plainScenes(split: Split, kind: SceneKind): Scene[] {
  return plansOfKind(kind)
    .filter((plan) => allowedIn(split, plan))
    .map((plan) => placePlan(plan, new HashRandom(hashString(JSON.stringify(plan)))));
}

function longScenes(split: Split): Scene[] {
  const options = { kinds: { long: 1 } };
  return Array.from({ length: LONG_PROMPTS }, (_, index) => sampleScene(split, LONG_SEED, index, options));
}

function plansOfKind(kind: SceneKind): Plan[] {
  const one = { count: 1, background: 'white' } as const;
  const each = (make: (subjects: Plan['subjects'], noun: (typeof nouns)[number]) => Plan[]) =>
    nouns.flatMap((noun) => make([{ noun: noun.name }], noun));
  switch (kind) {
    case 'single':
      return each((subjects) => [{ ...one, subjects }]);
    case 'colour':
      return nouns.flatMap(({ name }) =>
        colours.map((colour) => {
          const background = visible(colour, 'white') ? 'white' : 'sea';
          return { subjects: [{ noun: name, colour }], count: 1, background };
        }),
      );
    case 'background':
      return each((subjects) =>
        backgrounds
          .filter((name) => name !== 'white')
          .map((background) => ({ subjects, count: 1, background })),
      );
    case 'count':
      return each((subjects) => [2, 3, 4].map((count) => ({ subjects, count, background: 'white' })));
    case 'style':
      return each((subjects) => styles.map((style) => ({ ...one, subjects, style })));
    case 'activity':
      return each((subjects, noun) =>
        noun.kind === 'animal' ? activities.map((activity) => ({ ...one, subjects, activity })) : [],
      );
    case 'people':
      return each((subjects, noun) =>
        noun.kind === 'person' ? [] : peopleCounts.map((people) => ({ ...one, subjects, people })),
      );
    case 'and':
      return pairs().map((subjects) => ({ ...one, subjects }));
    case 'relation':
      return pairs().flatMap((subjects) => relations.map((relation) => ({ ...one, subjects, relation })));
    case 'long':
      return [];
  }
}

/** Every ordered pair of two different nouns. */
function pairs(): Plan['subjects'][] {
  return nouns.flatMap((a) => nouns.filter((b) => b !== a).map((b) => [{ noun: a.name }, { noun: b.name }]));
}
