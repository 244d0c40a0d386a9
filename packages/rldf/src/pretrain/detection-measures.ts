// How well a detector finds the objects of held-out real scenes.

import { quantile } from '@rldf/common/base/stats';
import { type ArtSet, HashRandom, loadArt, type SampleOptions, type Scene } from '@rldf/emoji-world';
import {
  type Detection,
  type LabelledBox,
  type LocalDetector,
  matchDetections,
  meanAveragePrecision,
  type PictureMatches,
} from '@rldf/models';
import { scope, tensor } from '@rldf/torch';
import { detectionBatch } from './detection-scenes.js';

/** Average precision looks at detections down to this score. */
const LOWEST = 0.02;
const CHUNK = 64;

interface Found {
  scene: Scene;
  truths: LabelledBox[];
  /** Down to LOWEST. */
  detections: Detection[];
}

export interface DetectorMeasureOptions {
  split?: 'validation' | 'test';
  seed: number;
  pictures?: number;
  /** Least score that counts as found. */
  threshold: number;
}

/** What a detector finds in held-out scenes. */
export async function findAll(
  detector: LocalDetector,
  {
    split,
    seed,
    pictures,
    world,
    redraw = (drawn) => drawn,
  }: {
    split: 'validation' | 'test';
    seed: number;
    pictures: number;
    world?: SampleOptions;
    /** What becomes of each batch of pictures before the detector sees them. */
    redraw?: (pictures: Uint8Array[]) => Uint8Array[];
  },
): Promise<Found[]> {
  const art: ArtSet = await loadArt('noto');
  const found: Found[] = [];
  for (let start = 0; start < pictures; start += CHUNK) {
    const count = Math.min(CHUNK, pictures - start);
    const batch = detectionBatch(art, split, seed, start, count, world === undefined ? {} : { world });
    const flat = new Uint8Array(count * 64 * 64 * 3);
    redraw(batch.pictures).forEach((picture, i) => {
      flat.set(picture, i * picture.length);
    });
    const detections = scope(() =>
      detector.detect(tensor(flat, { shape: [count, 64, 64, 3] }), { threshold: LOWEST }),
    );
    for (const [i, truths] of batch.truths.entries()) {
      found.push({ scene: batch.scenes[i] as Scene, truths, detections: detections[i] as Detection[] });
    }
  }
  return found;
}

export const matchesOf = (found: readonly Found[]): PictureMatches[] =>
  found.map(({ detections, truths }) => matchDetections(detections, truths));

/** Whether exactly the scene's objects are found, as often as they are there. */
export function objectsRight({ detections, truths }: Found, threshold: number): boolean {
  const names = detections.filter(({ score }) => score >= threshold).map(({ label }) => label);
  return (
    names.toSorted().join() ===
    truths
      .map(({ label }) => label)
      .toSorted()
      .join()
  );
}

/** Whether both objects of a relation are found once each, with their centres in this relation. */
export function relationRight({ scene, detections }: Found, threshold: number): boolean {
  const [a, b] = scene.objects.slice(0, 2).map(({ noun }) => {
    const named = detections.filter(({ label, score }) => label === noun && score >= threshold);
    return named.length === 1 ? (named[0] as Detection) : undefined;
  });
  if (a === undefined || b === undefined) return false;
  const right = b.box[0] + b.box[2] - a.box[0] - a.box[2];
  const below = b.box[1] + b.box[3] - a.box[1] - a.box[3];
  return { left: right > 0, right: right < 0, above: below > 0, below: below < 0 }[
    scene.relation as 'left' | 'right' | 'above' | 'below'
  ];
}

/** The threshold in [0.1, 0.9] with which most validation pictures have exactly their objects found. */
export async function calibrate(detector: LocalDetector, seed: number, pictures = 1024): Promise<number> {
  const found = await findAll(detector, { split: 'validation', seed, pictures });
  const candidates = Array.from({ length: 33 }, (_, i) => 0.1 + i / 40);
  const right = candidates.map((threshold) => found.filter((one) => objectsRight(one, threshold)).length);
  const most = Math.max(...right);
  // the middle of the best ones: neither end of the plateau
  const best = candidates.filter((_, i) => right[i] === most);
  return Number((best[Math.floor(best.length / 2)] as number).toFixed(3));
}

export const relationWorld: SampleOptions = { kinds: { relation: 1 }, plainShare: 0.7 };

/** Mean average precision at IoU 0.5, and at the threshold: exact objects of all kinds of scenes, relations of pairs. */
export async function measureDetector(
  detector: LocalDetector,
  { split = 'test', seed, pictures = 1024, threshold }: DetectorMeasureOptions,
): Promise<{ mAP50: number; objects: number; relation: number }> {
  const found = await findAll(detector, { split, seed, pictures });
  const pairs = await findAll(detector, {
    split,
    seed: seed + 1,
    pictures: pictures / 2,
    world: relationWorld,
  });
  const share = (list: readonly Found[], right: (one: Found, threshold: number) => boolean) =>
    list.filter((one) => right(one, threshold)).length / list.length;
  return {
    mAP50: meanAveragePrecision(matchesOf(found)),
    objects: share(found, objectsRight),
    relation: share(pairs, relationRight),
  };
}

/** Percentile bootstrap of the mean average precision: pictures are drawn again with replacement. */
export function bootstrapAveragePrecision(
  pictures: readonly PictureMatches[],
  seed: number,
  resamples = 200,
): [low: number, high: number] {
  const random = new HashRandom(seed);
  const values = Array.from({ length: resamples }, () =>
    meanAveragePrecision(pictures.map(() => random.choice(pictures))),
  ).sort((a, b) => a - b);
  return [quantile(values, 0.025), quantile(values, 0.975)];
}
