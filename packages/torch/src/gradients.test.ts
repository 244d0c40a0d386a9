import { expect, test } from 'vitest';
import { enableGrad, F, grad, noGrad, noiseKey, normal, scope, type Tensor, tensor, where } from './index.js';

/** Largest difference of autograd's and the central difference's gradient, relative to the largest gradient. */
function gradientError(
  fn: (...inputs: Tensor[]) => Tensor,
  shapes: readonly (readonly number[])[],
  positive: boolean,
): number {
  return scope(() => {
    const step = 1e-5;
    const inputs = shapes.map((shape, i) => {
      const drawn = normal([noiseKey(5, 'input', i)], shape, { dtype: 'float64' }).squeeze(0);
      return (positive ? drawn.abs().add(0.5) : drawn).detach().requiresGrad_();
    });
    const weigh = (output: Tensor) =>
      output.mul(normal([noiseKey(5, 'weights')], output.shape, { dtype: 'float64' }).squeeze(0)).sum();
    const exact = grad(weigh(fn(...inputs)), inputs).map((g) => g.toNumbers());
    let worst = 0;
    const scale = Math.max(1e-3, ...exact.flat().map(Math.abs));
    inputs.forEach((input, i) => {
      const values = input.toNumbers();
      values.forEach((value, j) => {
        const at = (shifted: number) =>
          scope(() => {
            const moved = tensor(Float64Array.from(values).with(j, shifted), {
              shape: shapes[i] as number[],
            });
            return noGrad(() => weigh(fn(...inputs.map((other, k) => (k === i ? moved : other)))).item());
          });
        const difference = (at(value + step) - at(value - step)) / (2 * step);
        worst = Math.max(worst, Math.abs(difference - (exact[i]?.[j] as number)) / scale);
      });
    });
    return worst;
  });
}

const vector = [[7]];
const pair = [
  [2, 3],
  [2, 3],
];

const anywhere: Record<string, [(...x: Tensor[]) => Tensor, readonly (readonly number[])[]]> = {
  add: [(a, b) => a.add(b), pair],
  'add, broadcast and alpha': [(a, b) => a.add(b, -2.5), [[2, 3], [3]]],
  'add number': [(a) => a.add(3).sub(1), vector],
  sub: [(a, b) => a.sub(b, 2), pair],
  mul: [(a, b) => a.mul(b), pair],
  'mul number': [(a) => a.mul(-3).div(7), vector],
  'pow 3': [(a) => a.pow(3), vector],
  neg: [(a) => a.neg(), vector],
  abs: [(a) => a.abs(), vector],
  exp: [(a) => a.exp(), vector],
  square: [(a) => a.square(), vector],
  sin: [(a) => a.sin(), vector],
  cos: [(a) => a.cos(), vector],
  tanh: [(a) => a.tanh(), vector],
  sigmoid: [(a) => a.sigmoid(), vector],
  relu: [(a) => a.relu(), vector],
  silu: [(a) => a.silu(), vector],
  gelu: [(a) => a.gelu(), vector],
  'gelu tanh': [(a) => a.gelu('tanh'), vector],
  clamp: [(a) => a.clamp(-0.7, 0.4), vector],
  maximum: [(a, b) => a.maximum(b), pair],
  minimum: [(a, b) => a.minimum(b), pair],
  where: [(a, b) => where(a.detach().gt(0), a, b.mul(2)), pair],
  matmul: [
    (a, b) => a.matmul(b),
    [
      [2, 2, 3],
      [2, 3, 2],
    ],
  ],
  sum: [(a) => a.sum(), [[2, 3]]],
  'sum of dims': [(a) => a.sum([0, 2], true), [[2, 3, 2]]],
  mean: [(a) => a.mean(), [[2, 3]]],
  'mean of a dim': [(a) => a.mean(-1), [[2, 3]]],
  variance: [(a) => a.variance(1), [[2, 4]]],
  'variance, population': [(a) => a.variance([0, 1], { correction: 0 }), [[2, 4]]],
  std: [(a) => a.std(1, { keepdim: true }), [[2, 4]]],
  amax: [(a) => a.amax(1), [[2, 3]]],
  amin: [(a) => a.amin(0), [[2, 3]]],
  softmax: [(a) => a.softmax(-1), [[2, 3]]],
  logSoftmax: [(a) => a.logSoftmax(0), [[2, 3]]],
  logsumexp: [(a) => a.logsumexp(1), [[2, 3]]],
  cumsum: [(a) => a.cumsum(1), [[2, 3]]],
  norm: [(a) => a.norm(), [[2, 3]]],
  shapes: [
    (a) => a.reshape([3, 2]).permute([1, 0]).transpose(0, 1).unsqueeze(0).expand([2, 3, 2]).flatten(1),
    [[2, 3]],
  ],
  narrow: [(a) => a.narrow(1, 1, 2).select(0, 1), [[2, 3]]],
  indexSelect: [(a) => a.indexSelect(0, tensor([1, 1, 0], { dtype: 'int64' })), [[2, 3]]],
  gather: [
    (a) =>
      a.gather(
        1,
        tensor(
          [
            [2, 0],
            [1, 1],
          ],
          { dtype: 'int64' },
        ),
      ),
    [[2, 3]],
  ],
  chunk: [(a) => (a.chunk(2, 1)[1] as Tensor).mul(a.split([1, 3], 1)[0] as Tensor), [[2, 4]]],
  'F.linear': [(x, w, b) => F.linear(x, w, b), [[2, 3], [4, 3], [4]]],
  'F.conv2d': [
    (x, w, b) => F.conv2d(x, w, b, { stride: 2, padding: 1, groups: 2 }),
    [[1, 4, 5, 4], [4, 2, 3, 3], [4]],
  ],
  'F.groupNorm': [(x, w, b) => F.groupNorm(x, 2, w, b), [[2, 4, 3], [4], [4]]],
  'F.layerNorm': [(x, w, b) => F.layerNorm(x, [4], w, b, 1e-3), [[3, 4], [4], [4]]],
  'F.embedding': [
    (w) =>
      F.embedding(
        w,
        tensor(
          [
            [0, 2],
            [2, 1],
          ],
          { dtype: 'int64' },
        ),
      ),
    [[3, 2]],
  ],
  'F.attention': [
    (q, k, v) => F.scaledDotProductAttention(q, k, v),
    [
      [1, 2, 3, 4],
      [1, 2, 5, 4],
      [1, 2, 5, 4],
    ],
  ],
  'F.attention, causal': [
    (q, k, v) => F.scaledDotProductAttention(q, k, v, { causal: true, scale: 0.3 }),
    [
      [1, 2, 3, 4],
      [1, 2, 3, 4],
      [1, 2, 3, 4],
    ],
  ],
  'F.interpolateNearest': [(x) => F.interpolateNearest(x, [5, 3]), [[1, 2, 3, 2]]],
  'F.interpolateBilinear': [(x) => F.interpolateBilinear(x, [5, 3]), [[1, 2, 3, 2]]],
  'F.interpolateBilinear, antialias': [
    (x) => F.interpolateBilinear(x, [2, 2], { antialias: true }),
    [[1, 2, 5, 4]],
  ],
  'F.interpolateBicubic': [(x) => F.interpolateBicubic(x, [5, 3]), [[1, 2, 3, 2]]],
  'F.interpolateBicubic, antialias': [
    (x) => F.interpolateBicubic(x, [2, 2], { antialias: true }),
    [[1, 2, 5, 4]],
  ],
  'F.avgPool2d': [(x) => F.avgPool2d(x, 2), [[1, 2, 4, 4]]],
  'F.crossEntropy': [(x) => F.crossEntropy(x, tensor([1, 0], { dtype: 'int64' })), [[2, 3]]],
  'F.crossEntropy, none': [
    (x) => F.crossEntropy(x, tensor([1, 2], { dtype: 'int64' }), { reduction: 'none' }),
    [[2, 3]],
  ],
  'F.mseLoss': [(a, b) => F.mseLoss(a, b), pair],
  'F.pad': [(x) => F.pad(x, [1, -1, 0, 2], 7), [[2, 3]]],
};
const positiveOnly: typeof anywhere = {
  div: [(a, b) => a.div(b), pair],
  pow: [(a, b) => a.pow(b), pair],
  log: [(a) => a.log(), vector],
  sqrt: [(a) => a.sqrt(), vector],
  rsqrt: [(a) => a.rsqrt(), vector],
};

