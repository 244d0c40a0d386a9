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
  // horizontally first, as PIL does with pictures that are at most twice as high as wide
  const wide = resampled(images01, -1, target[1], exact); // [B, 3, H, w]
  return resampled(wide, -2, target[0], exact); // [B, 3, h, w]
}

/** Bits of PIL's fixed-point weights. */
const PRECISION = 22;

/** One direction, clipped to what bytes hold; with `exact` in PIL's whole numbers, which double precision holds. */
function resampled(x: Tensor, dim: -1 | -2, size: number, exact: boolean): Tensor {
  const from = x.shape.at(dim) as number;
  if (from === size) return x;
  const whole = tensor(bicubicWeights(from, size), {
    shape: [size, from],
    dtype: 'float64',
    device: x.device,
  });
  const apply = (image: Tensor, weights: Tensor) =>
    dim === -1 ? image.matmul(weights.transpose(0, 1)) : weights.matmul(image);
  if (!exact) return apply(x, whole.div(2 ** PRECISION).to(x.dtype)).clamp(0, 1);
  const bytes = x.to('float64').mul(255).round();
  const summed = apply(bytes, whole)
    .add(2 ** (PRECISION - 1))
    .div(2 ** PRECISION);
  return summed.floor().clamp(0, 255).div(255).to(x.dtype);
}

const known = new Map<string, Float64Array>();

/** PIL's weights of each source pixel for each new one, [size, from], times 2^22: antialiased bicubic with a = -0.5. */
function bicubicWeights(from: number, size: number): Float64Array {
  const key = `${from} ${size}`;
  const found = known.get(key);
  if (found !== undefined) return found;
  const scale = from / size;
  const stretch = Math.max(scale, 1);
  const weights = new Float64Array(size * from);
  for (let place = 0; place < size; place++) {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - 2 * stretch + 0.5));
    const end = Math.min(from, Math.trunc(centre + 2 * stretch + 0.5));
    const own = Array.from({ length: end - first }, (_, i) => cubic((first + i - centre + 0.5) / stretch));
    const sum = own.reduce((total, weight) => total + weight, 0);
    for (const [i, weight] of own.entries()) {
      const scaled = (weight / sum) * 2 ** PRECISION;
      weights[place * from + first + i] = Math.trunc(scaled + (scaled < 0 ? -0.5 : 0.5));
    }
  }
  if (known.size >= 64) known.clear();
  known.set(key, weights);
  return weights;
}

/** Keys' cubic with a = -0.5. */
function cubic(x: number): number {
  const distance = Math.abs(x);
  if (distance < 1) return (1.5 * distance - 2.5) * distance * distance + 1;
  return distance < 2 ? (((distance - 5) * distance + 8) * distance - 4) * -0.5 : 0;
}

/** Half of a whole number, as Python rounds it. */
function halfToEven(count: number): number {
  const half = Math.floor(count / 2);
  return count % 2 === 0 ? half : half + (half % 2);
}
