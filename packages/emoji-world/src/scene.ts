import { GRID_STEP, PICTURE_SIZE, type SpriteSize } from './art.js';
import { nounOf } from './nouns.js';

/** The ten colours in which a noun can be drawn: GenEval's. ("orange" is only ever a colour: the fruit is a tangerine.) */
export const colours = [
  'red',
  'orange',
  'yellow',
  'green',
  'blue',
  'purple',
  'pink',
  'brown',
  'black',
  'white',
] as const;
export type Colour = (typeof colours)[number];

/** Plain white is the default and is not mentioned in captions. */
export const backgrounds = ['white', 'grass', 'sand', 'snow', 'night', 'sky', 'sea', 'road'] as const;
export type Background = (typeof backgrounds)[number];

/** Styles are filters over the whole picture. */
export const styles = ['sketch', 'pixel art', 'silhouette'] as const;
export type Style = (typeof styles)[number];

/** "A cat to the left of a dog": objects[0] relation objects[1]. */
export const relations = ['left', 'right', 'above', 'below'] as const;
export type Relation = (typeof relations)[number];

/** The papers' three activities, then the three that they keep for generalisation. */
export const activities = [
  'washing the dishes',
  'riding a bike',
  'playing chess',
  'doing laundry',
  'driving a car',
  'playing soccer',
] as const;
export type Activity = (typeof activities)[number];

/** The object drawn with each activity, and whether the animal is above it or to its left. */
export const activityProps: Readonly<Record<Activity, { noun: string; place: 'above' | 'left' }>> = {
  'washing the dishes': { noun: 'plate', place: 'left' },
  'riding a bike': { noun: 'bicycle', place: 'above' },
  'playing chess': { noun: 'chess pawn', place: 'left' },
  'doing laundry': { noun: 'shirt', place: 'left' },
  'driving a car': { noun: 'car', place: 'above' },
  'playing soccer': { noun: 'sports ball', place: 'left' },
};

/** How many people a scene shows besides its other objects. "many" is three. */
export const peopleCounts = ['no', 'one', 'many'] as const;
export type People = (typeof peopleCounts)[number];
export const PEOPLE_DRAWN: Readonly<Record<People, number>> = { no: 0, one: 1, many: 3 };

/** One sprite in a picture. `x`, `y`: its upper left corner, pixels. */
export interface SceneObject {
  readonly noun: string;
  readonly colour?: Colour;
  readonly size: SpriteSize;
  readonly x: number;
  readonly y: number;
}

/**
 * A picture, exactly. What the fields mean together:
 * - count scene: two to four objects of one noun;
 * - two nouns with a `relation`, or without one ("and");
 * - `activity`: objects[0] does it, objects[1] is its prop;
 * - `people`: the last objects are that many persons ("no" is said, nothing is drawn).
 */
export interface Scene {
  readonly objects: readonly SceneObject[];
  readonly background: Background;
  readonly style?: Style;
  readonly people?: People;
  readonly activity?: Activity;
  readonly relation?: Relation;
}

/** The objects that the caption names: all but the activity's prop and the people. */
export function subjectsOf(scene: Scene): readonly SceneObject[] {
  const people = scene.people === undefined ? 0 : PEOPLE_DRAWN[scene.people];
  const end = scene.objects.length - people - (scene.activity === undefined ? 0 : 1);
  return scene.objects.slice(0, end);
}

/** Whether `a` stands in `relation` to `b` by their centres, with a margin of at least `margin` pixels. */
export function relationHolds(
  relation: Relation,
  a: SceneObject,
  b: SceneObject,
  margin: number = GRID_STEP,
): boolean {
  const dx = b.x + b.size / 2 - (a.x + a.size / 2);
  const dy = b.y + b.size / 2 - (a.y + a.size / 2);
  if (relation === 'left') return dx >= margin;
  if (relation === 'right') return -dx >= margin;
  if (relation === 'above') return dy >= margin;
  return -dy >= margin;
}

/**
 * Pairs that would hide the object: a colour on a background like it. Sketches show no colours and only white paper,
 * silhouettes no colours and no night.
 */
const HIDDEN: ReadonlySet<string> = new Set([
  'white/white',
  'white/snow',
  'black/night',
  'green/grass',
  'blue/sea',
  'blue/sky',
  'yellow/sand',
]);

/** Whether an object of this colour can be seen on this background. */
export function visible(colour: Colour | undefined, background: Background): boolean {
  return colour === undefined || !HIDDEN.has(`${colour}/${background}`);
}

/**
 * Checks that a scene can be drawn and that its caption would be true.
 * @throws {Error} naming what is wrong.
 */
export function validateScene(scene: Scene): void {
  const fail = (what: string, rule: string): never => {
    throw new Error(`Scene: ${what} — ${rule}.`);
  };
  for (const { noun, size, x, y } of scene.objects) {
    nounOf(noun);
    if (x < 0 || y < 0 || x + size > PICTURE_SIZE || y + size > PICTURE_SIZE) {
      fail(`"${noun}" of ${size} px at (${x}, ${y}) leaves the picture`, 'sprites lie inside 64 x 64');
    }
  }
  const coloured = scene.objects.some((object) => object.colour !== undefined);
  if (scene.style === 'sketch' && (coloured || scene.background !== 'white')) {
    fail('a sketch with a colour or background', 'a sketch shows neither');
  }
  if (scene.style === 'silhouette' && (coloured || scene.background === 'night')) {
    fail('a silhouette with a colour or at night', 'a silhouette is black');
  }
  if (scene.relation !== undefined) {
    const [a, b] = subjectsOf(scene);
    if (a === undefined || b === undefined || !relationHolds(scene.relation, a, b)) {
      fail(`objects do not stand "${scene.relation}"`, 'the first of two objects stands so to the second');
    }
  }
  if (scene.activity !== undefined) {
    const { noun } = activityProps[scene.activity];
    if (scene.objects[1]?.noun !== noun) {
      fail(`"${scene.activity}" without its prop`, `the second object is a ${noun}`);
    }
  }
  if (scene.people !== undefined) {
    const drawn = scene.objects.filter((object) => object.noun === 'person').length;
    if (drawn !== PEOPLE_DRAWN[scene.people]) {
      fail(`${drawn} persons for "${scene.people}"`, 'no is 0, one is 1, many is 3');
    }
  }
}
