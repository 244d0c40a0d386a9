import { F, type Tensor, tensor } from '@rldf/torch';

/** How a CLIP, or what follows it, wants to be shown pictures. */
export interface PictureInput {
  /** Edge in pixels. */
  size: number;
  /** Mean and standard deviation of each channel in [0, 1]. */
  mean: readonly number[];
  std: readonly number[];
  /** As PIL resizes, bytes in each direction by itself (the default), or torchvision its tensors, at once and without bounds. */
  resize?: 'pil' | 'tensor';
  /** What is cut off at the top and left of an odd remainder: the smaller half (transformers, the default), or to even (torchvision). */
  crop?: 'floor' | 'even';
  /** Rounds to bytes where PIL does. Without it the same, a little smoother, and with a gradient. */
  exact?: boolean;
}

/** CLIP's own numbers, which LAION's models, PickScore, HPSv2 and ImageReward share. */
export const clipMean = [0.48145466, 0.4578275, 0.40821073] as const;
export const clipStd = [0.26862954, 0.26130258, 0.27577711] as const;

/** PIL rounds halves up; single precision may fall a little short of one. */
const HALF = 0.5001;

/** The shorter edge to the size (bicubic, antialiased), the middle of the longer, normalised. [B, 3, H, W] in [0, 1] -> [B, 3, S, S] */
export function clipPixels(images01: Tensor, input: PictureInput): Tensor {
  const { size, mean, std, crop = 'floor' } = input;
  const resized = shorterEdgeTo(size, images01, input);
  const [, , height, width] = resized.shape as [number, number, number, number];
  const start = (rest: number) => (crop === 'floor' ? Math.floor(rest / 2) : halfToEven(rest));
  const middle = resized.narrow(2, start(height - size), size).narrow(3, start(width - size), size);
  const asColumn = (values: readonly number[]) =>
    tensor([...values], { shape: [3, 1, 1], dtype: images01.dtype, device: images01.device });
  return middle.sub(asColumn(mean)).div(asColumn(std));
}

function shorterEdgeTo(
  size: number,
  images01: Tensor,
  { resize = 'pil', exact = false }: PictureInput,
): Tensor {
  const [, , height, width] = images01.shape as [number, number, number, number];
  const other = (long: number, short: number) => Math.floor((size * long) / short);
  const target: [number, number] =
    height < width ? [size, other(width, height)] : [other(height, width), size];
  if (target[0] === height && target[1] === width) return images01;
  if (resize === 'tensor') return F.interpolateBicubic(images01, target, { antialias: true });
  const bytes = (x: Tensor) => (exact ? x.mul(255).add(HALF).floor().div(255) : x).clamp(0, 1);
  const wide =
    target[1] === width
      ? images01
      : bytes(F.interpolateBicubic(images01, [height, target[1]], { antialias: true }));
  return target[0] === height ? wide : bytes(F.interpolateBicubic(wide, target, { antialias: true }));
}

/** Half of a whole number, as Python rounds it. */
function halfToEven(count: number): number {
  const half = Math.floor(count / 2);
  return count % 2 === 0 ? half : half + (half % 2);
}
