/** Pictures as networks of other frameworks take them. */

import type { Picture } from '@rldf/common/base/picture';
import type { BoxEdges } from '@rldf/models';

export interface Input {
  /** [3, height, width], red first, (pixel / 255 - mean) / std. */
  data: Float32Array;
  /** A box of the input, in pixels of the picture, within its edges. */
  back(box: BoxEdges): BoxEdges;
}

export interface InputOptions {
  width: number;
  height: number;
  resize: 'letterbox' | 'stretch';
  mean: readonly [number, number, number];
  std: readonly [number, number, number];
}

/** YOLO's grey beside a letterboxed picture. */
const grey = 114;

/** Resizes bilinearly between pixel centres, without antialiasing, as OpenCV does. */
export function inputOf(picture: Picture, { width, height, resize, mean, std }: InputOptions): Input {
  const scale = Math.min(width / picture.width, height / picture.height);
  const letterbox = resize === 'letterbox';
  const inner = letterbox
    ? [Math.max(1, Math.round(picture.width * scale)), Math.max(1, Math.round(picture.height * scale))]
    : [width, height];
  const [innerWidth, innerHeight] = inner as [number, number];
  const [left, top] = [Math.floor((width - innerWidth) / 2), Math.floor((height - innerHeight) / 2)];
  const [ratioX, ratioY] = [picture.width / innerWidth, picture.height / innerHeight];
  const data = new Float32Array(3 * width * height);
  for (let channel = 0; channel < 3; channel++) {
    const [m, s] = [mean[channel]!, std[channel]!];
    const plane = data.subarray(channel * width * height, (channel + 1) * width * height);
    plane.fill((grey / 255 - m) / s);
    for (let y = 0; y < innerHeight; y++) {
      const [y0, y1, fy] = between(y, ratioY, picture.height);
      for (let x = 0; x < innerWidth; x++) {
        const [x0, x1, fx] = between(x, ratioX, picture.width);
        const at = (column: number, row: number) =>
          picture.data[(row * picture.width + column) * 3 + channel]!;
        const upper = at(x0, y0) * (1 - fx) + at(x1, y0) * fx;
        const lower = at(x0, y1) * (1 - fx) + at(x1, y1) * fx;
        plane[(top + y) * width + left + x] = ((upper * (1 - fy) + lower * fy) / 255 - m) / s;
      }
    }
  }
  const clamp = (value: number, most: number) => Math.min(most, Math.max(0, value));
  return {
    data,
    back: ([x0, y0, x1, y1]) => [
      clamp((x0 - left) * ratioX, picture.width),
      clamp((y0 - top) * ratioY, picture.height),
      clamp((x1 - left) * ratioX, picture.width),
      clamp((y1 - top) * ratioY, picture.height),
    ],
  };
}

/** The two pixels around a place, and how far it is from the first to the second. */
function between(at: number, ratio: number, length: number): [number, number, number] {
  const place = Math.min(length - 1, Math.max(0, (at + 0.5) * ratio - 0.5));
  const first = Math.floor(place);
  return [first, Math.min(length - 1, first + 1), place - first];
}

/** What of a picture lies in a box, at least a pixel; the box is widened by a share of its size on each side. */
export function cropOf(picture: Picture, [x0, y0, x1, y1]: BoxEdges, margin = 0): Picture {
  const [dx, dy] = [(x1 - x0) * margin, (y1 - y0) * margin];
  const left = Math.min(picture.width - 1, Math.max(0, Math.floor(x0 - dx)));
  const top = Math.min(picture.height - 1, Math.max(0, Math.floor(y0 - dy)));
  const width = Math.max(1, Math.min(picture.width, Math.ceil(x1 + dx)) - left);
  const height = Math.max(1, Math.min(picture.height, Math.ceil(y1 + dy)) - top);
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    const from = ((top + y) * picture.width + left) * 3;
    data.set(picture.data.subarray(from, from + width * 3), y * width * 3);
  }
  return { width, height, channels: 3, data };
}
