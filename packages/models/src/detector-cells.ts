// What both detectors share: 64 x 64 pictures seen as 8 x 8 cells, each of which says what is there and how far its edges are.
import { F, noGrad, scope, type Tensor, UserError } from '@rldf/torch';
import type { BoxEdges } from './detection.js';

/** Side of the pictures that detectors look at; others are resized. */
export const DETECTOR_SIZE = 64;
/** Side of a cell, pixels. */
export const CELL = 8;
export const CELLS_ACROSS = DETECTOR_SIZE / CELL;

// B batch · N cells, row by row · K labels
export interface CellPredictions {
  /** Logit that an object is there, [B, N] */
  objectness: Tensor;
  /** Logits of its label, [B, N, K] */
  classes: Tensor;
  /** From the cell's centre to the box's left, top, right and bottom edge, pixels, [B, N, 4] */
  distances: Tensor;
}

export interface DetectorOptions {
  /** Least score of what `detect` returns. Default 0.5. */
  threshold?: number;
}

/** Splits a head's output [B, N, 1 + 4 + K]; distances come in units of 8 px around 16. */
export function asPredictions(output: Tensor): CellPredictions {
  const labels = (output.shape[2] as number) - 5;
  const [objectness, distances, classes] = output.split([1, 4, labels], 2) as [Tensor, Tensor, Tensor];
  return { objectness: objectness.squeeze(2), distances: distances.mul(CELL).add(2 * CELL), classes };
}

export const cellCentre = (cell: number) => ({
  x: ((cell % CELLS_ACROSS) + 0.5) * CELL,
  y: (Math.floor(cell / CELLS_ACROSS) + 0.5) * CELL,
});

/** One picture's predictions as plain numbers. */
export interface CellReadings {
  /** Probability of an object, [N] */
  objectness: Float32Array;
  /** Probabilities of the labels, [N * K] */
  classes: Float32Array;
  /** [N] */
  boxes: BoxEdges[];
}

/**
 * Runs a network on uint8 pictures of any size.
 * @param images uint8 [B, H, W, 3]
 * @param read turns one picture's readings into what is wanted; boxes are scaled back by `toPicture`
 */
export function readCells<T>(
  images: Tensor,
  forward: (images: Tensor) => CellPredictions,
  read: (readings: CellReadings, toPicture: (box: BoxEdges) => BoxEdges) => T,
): T[] {
  const [batch = 0, height = 0, width = 0, channels] = images.shape;
  if (images.shape.length !== 4 || channels !== 3 || images.dtype !== 'uint8') {
    throw new UserError(
      `detect: images are ${images.dtype} [${images.shape}] — uint8 [batch, height, width, 3] is needed.`,
    );
  }
  const [objectness, classes, distances] = noGrad(() =>
    scope(() => {
      const floats = images.permute([0, 3, 1, 2]).to('float32').div(127.5).sub(1).contiguous();
      const size = [DETECTOR_SIZE, DETECTOR_SIZE] as const;
      const same = height === DETECTOR_SIZE && width === DETECTOR_SIZE;
      const predictions = forward(same ? floats : F.interpolateBilinear(floats, size, { antialias: true }));
      return [
        predictions.objectness.sigmoid().toArray(),
        predictions.classes.softmax(2).toArray(),
        predictions.distances.toArray(),
      ] as Float32Array[];
    }),
  ) as [Float32Array, Float32Array, Float32Array];
  const cells = objectness.length / batch;
  const labels = classes.length / objectness.length;
  const toPicture = ([x0, y0, x1, y1]: BoxEdges): BoxEdges => {
    const across = (x: number) => (Math.min(Math.max(x, 0), DETECTOR_SIZE) * width) / DETECTOR_SIZE;
    const down = (y: number) => (Math.min(Math.max(y, 0), DETECTOR_SIZE) * height) / DETECTOR_SIZE;
    return [across(x0), down(y0), across(x1), down(y1)];
  };
  return Array.from({ length: batch }, (_, picture) => {
    const boxes = Array.from({ length: cells }, (_, cell): BoxEdges => {
      const { x, y } = cellCentre(cell);
      const at = (picture * cells + cell) * 4;
      return [x - distances[at]!, y - distances[at + 1]!, x + distances[at + 2]!, y + distances[at + 3]!];
    });
    const readings = {
      objectness: objectness.subarray(picture * cells, (picture + 1) * cells),
      classes: classes.subarray(picture * cells * labels, (picture + 1) * cells * labels),
      boxes,
    };
    return read(readings, toPicture);
  });
}

/** The likeliest label of `probabilities[start .. start + count]`. */
export function likeliest(probabilities: Float32Array, start: number, count: number) {
  let best = 0;
  for (let k = 1; k < count; k++) {
    if (probabilities[start + k]! > probabilities[start + best]!) best = k;
  }
  return { index: best, probability: probabilities[start + best]! };
}
