/**
 * JPEG compressibility that has a gradient: the size that a JPEG file of quality 95 would have, estimated from what the
 * encoder writes down, the quantised cosine coefficients of 8 x 8 blocks. DRaFT (Clark et al. 2024, arXiv 2309.17400) climbs
 * a differentiable JPEG too, by the distance to the decoded picture; this estimate is in the unit of `jpeg-compressibility`,
 * so that policy gradients and reward gradients can be compared on one reward.
 */

import { type Device, F, type Tensor, tensor } from '@rldf/torch';
import { rewardFromScores } from './from-scores.js';
import type { Reward } from './reward.js';

/** The standard's tables K.1 and K.2 (ITU-T T.81). */
const luminance = [
  [16, 11, 10, 16, 24, 40, 51, 61],
  [12, 12, 14, 19, 26, 58, 60, 55],
  [14, 13, 16, 24, 40, 57, 69, 56],
  [14, 17, 22, 29, 51, 87, 80, 62],
  [18, 22, 37, 56, 68, 109, 103, 77],
  [24, 35, 55, 64, 81, 104, 113, 92],
  [49, 64, 78, 87, 103, 121, 120, 101],
  [72, 92, 95, 98, 112, 100, 103, 99],
];
const chrominance = [
  [17, 18, 24, 47, 99, 99, 99, 99],
  [18, 21, 26, 66, 99, 99, 99, 99],
  [24, 26, 56, 99, 99, 99, 99, 99],
  [47, 66, 99, 99, 99, 99, 99, 99],
  ...Array.from({ length: 4 }, () => Array.from({ length: 8 }, () => 99)),
];

/** libjpeg's scaling of a table to quality 95. */
const atQuality95 = (step: number) => Math.max(1, Math.floor((step * 10 + 50) / 100));

/** 8 x 8 cosines of each coefficient but the first (the block's mean), divided by its quantisation step: [63, 1, 8, 8]. */
function cosines(table: readonly (readonly number[])[], device: Device): Tensor {
  const scale = (u: number) => (u === 0 ? Math.SQRT1_2 : 1) / 2;
  const cosine = (u: number, x: number) => scale(u) * Math.cos(((2 * x + 1) * u * Math.PI) / 16);
  const values = table.flatMap((row, u) =>
    row.flatMap((step, v) =>
      Array.from({ length: 64 }, (_, i) => (cosine(u, i >> 3) * cosine(v, i & 7)) / atQuality95(step)),
    ),
  );
  return tensor(new Float32Array(values.slice(64)), { shape: [63, 1, 8, 8], device });
}

/** RGB to Y, Cb, Cr (JFIF), as a 1 x 1 convolution [3, 3, 1, 1]. */
const toYCbCr = (device: Device) =>
  tensor(new Float32Array([0.299, 0.587, 0.114, -0.168736, -0.331264, 0.5, 0.5, -0.418688, -0.081312]), {
    shape: [3, 3, 1, 1],
    device,
  });

/** Fitted to real files of the built-in model’s pictures (correlation 0.997); the test holds how well. */
const kilobytesOfHeader = 0.651;
const kilobytesPerBit = 2.195e-4;

/** Σ ½ log2(1 + (4 c)²), c in quantisation steps: about the bits written, and smooth. planes [B, C, H, W] of 0 to 255 -> [B] */
function bitsOf(planes: Tensor, filters: Tensor): Tensor {
  const [batch, channels, height, width] = planes.shape as [number, number, number, number];
  const each = planes.reshape([batch * channels, 1, height, width]);
  const coefficients = F.conv2d(each, filters, undefined, { stride: 8 });
  return coefficients
    .mul(4)
    .square()
    .add(1)
    .log()
    .reshape([batch, -1])
    .sum(1)
    .div(2 * Math.LN2);
}

/** Minus the estimated size in kB; of pictures whose sides are no multiples of 16, what is left over is not counted. */
export function loadJpegEstimate(device: Device = 'cpu'): Reward {
  const ycbcr = toYCbCr(device);
  const [ofLuminance, ofChrominance] = [cosines(luminance, device), cosines(chrominance, device)];
  const scores = (images01: Tensor) => {
    const [y, chroma] = F.conv2d(images01.mul(255), ycbcr).split([1, 2], 1) as [Tensor, Tensor];
    const bits = bitsOf(y, ofLuminance).add(bitsOf(F.avgPool2d(chroma, 2), ofChrominance));
    return bits.mul(-kilobytesPerBit).sub(kilobytesOfHeader);
  };
  return rewardFromScores('jpeg-estimate', 'kB', scores, device);
}
