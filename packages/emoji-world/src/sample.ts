import { type CaptionOptions, captionOf } from './caption.js';
import { type CaptionNoise, misremember } from './caption-noise.js';
import { type Noun, nounOf, nouns } from './nouns.js';
import { canBeSeen, type PlacementOptions, type Plan, placePlan } from './plan.js';
import { HashRandom } from './random.js';
import {
  activities,
  type Background,
  backgrounds,
  type Colour,
  colours,
  peopleCounts,
  relations,
  type Scene,
  type Style,
  styles,
} from './scene.js';
import { allowedIn, type Split, splits } from './split.js';

export const sceneKinds = [
  'single',
  'colour',
  'background',
  'count',
  'relation',
  'and',
  'activity',
  'people',
  'style',
  'long',
] as const;
export type SceneKind = (typeof sceneKinds)[number];

export interface SampleOptions extends PlacementOptions {
  /** Names of the nouns drawn. Default: all. */
  readonly nouns?: readonly string[];
  /** Weights of the kinds of scenes. Default: `defaultKinds`. */
  readonly kinds?: Partial<Record<SceneKind, number>>;
  /** Share of scenes on plain white where the kind itself asks for no background. Default 0.7; singles are always plain. */
  readonly plainShare?: number;
}

/** The mix that trains the base model: plain pictures of one noun are the most frequent. */
export const defaultKinds: Readonly<Record<SceneKind, number>> = {
  single: 0.45,
  colour: 0.1,
  background: 0.09,
  count: 0.08,
  relation: 0.1,
  and: 0.05,
  activity: 0.05,
  people: 0.02,
  style: 0.04,
  long: 0.02,
};

const DEFAULT_PLAIN_SHARE = 0.7;
const ATTEMPTS = 2000;
const COLOURED_BACKGROUNDS = backgrounds.filter((background) => background !== 'white');

/**
 * Scene `index` of an endless series: it depends on nothing but the arguments.
 * @throws {Error} if the options leave nothing that this split may hold (say, relations with one noun).
 */
export function sampleScene(split: Split, seed: number, index: number, options: SampleOptions = {}): Scene {
  const random = new HashRandom(seed, index, splits.indexOf(split));
  const kind = random.weighted(Object.entries(options.kinds ?? defaultKinds) as [SceneKind, number][]);
  const pool = poolOf(options.nouns);
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const plan = planOfKind(kind, pool, options.plainShare ?? DEFAULT_PLAIN_SHARE, random);
    if (plan !== undefined && allowedIn(split, plan)) return placePlan(plan, random, options);
  }
  throw new Error(
    `sampleScene: no scene of kind "${kind}" from ${pool.all.length} nouns belongs to split "${split}" — combinations ` +
      'of words are dealt to the splits by hash. Give more nouns or leave this kind out.',
  );
}

export interface CaptionedOptions extends SampleOptions, CaptionOptions {
  /** Default: every caption is true. */
  readonly captionNoise?: CaptionNoise;
}

/** A scene, as a careless describer remembers it, and the caption that says so; what a training loop asks for. */
export function sampleCaptionedScene(
  split: Split,
  seed: number,
  index: number,
  options: CaptionedOptions = {},
): { scene: Scene; told: Scene; caption: string } {
  const scene = sampleScene(split, seed, index, options);
  const random = new HashRandom(seed, index, splits.indexOf(split), 0x76);
  const variant = random.bits();
  const told = options.captionNoise ? misremember(scene, random, options.captionNoise) : scene;
  return { scene, told, caption: captionOf(told, variant, options) };
}

interface Pool {
  readonly all: readonly Noun[];
  readonly animals: readonly Noun[];
  readonly unpeopled: readonly Noun[];
}

const pools = new WeakMap<readonly string[], Pool>();
const everything = makePool(nouns);

function makePool(all: readonly Noun[]): Pool {
  return {
    all,
    animals: all.filter((noun) => noun.kind === 'animal'),
    unpeopled: all.filter((noun) => noun.kind !== 'person'),
  };
}

