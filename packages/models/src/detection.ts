// What detectors say, and how it is counted: boxes, suppression, average precision. Plain TypeScript, no tensors.
import type { Tensor } from '@rldf/torch';

/** Left, top, right and bottom edge, pixels; right and bottom are exclusive. */
export type BoxEdges = [x0: number, y0: number, x1: number, y1: number];

export interface Detection {
  label: string;
  /** In [0, 1]. */
  score: number;
  box: BoxEdges;
}

/** An object that is there. */
export type LabelledBox = Pick<Detection, 'label' | 'box'>;

export interface Detector {
  /** Every label it can give. */
  readonly labels: readonly string[];
  /** Whether its labels are words of its own, in which prompts are then read, and not the built-in world's nouns. */
  readonly ownWords?: boolean;
  /** Licence of its weights, where it is known. */
  readonly licence?: string;
  /** Of one whose weights are not here yet: loads what it needs. @throws UserError that says what to install */
  ready?(): Promise<void>;
  /**
   * What each picture shows, best score first.
   * @param images uint8 [B, H, W, 3]
   * @param options.threshold least score; the detector's own, calibrated one by default
   */
  detect(images: Tensor, options?: { threshold?: number }): Detection[][] | Promise<Detection[][]>;
}

/** One that computes with tensors of ours, and answers at once. */
export interface LocalDetector extends Detector {
  detect(images: Tensor, options?: { threshold?: number }): Detection[][];
}

const areaOf = ([x0, y0, x1, y1]: BoxEdges) => Math.max(0, x1 - x0) * Math.max(0, y1 - y0);

/** Area of the intersection over area of the union, in [0, 1]; 0 for two empty boxes. */
export function intersectionOverUnion(a: BoxEdges, b: BoxEdges): number {
  const common = areaOf([
    Math.max(a[0], b[0]),
    Math.max(a[1], b[1]),
    Math.min(a[2], b[2]),
    Math.min(a[3], b[3]),
  ]);
  const union = areaOf(a) + areaOf(b) - common;
  return union === 0 ? 0 : common / union;
}

export interface SuppressionOptions {
  /** Boxes that overlap a better one by more than this are dropped. Default 0.5. */
  overlap?: number;
  /** `class`: only a better box of the same label suppresses; `all`: any better box does. Default `class`. */
  within?: 'class' | 'all';
}

/** Greedy non-maximum suppression. @returns the detections kept, best score first */
export function nonMaximumSuppression(
  detections: readonly Detection[],
  { overlap = 0.5, within = 'class' }: SuppressionOptions = {},
): Detection[] {
  const kept: Detection[] = [];
  for (const candidate of detections.toSorted((a, b) => b.score - a.score)) {
    const suppressed = kept.some(
      ({ label, box }) =>
        (within === 'all' || label === candidate.label) &&
        intersectionOverUnion(box, candidate.box) > overlap,
    );
    if (!suppressed) kept.push(candidate);
  }
  return kept;
}

/** One picture's detections, each right or wrong, beside what was there to be found. */
export interface PictureMatches {
  detections: { label: string; score: number; correct: boolean }[];
  /** Labels of the objects there, one an object. */
  truths: string[];
}

/**
 * Best score first, each detection takes the object of its label that it overlaps most, if by at least `overlap` and
 * not yet taken (as in Pascal VOC; Everingham et al. 2010).
 */
export function matchDetections(
  detections: readonly Detection[],
  truths: readonly LabelledBox[],
  overlap = 0.5,
): PictureMatches {
  const taken = new Set<LabelledBox>();
  const matched = detections
    .toSorted((a, b) => b.score - a.score)
    .map(({ label, score, box }) => {
      const [best, most] = truths
        .filter((truth) => truth.label === label)
        .map((truth) => [truth, intersectionOverUnion(truth.box, box)] as const)
        .reduce<readonly [LabelledBox | undefined, number]>(
          (most, next) => (next[1] > most[1] ? next : most),
          [undefined, 0],
        );
      const correct = best !== undefined && most >= overlap && !taken.has(best);
      if (correct) taken.add(best);
      return { label, score, correct };
    });
  return { detections: matched, truths: truths.map(({ label }) => label) };
}

/**
 * Mean over labels of the average precision: the area under the precision-recall curve, precision made to fall
 * (Pascal VOC since 2010). Labels that no picture shows do not count. With matches at IoU 0.5 this is mAP50.
 * @returns in [0, 1]; NaN when there is nothing to be found
 */
export function meanAveragePrecision(pictures: readonly PictureMatches[]): number {
  const found = new Map<string, { score: number; correct: boolean }[]>();
  const present = new Map<string, number>();
  for (const { detections, truths } of pictures) {
    for (const label of truths) present.set(label, (present.get(label) ?? 0) + 1);
    for (const detection of detections) {
      const list = found.get(detection.label);
      if (list === undefined) found.set(detection.label, [detection]);
      else list.push(detection);
    }
  }
  const precisions = [...present].map(([label, count]) => averagePrecision(found.get(label) ?? [], count));
  return precisions.reduce((sum, value) => sum + value, 0) / precisions.length;
}

/** Area under one label's precision-recall curve. @param present how many objects were to be found */
export function averagePrecision(
  detections: readonly { score: number; correct: boolean }[],
  present: number,
): number {
  let right = 0;
  const precisions: number[] = []; // at each object found
  for (const [i, { correct }] of detections.toSorted((a, b) => b.score - a.score).entries()) {
    if (!correct) continue;
    right++;
    precisions.push(right / (i + 1));
  }
  let area = 0;
  let best = 0;
  for (const precision of precisions.toReversed()) {
    best = Math.max(best, precision);
    area += best / present;
  }
  return area;
}