test.each(Object.entries(anywhere))('gradient of %s', (_, [fn, shapes]) => {
  expect(gradientError(fn, shapes, false)).toBeLessThan(1e-6);
});

test.each(Object.entries(positiveOnly))('gradient of %s', (_, [fn, shapes]) => {
  expect(gradientError(fn, shapes, true)).toBeLessThan(1e-6);
});

test('the check sees a wrong gradient', () => {
  // x.detach() * x has gradient x; the difference quotient of x * x is 2 x
  expect(gradientError((a) => a.detach().mul(a), vector, false)).toBeGreaterThan(0.1);
});

test('second derivatives, retained graphs and given output gradients', () => {
  scope(() => {
    const x = tensor([1.5, -2], { dtype: 'float64' }).requiresGrad_();
    const [first] = grad(x.pow(3).sum(), [x], { createGraph: true }) as [Tensor];
    const [second] = grad(first.sum(), [x]) as [Tensor];
    expect(second.toNumbers()).toEqual([9, -12]); // 6 x
    const y = x.square();
    const twice = () =>
      grad(y, [x], { gradOutputs: [tensor([1, 10], { dtype: 'float64' })], retainGraph: true })[0] as Tensor;
    expect(twice().toNumbers()).toEqual([3, -40]);
    expect(twice().toNumbers()).toEqual([3, -40]);
  });
});

test('recording follows noGrad and enableGrad, and in-place writes under noGrad spoil a saved tensor', () => {
  scope(() => {
    const x = tensor([2]).requiresGrad_();
    expect(noGrad(() => x.mul(2)).requiresGrad).toBe(false);
    expect(noGrad(() => enableGrad(() => x.mul(2))).requiresGrad).toBe(true);
    expect(() =>
      noGrad(() => {
        throw new Error('out');
      }),
    ).toThrow('out');
    expect(x.mul(2).requiresGrad).toBe(true); // the mode is restored after an error
    const y = x.exp(); // saved for the gradient
    noGrad(() => y.mul_(2));
    expect(() => grad(y.sum(), [x])).toThrow(/modified by an inplace operation/);
    expect(() => x.add_(1)).toThrow(/leaf/); // a leaf that wants gradients is not written while recording
    expect(() => grad(x.detach().sum(), [x])).toThrow(/does not require grad/);
  });
});
