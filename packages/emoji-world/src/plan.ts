import { GRID_STEP, PICTURE_SIZE, SMALL, type SpriteSize } from './art.js';
import type { HashRandom } from './random.js';
import {
  type Activity,
  activityProps,
  type Background,
  type Colour,
  PEOPLE_DRAWN,
  type People,
  type Relation,
  type Scene,
  type SceneObject,
  type Style,
  visible,
} from './scene.js';

/** What a picture shows, without places: what its caption and its split depend on. */
export interface Plan {
  /** One noun (`count` times), or two nouns. */
  readonly subjects: readonly { readonly noun: string; readonly colour?: Colour }[];
  /** How many of the one noun, 1 to 4. */
  readonly count: number;
  readonly background: Background;
  readonly relation?: Relation;
  readonly activity?: Activity;
  readonly people?: People;
  readonly style?: Style;
}

/** Where a lone sprite goes: in the middle, anywhere on the 8-px grid, or at any pixel. */
export type Placing = 'centre' | 'grid' | 'free';

export interface PlacementOptions {
  /** Weights of the places. Default centre 0.7, grid 0.3. */
  readonly places?: Partial<Record<Placing, number>>;
  /** Weights of the sizes of a sprite alone in its picture. Default 48: 0.85, 32: 0.15. */
  readonly sizes?: Partial<Record<SpriteSize, number>>;
}

const DEFAULT_PLACES: Partial<Record<Placing, number>> = { centre: 0.7, grid: 0.3 };
const DEFAULT_SIZES: Partial<Record<SpriteSize, number>> = { 48: 0.85, 32: 0.15 };
const FAR = PICTURE_SIZE - SMALL;
const SLOTS = [
  { x: 0, y: 0 },
  { x: FAR, y: 0 },
  { x: 0, y: FAR },
  { x: FAR, y: FAR },
] as const;

/** Gives every sprite of a plan its size and place. Groups stand in the four quarters, pairs side by side. */
export function placePlan(plan: Plan, random: HashRandom, options: PlacementOptions = {}): Scene {
  const { subjects, count, activity, people, ...rest } = plan;
  const [first, second] = subjects;
  if (first === undefined) throw new Error('placePlan: a plan without subjects — it has one or two.');
  const persons = people === undefined ? 0 : PEOPLE_DRAWN[people];
  const place = random.weighted(entries(options.places ?? DEFAULT_PLACES));
  let objects: SceneObject[];
  if (second !== undefined) {
    const axis = plan.relation ?? random.choice(['left', 'right', 'above', 'below'] as const);
    objects = pair(first, second, axis, place, random);
  } else if (activity !== undefined) {
    const prop = activityProps[activity];
    objects = pair(first, { noun: prop.noun }, prop.place, place, random);
  } else if (count + persons > 1) {
    const slots = random.sample(SLOTS, count + persons);
    objects = slots.map((slot, i) => ({ ...(i < count ? first : { noun: 'person' }), size: SMALL, ...slot }));
  } else {
    const size = Number(random.weighted(entries(options.sizes ?? DEFAULT_SIZES))) as SpriteSize;
    const room = PICTURE_SIZE - size;
    objects = [{ ...first, size, x: coordinate(room, place, random), y: coordinate(room, place, random) }];
  }
  return {
    objects,
    ...rest,
    ...(activity === undefined ? {} : { activity }),
    ...(people === undefined ? {} : { people }),
  };
}

/** Upper-left coordinate for a sprite that leaves `room` pixels. */
function coordinate(room: number, place: Placing, random: HashRandom): number {
  if (place === 'centre') return room / 2;
  if (place === 'grid') return random.integer(room / GRID_STEP + 1) * GRID_STEP;
  return random.integer(room + 1);
}

type Subject = Plan['subjects'][number];

/** Two small sprites that fill the picture along one axis, at one height along the other. */
function pair(a: Subject, b: Subject, relation: Relation, place: Placing, random: HashRandom): SceneObject[] {
  const across = coordinate(FAR, place, random);
  const [near, far] = relation === 'left' || relation === 'above' ? [0, FAR] : [FAR, 0];
  const horizontal = relation === 'left' || relation === 'right';
  const at = (along: number) => (horizontal ? { x: along, y: across } : { x: across, y: along });
  return [
    { ...a, size: SMALL, ...at(near) },
    { ...b, size: SMALL, ...at(far) },
  ];
}

function entries<K extends string | number>(weights: Partial<Record<K, number>>): [K, number][] {
  return Object.entries(weights) as [K, number][];
}

/** Whether no colour or style of a plan hides an object: a sketch is white paper without colours, a silhouette black by day. */
export function canBeSeen({ subjects, background, style }: Plan): boolean {
  if (style === 'sketch' && (background !== 'white' || subjects.some(({ colour }) => colour !== undefined))) {
    return false;
  }
  if (style === 'silhouette' && background === 'night') return false;
  return subjects.every(({ colour }) => visible(colour, background));
}
