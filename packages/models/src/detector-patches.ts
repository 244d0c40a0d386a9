import { Conv2d, GroupNorm, type ParameterPath, scope, type Tensor } from '@rldf/torch';
import { type BoxEdges, type Detection, type Detector, intersectionOverUnion } from './detection.js';
import {
  asPredictions,
  CELL,
  CELLS_ACROSS,
  type CellPredictions,
  cellCentre,
  type DetectorOptions,
  likeliest,
  readCells,
} from './detector-cells.js';

const WIDTH = 128;
const LAYERS = 4;
/** Each patch is seen with half a patch around it. */
const VIEW = 16;
/** Votes for one object agree to at least this intersection over union. */
const AGREEMENT = 0.4;
/** A cell votes from this probability of an object on. */
const VOTES_FROM = 0.2;
/** Share of a cell that an object must cover for the cell to vote for it. */
const COVERED = 0.25;

/**
 * A detector of another kind than `OneStageDetector`: 64 overlapping patches, embedded linearly and mixed by residual
 * convolutions at one resolution, each classify what covers them and vote for its box; agreeing votes are pooled into
 * one detection, as in generalised Hough voting (Leibe et al. 2008). No pyramid, no object centres, no suppression of
 * maxima: its mistakes are others.
 */
export class PatchVotingDetector implements Detector {
  readonly labels: readonly string[];
  readonly #threshold: number;
  readonly #embedding: Conv2d;
  readonly #layers: { norm: GroupNorm; conv: Conv2d }[];
  readonly #norm: GroupNorm;
  readonly #head: Conv2d;

  constructor(path: ParameterPath, labels: readonly string[], { threshold = 0.5 }: DetectorOptions = {}) {
    this.labels = labels;
    this.#threshold = threshold;
    this.#embedding = new Conv2d(path.at('patch_embedding'), 3, WIDTH, VIEW, {
      stride: CELL,
      padding: (VIEW - CELL) / 2,
    });
    this.#layers = Array.from({ length: LAYERS }, (_, layer) => ({
      norm: new GroupNorm(path.at('layers', layer, 'norm'), 16, WIDTH),
      conv: new Conv2d(path.at('layers', layer, 'conv'), WIDTH, WIDTH, 3, { padding: 1 }),
    }));
    this.#norm = new GroupNorm(path.at('norm'), 16, WIDTH);
    this.#head = new Conv2d(path.at('head'), WIDTH, 5 + labels.length, 1, { init: { normal: 0.02 } });
  }

  /** @param images [B, 3, 64, 64] in [-1, 1] */
  forward(images: Tensor): CellPredictions {
    return scope(() => {
      let hidden = this.#embedding.forward(images); // [B, 128, 8, 8]
      for (const { norm, conv } of this.#layers)
        hidden = hidden.add(conv.forward(norm.forward(hidden).silu()));
      const output = this.#head.forward(this.#norm.forward(hidden).silu()); // [B, 5 + K, 8, 8]
      return asPredictions(output.flatten(2).transpose(1, 2));
    });
  }

  detect(images: Tensor, { threshold = this.#threshold }: { threshold?: number } = {}): Detection[][] {
    const { labels } = this;
    return readCells(
      images,
      (pixels) => this.forward(pixels),
      ({ objectness, classes, boxes }, toPicture) =>
        poolVotes(objectness, boxes)
          .map(({ cells, box, weight }): Detection => {
            const pooled = new Float32Array(labels.length);
            for (const cell of cells) {
              for (let k = 0; k < labels.length; k++) {
                pooled[k]! += (objectness[cell]! * classes[cell * labels.length + k]!) / weight;
              }
            }
            const { index, probability } = likeliest(pooled, 0, labels.length);
            const cast = Math.min(1, weight / Math.max(1, cellsCovered(box).length));
            return { label: labels[index]!, score: cast * probability, box: toPicture(box) };
          })
          .filter(({ score }) => score >= threshold)
          .sort((a, b) => b.score - a.score),
    );
  }
}

interface Poll {
  cells: number[];
  /** Mean of the votes' boxes, weighted by objectness. */
  box: BoxEdges;
  /** Sum of the votes' objectness. */
  weight: number;
}

/** The surest cell opens a poll, all cells whose boxes agree with its join; then the surest of those left. */
export function poolVotes(objectness: ArrayLike<number>, boxes: readonly BoxEdges[]): Poll[] {
  let left = [...boxes.keys()]
    .filter((cell) => objectness[cell]! >= VOTES_FROM)
    .sort((a, b) => objectness[b]! - objectness[a]!);
  const polls: Poll[] = [];
  while (left.length > 0) {
    const opener = boxes[left[0]!]!;
    // the opener always joins, even with an empty box
    const agrees = (cell: number) =>
      cell === left[0] || intersectionOverUnion(boxes[cell]!, opener) >= AGREEMENT;
    const cells = left.filter(agrees);
    left = left.filter((cell) => !agrees(cell));
    const weight = cells.reduce((sum, cell) => sum + objectness[cell]!, 0);
    const edge = (i: number) =>
      cells.reduce((sum, cell) => sum + objectness[cell]! * boxes[cell]![i]!, 0) / weight;
    polls.push({ cells, box: [edge(0), edge(1), edge(2), edge(3)], weight });
  }
  return polls;
}

/** The cells that vote for an object: a quarter covered by its box, or those nearest to covered for a thin one. */
export function cellsCovered([x0, y0, x1, y1]: BoxEdges): number[] {
  const shares = Array.from({ length: CELLS_ACROSS ** 2 }, (_, cell) => {
    const { x, y } = cellCentre(cell);
    const across = Math.min(x1, x + CELL / 2) - Math.max(x0, x - CELL / 2);
    const down = Math.min(y1, y + CELL / 2) - Math.max(y0, y - CELL / 2);
    return (Math.max(0, across) * Math.max(0, down)) / CELL ** 2;
  });
  const least = Math.min(COVERED, Math.max(...shares));
  return [...shares.keys()].filter((cell) => shares[cell]! > 0 && shares[cell]! >= least);
}
