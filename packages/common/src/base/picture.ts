/** Pictures as plain bytes: what users' rewards, reports, grids and PNG files work on. */

import { type Tensor, tensor } from '@rldf/torch';

export interface Picture {
  width: number;
  height: number;
  channels: 3;
  /** RGB, row by row, `width * height * 3` bytes. */
  data: Uint8Array;
}

/** The pictures of a batch, as copies. @param images uint8 [B, H, W, 3] */
export function picturesOf(images: Tensor): Picture[] {
  const [count, height, width] = images.shape as [number, number, number, number]; // [B, H, W, 3]
  const pixels = images.toArray() as Uint8Array;
  const size = height * width * 3;
  return Array.from({ length: count }, (_, index) => ({
    width,
    height,
    channels: 3,
    data: pixels.slice(index * size, (index + 1) * size),
  }));
}

/** The opposite: pictures of one size as uint8 [B, H, W, 3]. */
export function tensorOfPictures(pictures: readonly Picture[]): Tensor {
  const { width, height } = pictures[0] as Picture;
  const bytes = new Uint8Array(pictures.length * height * width * 3);
  pictures.forEach(({ data }, i) => {
    bytes.set(data, i * data.length);
  });
  return tensor(bytes, { shape: [pictures.length, height, width, 3] });
}
