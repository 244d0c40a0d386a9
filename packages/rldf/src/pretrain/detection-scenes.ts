// Scenes that detectors learn from and are measured on: all kinds, places off the grid, and pictures made as rough as generated ones.
import {
  type ArtSet,
  boxesOf,
  HashRandom,
  nouns,
  PICTURE_SIZE,
  renderScene,
  type SampleOptions,
  type Scene,
  type Split,
  sampleScene,
} from '@rldf/emoji-world';
import type { LabelledBox } from '@rldf/models';
import { F, noGrad, noiseKey, normal, scope, type Tensor, uniform, where } from '@rldf/torch';
import { type PatchBasis, project, reconstruct } from './patch-basis.js';

/** Every kind of scene, half of them on a background, a fifth off the grid. */
export const detectionWorld: SampleOptions = {
  kinds: {
    single: 0.12,
    colour: 0.24,
    background: 0.1,
    count: 0.14,
    relation: 0.18,
    and: 0.06,
    activity: 0.05,
    people: 0.04,
    style: 0.05,
    long: 0.02,
  },
  plainShare: 0.5,
  places: { centre: 0.5, grid: 0.3, free: 0.2 },
  sizes: { 48: 0.75, 32: 0.25 },
};

export interface DetectionBatch {
  scenes: Scene[];
  pictures: Uint8Array[];
  /** The tight boxes of what can be seen, a picture each. */
  truths: LabelledBox[][];
}

export function detectionBatch(
  art: ArtSet,
  split: Split,
  seed: number,
  start: number,
  count: number,
  { world = detectionWorld, unsettle = false }: { world?: SampleOptions; unsettle?: boolean } = {},
): DetectionBatch {
  const batch: DetectionBatch = { scenes: [], pictures: [], truths: [] };
  for (let index = start; index < start + count; index++) {
    let scene = sampleScene(split, seed, index, world);
    const random = new HashRandom(seed, index, 0x5ca7);
    if (unsettle) scene = unsettled(scene, random);
    let picture = renderScene(scene, art);
    let truths = truthsOf(scene, art);
    if (unsettle && random.chance(CHIMERA_SHARE)) {
      picture = chimera(scene, art, random);
      truths = [];
    }
    batch.scenes.push(scene);
    batch.pictures.push(picture);
    batch.truths.push(truths);
  }
  return batch;
}

/** The objects of a scene with the tight boxes of their visible pixels. */
export function truthsOf(scene: Scene, art: ArtSet): LabelledBox[] {
  return boxesOf(scene, art).map(({ left, top, right, bottom }, i) => ({
    label: (scene.objects[i] as { noun: string }).noun,
    box: [left, top, right, bottom],
  }));
}

const MOVED_SHARE = 0.4;
const MOVED_BY = 6;
const EMPTY_SHARE = 0.02;
const CHIMERA_SHARE = 0.07;
const CHIMERA_PARTS = 3;

/** Some scenes lose all their objects, others have each moved by a few pixels: a detector must not count on the grid. */
function unsettled(scene: Scene, random: HashRandom): Scene {
  if (random.chance(EMPTY_SHARE)) return { ...scene, objects: [] };
  if (!random.chance(MOVED_SHARE)) return scene;
  const moved = (at: number, size: number) =>
    Math.min(PICTURE_SIZE - size, Math.max(0, at + random.integer(2 * MOVED_BY + 1) - MOVED_BY));
  const objects = scene.objects.map((object) => ({
    ...object,
    x: moved(object.x, object.size),
    y: moved(object.y, object.size),
  }));
  return { ...scene, objects };
}

/** Every block of the picture comes from one of several scenes of other nouns in the same places, or is their mean: colours and outlines, but no object. A poor model draws such things. */
function chimera(scene: Scene, art: ArtSet, random: HashRandom): Uint8Array {
  const parts = Array.from({ length: CHIMERA_PARTS }, () => {
    const objects = scene.objects.map((object) => ({ ...object, noun: random.choice(nouns).name }));
    return renderScene({ ...scene, objects }, art);
  });
  const side = random.choice([4, 8] as const);
  const meanShare = random.uniform();
  const drawn = new Uint8Array(PICTURE_SIZE * PICTURE_SIZE * 3);
  for (let top = 0; top < PICTURE_SIZE; top += side) {
    for (let left = 0; left < PICTURE_SIZE; left += side) {
      const sources = random.chance(meanShare) ? parts : [random.choice(parts)];
      for (let row = top; row < top + side; row++) {
        const start = (row * PICTURE_SIZE + left) * 3;
        for (let at = start; at < start + 3 * side; at++) {
          drawn[at] = sources.reduce((sum, source) => sum + source[at]!, 0) / sources.length;
        }
      }
    }
  }
  return drawn;
}

/**
 * Makes real pictures look as if a small latent model had drawn them: other gain and offset of the colours, what the
 * latent basis leaves of them with noise on its coefficients, blur. A quarter stays sharp.
 * @param images [B, 3, 64, 64] in [-1, 1]
 */
export function roughen(images: Tensor, basis: PatchBasis, seed: number, step: number): Tensor {
  const batch = images.shape[0] as number;
  const draw = (purpose: string, channels = 1) =>
    uniform([noiseKey(seed, `rough ${purpose}`, step)], [batch, channels, 1, 1]).squeeze(0);
  return noGrad(() =>
    scope(() => {
      const gain = draw('gain', 3).sub(0.5).mul(0.2).add(1);
      const offset = draw('offset', 3).sub(0.5).mul(0.12);
      const coloured = images.mul(gain).add(offset);
      const latents = project(basis, coloured);
      const noise = normal([noiseKey(seed, 'rough noise', step)], latents.shape).squeeze(0);
      const redrawn = reconstruct(basis, latents.add(noise.mul(draw('amount').square().mul(0.7))));
      const half = [PICTURE_SIZE / 2, PICTURE_SIZE / 2] as const;
      const blurred = F.interpolateBilinear(F.interpolateBilinear(redrawn, half, { antialias: true }), [
        PICTURE_SIZE,
        PICTURE_SIZE,
      ]);
      const share = draw('blur').sub(0.6).clamp(0).mul(2.5);
      const soft = redrawn.add(blurred.sub(redrawn).mul(share));
      return where(draw('sharp').lt(0.25), coloured, soft).clamp(-1, 1);
    }),
  );
}
