import { arange, full, where } from './factories.js';
import { native } from './native.js';
import { scope } from './scope.js';
import { type Tensor, wrap } from './tensor.js';

const operator = native.resolve;

const op = {
  avgPool2d: operator('avg_pool2d', ''),
  conv2d: operator('conv2d', ''),
  conv3x3: operator('rldf::conv3x3', ''),
  crossEntropy: operator('cross_entropy_loss', ''),
  embedding: operator('embedding', ''),
  groupNorm: operator('group_norm', ''),
  layerNorm: operator('layer_norm', ''),
  linear: operator('linear', ''),
  mseLoss: operator('mse_loss', ''),
  pad: operator('constant_pad_nd', ''),
  attention: operator('scaled_dot_product_attention', ''),
  nearest: operator('upsample_nearest2d', ''),
  bilinear: operator('upsample_bilinear2d', ''),
  bilinearAntialias: operator('_upsample_bilinear2d_aa', ''),
  bicubic: operator('upsample_bicubic2d', ''),
  bicubicAntialias: operator('_upsample_bicubic2d_aa', ''),
};

const { call } = native;
const reductions = { none: 0, mean: 1, sum: 2 } as const;
export type Reduction = keyof typeof reductions;

/** x Wᵀ + b: x [..., in], weight [out, in], bias [out] -> [..., out] */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  return wrap(call(op.linear, x.handle, weight.handle, bias?.handle));
}

/** x [B, C, H, W], weight [out, C / groups, kh, kw] -> [B, out, H', W'] */
export function conv2d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  { stride = 1, padding = 0, dilation = 1, groups = 1 } = {},
): Tensor {
  if (stride === 1 && padding === 1 && dilation === 1 && groups === 1) {
    return wrap(call(op.conv3x3, x.handle, weight.handle, bias?.handle));
  }
  return wrap(
    call(
      op.conv2d,
      x.handle,
      weight.handle,
      bias?.handle,
      [stride, stride],
      [padding, padding],
      [dilation, dilation],
      groups,
    ),
  );
}

export function groupNorm(x: Tensor, groups: number, weight?: Tensor, bias?: Tensor, epsilon = 1e-5): Tensor {
  return wrap(call(op.groupNorm, x.handle, groups, weight?.handle, bias?.handle, epsilon));
}

/** Normalises over the last `shape.length` dimensions. */
export function layerNorm(
  x: Tensor,
  shape: readonly number[],
  weight?: Tensor,
  bias?: Tensor,
  epsilon = 1e-5,
): Tensor {
  return wrap(call(op.layerNorm, x.handle, shape, weight?.handle, bias?.handle, epsilon));
}

/** weight [count, dim], ids int64 [...] -> [..., dim] */
export function embedding(weight: Tensor, ids: Tensor): Tensor {
  return wrap(call(op.embedding, weight.handle, ids.handle));
}

export interface AttentionOptions {
  mask?: Tensor;
  causal?: boolean;
  scale?: number;
}

/** softmax(q kᵀ · scale + mask) v over [B, heads, L, D]; scale is 1/√D unless given; a bool mask keeps where true. */
export function scaledDotProductAttention(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  options: AttentionOptions = {},
): Tensor {
  if (byProducts(query, key)) return attentionByProducts(query, key, value, options);
  const { mask, causal = false, scale } = options;
  return wrap(call(op.attention, query.handle, key.handle, value.handle, mask?.handle, 0, causal, scale));
}

/**
 * The same by two batched products. In bfloat16 libtorch's fused kernel for CPUs makes thousands of tiny calls into
 * oneDNN for the small heads of small pictures: this trains the shipped U-Net at twice the speed.
 */
export function attentionByProducts(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  { mask, causal = false, scale = (query.shape.at(-1) as number) ** -0.5 }: AttentionOptions = {},
): Tensor {
  return scope(() => {
    let scores = query.mul(scale).matmul(key.transpose(-2, -1)); // [B, heads, L, S]
    if (causal) {
      const [rows, columns] = scores.shape.slice(-2) as [number, number];
      const options = { device: query.device };
      scores = hidden(scores, arange(rows, options).reshape([rows, 1]).ge(arange(columns, options)));
    }
    if (mask !== undefined) scores = mask.dtype === 'bool' ? hidden(scores, mask) : scores.add(mask);
    return scores.softmax(-1).to(value.dtype).matmul(value);
  });
}

/** Scores of one head up to which products are taken. They are faster beyond it too (`npm run bench -- attention`), but hold all scores, which the fused kernel does not. */
export const MOST_SCORES_BY_PRODUCTS = 2 ** 20;

export type AttentionWay = 'chosen' | 'fused' | 'products';
let way: AttentionWay = 'chosen';

/**
 * How attention is computed: as chosen by type, device and size (the default), or one way for all, to compare.
 * @returns the way before
 */
export function setAttention(wanted: AttentionWay): AttentionWay {
  const before = way;
  way = wanted;
  return before;
}

const byProducts = (query: Tensor, key: Tensor) =>
  way === 'products' ||
  (way === 'chosen' &&
    query.dtype === 'bfloat16' &&
    query.device === 'cpu' &&
    (query.shape.at(-2) as number) * (key.shape.at(-2) as number) <= MOST_SCORES_BY_PRODUCTS);

/** The scores where `shown` is true, else what softmax makes zero. */
const hidden = (scores: Tensor, shown: Tensor) =>
  where(shown, scores, full([], Number.NEGATIVE_INFINITY, { dtype: scores.dtype, device: scores.device }));

/** x [B, C, H, W] to [B, C, ...size] */
export function interpolateNearest(x: Tensor, size: readonly [number, number]): Tensor {
  return wrap(call(op.nearest, x.handle, size));
}

export function interpolateBilinear(
  x: Tensor,
  size: readonly [number, number],
  { antialias = false } = {},
): Tensor {
  return wrap(call(antialias ? op.bilinearAntialias : op.bilinear, x.handle, size, false));
}

export function interpolateBicubic(
  x: Tensor,
  size: readonly [number, number],
  { antialias = false } = {},
): Tensor {
  return wrap(call(antialias ? op.bicubicAntialias : op.bicubic, x.handle, size, false));
}

export function avgPool2d(x: Tensor, kernel: number): Tensor {
  return wrap(call(op.avgPool2d, x.handle, [kernel, kernel]));
}

/** logits [B, classes], target int64 [B] */
export function crossEntropy(
  logits: Tensor,
  target: Tensor,
  { reduction = 'mean' }: { reduction?: Reduction } = {},
): Tensor {
  return wrap(call(op.crossEntropy, logits.handle, target.handle, null, reductions[reduction]));
}

export function mseLoss(
  prediction: Tensor,
  target: Tensor,
  { reduction = 'mean' }: { reduction?: Reduction } = {},
): Tensor {
  return wrap(call(op.mseLoss, prediction.handle, target.handle, reductions[reduction]));
}

/** Pads the last dimensions: [left, right, top, bottom]. */
export function pad(x: Tensor, amounts: readonly number[], value = 0): Tensor {
  return wrap(call(op.pad, x.handle, amounts, value));
}
