/** Plain statistics of pictures that no reward here is made of: what changes when a reward is gamed rather than met. */

import type { Picture } from '@rldf/common/base/picture';

/** Names of the statistics of single pictures. */
export const pictureStatistics = ['edgeDensity', 'colourEntropy', 'saturation', 'gridPeak'] as const;
export type PictureStatistic = (typeof pictureStatistics)[number];

export function statisticsOf(picture: Picture): Record<PictureStatistic, number> {
  const luma = lumaOf(picture);
  const { width, height } = picture;
  return {
    edgeDensity: edgeDensity(luma, width, height),
    colourEntropy: colourEntropy(picture),
    saturation: saturation(picture),
    gridPeak: Math.max(gridPeak(luma, width, height, 'x'), gridPeak(luma, width, height, 'y')),
  };
}

/** Rec. 601 luma in [0, 1], row-major. */
function lumaOf({ data, channels }: Picture): Float64Array {
  const luma = new Float64Array(data.length / channels);
  for (let i = 0; i < luma.length; i++) {
    const at = i * channels;
    luma[i] = (0.299 * data[at]! + 0.587 * data[at + 1]! + 0.114 * data[at + 2]!) / 255;
  }
  return luma;
}

/** Mean absolute difference of neighbours, in [0, 1]: texture and noise raise it, blur and emptiness lower it. */
function edgeDensity(luma: Float64Array, width: number, height: number): number {
  let sum = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const here = luma[y * width + x]!;
      if (x + 1 < width) sum += Math.abs(luma[y * width + x + 1]! - here);
      if (y + 1 < height) sum += Math.abs(luma[(y + 1) * width + x]! - here);
    }
  }
  return sum / (2 * width * height - width - height);
}

/** Entropy of the colours in 4 x 4 x 4 bins, in bits, 0 to 6. */
function colourEntropy({ data, channels }: Picture): number {
  const bins = new Float64Array(64);
  const pixels = data.length / channels;
  for (let i = 0; i < data.length; i += channels) {
    bins[((data[i]! >> 6) << 4) | ((data[i + 1]! >> 6) << 2) | (data[i + 2]! >> 6)]! += 1 / pixels;
  }
  return bins.reduce((sum, share) => (share > 0 ? sum - share * Math.log2(share) : sum), 0);
}

/** Mean spread between the strongest and the weakest channel, in [0, 1]. */
function saturation({ data, channels }: Picture): number {
  let sum = 0;
  for (let i = 0; i < data.length; i += channels) {
    const [r, g, b] = [data[i]!, data[i + 1]!, data[i + 2]!];
    sum += (Math.max(r, g, b) - Math.min(r, g, b)) / 255;
  }
  return sum / (data.length / channels);
}

/**
 * Share of the edges' energy along one axis that repeats every 8 (4, 2) pixels, in [0, 1]: the checkerboards that
 * networks with strided convolutions fall into.
 */
function gridPeak(luma: Float64Array, width: number, height: number, axis: 'x' | 'y'): number {
  const [length, across] = axis === 'x' ? [width, height] : [height, width];
  const at = (along: number, other: number) =>
    luma[axis === 'x' ? other * width + along : along * width + other]!;
  const profile = Array.from({ length: length - 1 }, (_, along) => {
    let sum = 0;
    for (let other = 0; other < across; other++) sum += Math.abs(at(along + 1, other) - at(along, other));
    return sum;
  });
  const centre = profile.reduce((sum, value) => sum + value, 0) / profile.length;
  const energy = profile.reduce((sum, value) => sum + (value - centre) ** 2, 0);
  if (energy < 1e-9) return 0;
  let periodic = 0;
  for (const period of [8, 4, 8 / 3, 2]) {
    let [real, imaginary] = [0, 0];
    profile.forEach((value, x) => {
      const angle = (2 * Math.PI * x) / period;
      real += (value - centre) * Math.cos(angle);
      imaginary += (value - centre) * Math.sin(angle);
    });
    // a frequency and its mirror image hold two terms of Parseval's sum; the highest is its own mirror image
    periodic += ((period === 2 ? 1 : 2) * (real ** 2 + imaginary ** 2)) / profile.length;
  }
  return Math.min(1, periodic / energy);
}

/**
 * Mean distance (root mean square, in [0, 1]) between thumbnails of 8 x 8 pixels: of pictures of the same prompt where
 * there are several, of all pictures otherwise. It falls when everything begins to look alike.
 */
export function diversityOf(pictures: readonly Picture[], prompts: readonly string[]): number {
  const thumbnails = pictures.map(thumbnail);
  const several = new Set(prompts).size < prompts.length;
  let sum = 0;
  let pairs = 0;
  for (let i = 0; i < pictures.length; i++) {
    for (let j = 0; j < i; j++) {
      if (several && prompts[i] !== prompts[j]) continue;
      sum += distance(thumbnails[i]!, thumbnails[j]!);
      pairs++;
    }
  }
  return pairs === 0 ? 0 : sum / pairs;
}

const SIDE = 8;

function thumbnail({ data, width, height, channels }: Picture): Float64Array {
  const sums = new Float64Array(SIDE * SIDE * 3);
  const counts = new Float64Array(SIDE * SIDE);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const cell = Math.floor((y * SIDE) / height) * SIDE + Math.floor((x * SIDE) / width);
      counts[cell]! += 1;
      for (let c = 0; c < 3; c++) sums[cell * 3 + c]! += data[(y * width + x) * channels + c]! / 255;
    }
  }
  return sums.map((sum, i) => sum / Math.max(1, counts[Math.floor(i / 3)]!));
}

function distance(a: Float64Array, b: Float64Array): number {
  return Math.sqrt(a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0) / a.length);
}
