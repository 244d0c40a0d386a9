/** Detections drawn into a picture, for contact sheets. */

import type { Picture } from '@rldf/common/base/picture';
import type { Detection } from '@rldf/models';

const PALETTE = [
  [220, 38, 38],
  [37, 99, 235],
  [22, 163, 74],
  [147, 51, 234],
] as const;

/** The picture enlarged by a whole factor, with a frame around each detection: red the best, then blue, green, purple. */
export function withBoxes(picture: Picture, detections: readonly Detection[], scale: number): Picture {
  const width = picture.width * scale;
  const height = picture.height * scale;
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (Math.floor(y / scale) * picture.width + Math.floor(x / scale)) * 3;
      data.set(picture.data.subarray(from, from + 3), (y * width + x) * 3);
    }
  }
  const paint = (x: number, y: number, tone: readonly number[]) => {
    const [column, row] = [Math.min(width - 1, Math.max(0, x)), Math.min(height - 1, Math.max(0, y))];
    data.set(tone, (row * width + column) * 3);
  };
  for (const [index, { box }] of detections.entries()) {
    const [left, top, right, bottom] = box.map((edge) => Math.round(edge * scale)) as [
      number,
      number,
      number,
      number,
    ];
    const tone = PALETTE[Math.min(index, PALETTE.length - 1)]!;
    for (let x = left; x < right; x++) {
      paint(x, top, tone);
      paint(x, bottom - 1, tone);
    }
    for (let y = top; y < bottom; y++) {
      paint(left, y, tone);
      paint(right - 1, y, tone);
    }
  }
  return { width, height, channels: 3, data };
}
