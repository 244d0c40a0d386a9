// What can be wrong with a picture of a scene, done to the scene before it is drawn and to the pixels after, by known amounts.
import {
  type ArtSet,
  backgrounds,
  boxesOf,
  colours,
  type HashRandom,
  nouns,
  PICTURE_SIZE,
  renderScene,
  type Scene,
  type SceneObject,
  subjectsOf,
  visible,
} from '@rldf/emoji-world';
import type { PatchBasis } from './patch-basis.js';

/** How much of each flaw a picture has; 0 is none. */
export interface Flaws {
  /** Share of the objects asked for that are not there, 0 to 1. */
  missing: number;
  /** Share of them that are other objects, 0 to 1. */
  wrong: number;
  /** 1: the objects stand otherwise than asked for. */
  relation: number;
  /** Objects too many or too few. */
  count: number;
  /** 1: an object in another colour. */
  colour: number;
  /** 1: another background. */
  background: number;
  /** Share of the first object that is cut away, 0 to 1. */
  incomplete: number;
  /** 0 sharp, 1 hardly to be recognised. */
  blur: number;
  /** 0 clean, 1 a standard deviation of 60 grey levels. */
  noise: number;
  /** Share of the contrast with the background that is lost, 0 to 1. */
  faded: number;
  /** 1: an empty picture or pure noise. */
  nothing: number;
  /** 1: drawn by a model, with its small faults. */
  generated: number;
}

export const NO_FLAWS: Readonly<Flaws> = {
  missing: 0,
  wrong: 0,
  relation: 0,
  count: 0,
  colour: 0,
  background: 0,
  incomplete: 0,
  blur: 0,
  noise: 0,
  faded: 0,
  nothing: 0,
  generated: 0,
};

/** How pictures lose sharpness: by a Gaussian, or (some of them) by leaving out components of the latent space. */
export type Blur = { kind: 'gaussian' } | { kind: 'mixed'; basis: PatchBasis };

export interface FlawedPicture {
  /** RGB bytes [64, 64, 3] */
  picture: Uint8Array;
  flaws: Flaws;
}

const SHARE_OF_TRUE_SCENES = 0.45;
const SHARE_OF_CLEAN_PICTURES = 0.45;
const SHARE_OF_NOTHING = 0.03;

/** Draws a scene with flaws that `random` chooses, often none. */
export function drawFlawed(scene: Scene, art: ArtSet, random: HashRandom, blur: Blur): FlawedPicture {
  const flaws = { ...NO_FLAWS };
  if (random.chance(SHARE_OF_NOTHING)) {
    const empty = renderScene({ ...scene, objects: [] }, art);
    const picture = random.chance(0.5) ? empty : addNoise(empty.fill(128), 90, random);
    return { picture, flaws: { ...flaws, nothing: 1 } };
  }
  const shown = random.chance(SHARE_OF_TRUE_SCENES) ? scene : spoilScene(scene, flaws, random);
  let picture = renderScene(shown, art);
  const empty = renderScene({ ...shown, objects: [] }, art);
  if (random.chance(SHARE_OF_CLEAN_PICTURES)) return { picture, flaws };
  const severity = () => 0.25 + 0.75 * random.uniform();
  for (const kind of random.sample(
    ['blur', 'noise', 'faded', 'incomplete'] as const,
    random.chance(0.8) ? 1 : 2,
  )) {
    flaws[kind] = severity();
    if (kind === 'faded') picture = fade(picture, empty, flaws.faded);
    else if (kind === 'incomplete') picture = cutAway(picture, empty, shown, art, flaws.incomplete, random);
    else if (kind === 'noise') picture = addNoise(picture, 60 * flaws.noise, random);
    else if (blur.kind === 'mixed' && random.chance(0.5)) picture = truncate(picture, blur.basis, flaws.blur);
    else picture = gaussian(picture, 0.4 + 2.2 * flaws.blur);
  }
  return { picture, flaws };
}

/** Another scene in its place, of which the caption is no longer true; what was done is entered into `flaws`. */
function spoilScene(scene: Scene, flaws: Flaws, random: HashRandom): Scene {
  const { objects } = scene;
  const subjects = subjectsOf(scene);
  const counted = subjects.length > 1 && subjects.every(({ noun }) => noun === subjects[0]?.noun);
  const index = random.integer(subjects.length);
  const changed = (change: (object: SceneObject) => SceneObject): Scene => ({
    ...scene,
    objects: objects.map((object, i) => (i === index ? change(object) : object)),
  });
  const possible = ['missing', 'wrong', 'wrong'] as (keyof Flaws)[];
  if (scene.relation !== undefined) possible.push('relation', 'relation');
  if (counted) possible.push('count', 'count');
  if (subjects[index]?.colour !== undefined) possible.push('colour', 'colour');
  if (scene.background !== 'white') possible.push('background');
  const flaw = random.choice(possible);
  if (flaw === 'relation') {
    flaws.relation = 1;
    const [a, b] = objects as [SceneObject, SceneObject];
    return {
      ...scene,
      objects: [
        { ...a, x: b.x, y: b.y },
        { ...b, x: a.x, y: a.y },
      ],
    };
  }
  if (flaw === 'missing' || flaw === 'count') {
    flaws[flaw] = flaw === 'count' ? 1 : 1 / subjects.length;
    return { ...scene, objects: objects.filter((_, i) => i !== index) };
  }
  if (flaw === 'background') {
    const others = backgrounds.filter(
      (name) => name !== scene.background && objects.every(({ colour }) => visible(colour, name)),
    );
    flaws.background = 1;
    return { ...scene, background: random.choice(others) };
  }
  if (flaw === 'colour') {
    const now = objects[index]?.colour;
    const others = colours.filter((name) => name !== now && visible(name, scene.background));
    flaws.colour = 1;
    return changed((object) => ({ ...object, colour: random.choice(others) }));
  }
  const asked = new Set(subjects.map(({ noun }) => noun));
  flaws.wrong = 1 / subjects.length;
  return changed((object) => ({
    ...object,
    noun: random.choice(nouns.filter(({ name }) => !asked.has(name))).name,
  }));
}