function poolOf(names: readonly string[] | undefined): Pool {
  if (names === undefined) return everything;
  let pool = pools.get(names);
  if (pool === undefined) {
    if (names.length === 0) throw new Error('sampleScene: options.nouns is empty — name at least one noun.');
    pool = makePool(names.map(nounOf));
    pools.set(names, pool);
  }
  return pool;
}

/** A plan of one kind, or undefined if this draw would hide an object or the pool has no noun for it. */
function planOfKind(kind: SceneKind, pool: Pool, plainShare: number, random: HashRandom): Plan | undefined {
  const plain = kind === 'single' || random.chance(plainShare);
  let background: Background = plain ? 'white' : random.choice(COLOURED_BACKGROUNDS);
  const noun = () => random.choice(pool.all).name;
  switch (kind) {
    case 'single':
      return { subjects: [{ noun: noun() }], count: 1, background };
    case 'colour': {
      const colour = random.choice(colours);
      // A white object needs something behind it.
      if (colour === 'white' && plain) background = random.choice(COLOURED_BACKGROUNDS);
      return seen({ subjects: [{ noun: noun(), colour }], count: 1, background });
    }
    case 'background':
      return { subjects: [{ noun: noun() }], count: 1, background: random.choice(COLOURED_BACKGROUNDS) };
    case 'count':
      return { subjects: [{ noun: noun() }], count: 2 + random.integer(3), background };
    case 'and':
    case 'relation': {
      const [a, b] = random.sample(pool.all, 2);
      if (a === undefined || b === undefined) return undefined;
      const subjects = [{ noun: a.name }, { noun: b.name }];
      return {
        subjects,
        count: 1,
        background,
        ...(kind === 'and' ? {} : { relation: random.choice(relations) }),
      };
    }
    case 'activity': {
      if (pool.animals.length === 0) return undefined;
      const subjects = [{ noun: random.choice(pool.animals).name }];
      return { subjects, count: 1, background, activity: random.choice(activities) };
    }
    case 'people': {
      if (pool.unpeopled.length === 0) return undefined;
      const subjects = [{ noun: random.choice(pool.unpeopled).name }];
      return { subjects, count: 1, background, people: random.choice(peopleCounts) };
    }
    case 'style':
      return seen({ subjects: [{ noun: noun() }], count: 1, background, style: random.choice(styles) });
    case 'long':
      return longPlan(pool, random);
  }
}

/** Several clauses: two coloured nouns on a background, or one noun with three or more of everything. */
function longPlan(pool: Pool, random: HashRandom): Plan | undefined {
  const background = random.choice(COLOURED_BACKGROUNDS);
  const style: { style?: Style } = random.chance(0.4) ? { style: random.choice(styles) } : {};
  const colour = (): { colour?: Colour } =>
    style.style !== 'silhouette' && random.chance(0.6) ? { colour: random.choice(colours) } : {};
  if (random.chance(0.6)) {
    const [a, b] = random.sample(pool.all, 2);
    if (a === undefined || b === undefined) return undefined;
    const subjects = [
      { noun: a.name, ...colour() },
      { noun: b.name, ...colour() },
    ];
    const relation = random.chance(0.7) ? { relation: random.choice(relations) } : {};
    return seen({ subjects, count: 1, background, ...relation, ...style });
  }
  const extra = random.integer(3);
  if (extra === 0) {
    if (pool.animals.length === 0) return undefined;
    const subjects = [{ noun: random.choice(pool.animals).name, ...colour() }];
    return seen({ subjects, count: 1, background, activity: random.choice(activities), ...style });
  }
  if (pool.unpeopled.length === 0) return undefined;
  const subjects = [{ noun: random.choice(pool.unpeopled).name, ...colour() }];
  if (extra === 1)
    return seen({ subjects, count: 1, background, people: random.choice(peopleCounts), ...style });
  return seen({ subjects, count: 2 + random.integer(3), background, ...style });
}

/** The plan, unless its colours or its style would hide something. */
const seen = (plan: Plan): Plan | undefined => (canBeSeen(plan) ? plan : undefined);
