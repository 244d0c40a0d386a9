/**
 * JPEG compressibility (Black et al. 2023, arXiv 2305.13301, section 5.1): the size of the picture as a JPEG file of
 * quality 95, in kB of 1,000 bytes, equal to the byte count that PIL writes (4:2:0, the standard Huffman tables).
 */

import type { Tensor } from '@rldf/torch';
import sharp from 'sharp';
import type { Reward } from './reward.js';

// Every picture is another one: libvips would only remember what is never asked again.
sharp.cache(false);

/** libvips leaves out the JFIF header that PIL writes; the rest of the file is the same byte for byte. */
const jfifHeaderBytes = 18;

/** Bytes of an RGB picture as a JPEG file of quality 95, as PIL counts them. */
export async function jpegBytes(pixels: Uint8Array, width: number, height: number): Promise<number> {
  const file = await sharp(pixels, { raw: { width, height, channels: 3 } })
    .jpeg({ quality: 95, optimiseCoding: false, chromaSubsampling: '4:2:0' })
    .toBuffer();
  return file.length + jfifHeaderBytes;
}

async function kilobytes(images: Tensor): Promise<number[]> {
  const [count, height, width] = images.shape as [number, number, number, number]; // [B, H, W, 3]
  const pixels = images.toArray() as Uint8Array;
  const size = height * width * 3;
  const sizes = Array.from({ length: count }, (_, index) =>
    jpegBytes(pixels.subarray(index * size, (index + 1) * size), width, height),
  );
  return (await Promise.all(sizes)).map((bytes) => bytes / 1000);
}

/** Minus the file size: smooth, plain pictures score high. */
export const jpegCompressibility: Reward = {
  name: 'jpeg-compressibility',
  unit: 'kB',
  score: async ({ images }) => (await kilobytes(images)).map((size) => -size),
};

/** The file size: busy, detailed pictures score high. */
export const jpegIncompressibility: Reward = {
  name: 'jpeg-incompressibility',
  unit: 'kB',
  score: ({ images }) => kilobytes(images),
};
