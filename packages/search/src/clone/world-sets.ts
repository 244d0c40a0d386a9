/** The real data sets of the built-in world: training and held-out scenes of the base model's art, and the same held-out scenes shifted. */

import { createHash } from 'node:crypto';
import {
  backgrounds,
  colours,
  HashRandom,
  hashString,
  loadArt,
  nouns,
  type Plan,
  placePlan,
  renderScene,
  type Scene,
  visible,
} from '@rldf/emoji-world';
import { UserError } from '@rldf/torch/errors';
import { type LabelledSet, setOf } from './labelled-set.js';

/** Sets that show the same scenes otherwise: the other art sets, of which OpenMoji trained nothing in this repository, and pencil sketches. */
export const worldShifts = ['twemoji', 'fluent-emoji-flat', 'openmoji', 'sketch'] as const;

export interface RealSets {
  train: LabelledSet;
  test: LabelledSet;
  shifts: Record<string, LabelledSet>;
}

/** Half of the pictures are plain; a fifth of the objects has a colour that is not its own. */
const PLAIN = 0.5;
const COLOURED = 0.2;

/**
 * Pictures of one object at any place and of both sizes, on all backgrounds, drawn in the base model's art. Training and
 * held-out pictures come from one distribution, and none is in both.
 * @throws UserError for a class that is no noun of the world
 */
export async function worldSets(
  classes: readonly string[],
  { perClass, testPerClass, seed = 0 }: { perClass: number; testPerClass: number; seed?: number },
): Promise<RealSets> {
  const known = new Set(nouns.map(({ name }) => name));
  const foreign = classes.filter((name) => !known.has(name));
  if (foreign.length > 0)
    throw new UserError(
      `--real world: it has no ${foreign.slice(0, 5).join(', ')} — the classes must be nouns of the built-in world. Give the real pictures with --real FOLDER`,
    );
  const art = await loadArt('noto');
  const labels = (count: number) => classes.flatMap((_, label) => Array<number>(count).fill(label));
  const taken = new Set<string>();
  const scenes = (purpose: number, count: number, take: (picture: Uint8Array) => boolean) => {
    const kept: Scene[] = [];
    const pictures: Uint8Array[] = [];
    for (const noun of classes) {
      for (let index = 0, left = count; left > 0; index++) {
        const scene = realScene(noun, new HashRandom(seed, purpose, hashString(noun), index));
        const picture = renderScene(scene, art);
        if (!take(picture)) continue;
        kept.push(scene);
        pictures.push(picture);
        left--;
      }
    }
    return { scenes: kept, pictures };
  };
  const train = scenes(0, perClass, (picture) => {
    taken.add(digest(picture));
    return true;
  });
  const test = scenes(1, testPerClass, (picture) => !taken.has(digest(picture)));
  const shifts: Record<string, LabelledSet> = {};
  for (const name of worldShifts) {
    const shifted = name === 'sketch' ? art : await loadArt(name);
    const pictures = test.scenes.map((scene) =>
      renderScene(name === 'sketch' ? sketched(scene) : scene, shifted),
    );
    shifts[name] = setOf(classes, labels(testPerClass), pictures);
  }
  return {
    train: setOf(classes, labels(perClass), train.pictures),
    test: setOf(classes, labels(testPerClass), test.pictures),
    shifts,
  };
}

function realScene(noun: string, random: HashRandom): Scene {
  for (;;) {
    const background = random.chance(PLAIN) ? 'white' : random.choice(backgrounds);
    const colour = random.chance(COLOURED) ? random.choice(colours) : undefined;
    if (!visible(colour, background)) continue;
    const subject = colour === undefined ? { noun } : { noun, colour };
    const plan: Plan = { subjects: [subject], count: 1, background };
    return placePlan(plan, random, { places: { free: 1 } });
  }
}

/** A sketch shows neither colours nor backgrounds. */
function sketched({ objects }: Scene): Scene {
  const plain = objects.map(({ colour: _, ...object }) => object);
  return { objects: plain, background: 'white', style: 'sketch' };
}

const digest = (picture: Uint8Array) => createHash('sha1').update(picture).digest('base64');