function fade(picture: Uint8Array, empty: Uint8Array, share: number): Uint8Array {
  return picture.map((value, i) => Math.round(value + 0.85 * share * ((empty[i] as number) - value)));
}

/** Puts the background over one side of the first object. */
function cutAway(
  picture: Uint8Array,
  empty: Uint8Array,
  scene: Scene,
  art: ArtSet,
  share: number,
  random: HashRandom,
): Uint8Array {
  const box = boxesOf(scene, art)[0];
  if (box === undefined) return picture;
  const cut = { ...box };
  const across = Math.round((box.right - box.left) * share * 0.7);
  const down = Math.round((box.bottom - box.top) * share * 0.7);
  const side = random.choice(['left', 'right', 'top', 'bottom'] as const);
  if (side === 'left') cut.right = box.left + across;
  if (side === 'right') cut.left = box.right - across;
  if (side === 'top') cut.bottom = box.top + down;
  if (side === 'bottom') cut.top = box.bottom - down;
  const drawn = picture.slice();
  for (let y = cut.top; y < cut.bottom; y++) {
    const [from, to] = [(y * PICTURE_SIZE + cut.left) * 3, (y * PICTURE_SIZE + cut.right) * 3];
    drawn.set(empty.subarray(from, to), from);
  }
  return drawn;
}

/** @param deviation grey levels */
export function addNoise(picture: Uint8Array, deviation: number, random: HashRandom): Uint8Array {
  // a sum of three uniforms is close enough to a normal distribution, and quick
  const deviate = () => 2 * (random.uniform() + random.uniform() + random.uniform() - 1.5);
  return picture.map((value) => Math.max(0, Math.min(255, Math.round(value + deviation * deviate()))));
}

/** @param sigma pixels */
export function gaussian(picture: Uint8Array, sigma: number): Uint8Array {
  const radius = Math.ceil(2 * sigma);
  const weights = Array.from({ length: 2 * radius + 1 }, (_, i) =>
    Math.exp(-(((i - radius) / sigma) ** 2) / 2),
  );
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const last = PICTURE_SIZE - 1;
  const pass = (from: ArrayLike<number>, across: boolean) => {
    const to = new Float32Array(from.length);
    for (let y = 0; y <= last; y++) {
      for (let x = 0; x <= last; x++) {
        for (let c = 0; c < 3; c++) {
          let sum = 0;
          for (let k = -radius; k <= radius; k++) {
            const column = across ? Math.max(0, Math.min(last, x + k)) : x;
            const row = across ? y : Math.max(0, Math.min(last, y + k));
            sum += (weights[k + radius] as number) * (from[(row * PICTURE_SIZE + column) * 3 + c] as number);
          }
          to[(y * PICTURE_SIZE + x) * 3 + c] = sum / total;
        }
      }
    }
    return to;
  };
  return Uint8Array.from(pass(pass(picture, true), false), Math.round);
}

const PATCH = 8;
const PATCHES = PICTURE_SIZE / PATCH;
const arrays = new WeakMap<PatchBasis, { mean: Float32Array; components: Float32Array; count: number }>();

/** Leaves out the finer components of each 8 x 8 patch: what a weak model of the latents loses. */
function truncate(picture: Uint8Array, basis: PatchBasis, severity: number): Uint8Array {
  let numbers = arrays.get(basis);
  if (numbers === undefined) {
    const [count = 0] = basis.components.shape;
    numbers = {
      mean: basis.mean.toArray() as Float32Array,
      components: basis.components.toArray() as Float32Array,
      count,
    };
    arrays.set(basis, numbers);
  }
  const { mean, components, count } = numbers;
  const kept = Math.max(3, Math.round(count * (1 - severity)));
  const size = mean.length;
  const drawn = new Uint8Array(picture.length);
  const patch = new Float32Array(size);
  const rebuilt = new Float32Array(size);
  for (let p = 0; p < PATCHES * PATCHES; p++) {
    const corner = Math.floor(p / PATCHES) * PATCH * PICTURE_SIZE + (p % PATCHES) * PATCH;
    // the basis counts channel, row, column
    const at = (i: number) =>
      (corner + (Math.floor(i / PATCH) % PATCH) * PICTURE_SIZE + (i % PATCH)) * 3 +
      Math.floor(i / PATCH ** 2);
    for (let i = 0; i < size; i++) {
      patch[i] = (picture[at(i)] as number) / 127.5 - 1 - (mean[i] as number);
      rebuilt[i] = mean[i] as number;
    }
    for (let k = 0; k < kept; k++) {
      let coefficient = 0;
      for (let i = 0; i < size; i++)
        coefficient += (components[k * size + i] as number) * (patch[i] as number);
      for (let i = 0; i < size; i++)
        rebuilt[i] = (rebuilt[i] as number) + coefficient * (components[k * size + i] as number);
    }
    for (let i = 0; i < size; i++)
      drawn[at(i)] = Math.max(0, Math.min(255, Math.round(((rebuilt[i] as number) + 1) * 127.5)));
  }
  return drawn;
}
