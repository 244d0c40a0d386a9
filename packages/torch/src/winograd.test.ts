import { afterEach, expect, test } from 'vitest';
import { F, grad, keep, noGrad, noiseKey, normal, setWinograd, type Tensor, zeros } from './index.js';

const draw = (name: string, ...shape: number[]) => keep(normal([noiseKey(2, name)], shape).squeeze(0));
const off = <T>(fn: () => T): T => {
  setWinograd(false);
  try {
    return fn();
  } finally {
    setWinograd(true);
  }
};
/** Largest difference as a share of the largest value. */
const error = (a: Tensor, b: Tensor) => a.sub(b).abs().amax().item() / b.abs().amax().item();
const conv = (x: Tensor, weight: Tensor, bias?: Tensor) => F.conv2d(x, weight, bias, { padding: 1 });

afterEach(() => void setWinograd(true));

test.each([
  [1, 16, 16, 8, 8],
  [3, 48, 32, 4, 4],
  [2, 32, 80, 5, 7],
  [1, 16, 48, 1, 3],
  [9, 32, 16, 16, 16],
])(
  'on equals off: %i pictures, %i to %i channels, %ix%i',
  (batch, inChannels, outChannels, height, width) => {
    const x = draw('x', batch, inChannels, height, width);
    const weight = draw('weight', outChannels, inChannels, 3, 3);
    const bias = draw('bias', outChannels);
    for (const shift of [bias, undefined]) {
      const fast = conv(x, weight, shift);
      const plain = off(() => conv(x, weight, shift));
      expect(fast.shape).toEqual(plain.shape);
      expect(error(fast, plain)).toBeLessThan(2e-6);
    }
  },
);

test('it is as accurate as the definition', () => {
  const x = draw('x', 4, 96, 8, 8);
  const weight = draw('weight', 96, 96, 3, 3);
  const exact = conv(x.to('float64'), weight.to('float64')).to('float32');
  const definition = error(
    off(() => conv(x, weight)),
    exact,
  );
  expect(error(conv(x, weight), exact)).toBeLessThan(4 * definition);
});

test('the gradient of the input and its own gradient are the same', () => {
  const x = draw('x', 2, 32, 6, 6).requiresGrad_();
  const weight = keep(draw('weight', 16, 32, 3, 3).mul(0.05));
  const bias = draw('bias', 16);
  const gradients = () => {
    const [first] = grad(conv(x, weight, bias).tanh().square().sum(), [x], {
      createGraph: true,
      retainGraph: true,
    });
    const [second] = grad(first!.square().sum(), [x]);
    return [first!.detach(), second!];
  };
  const fast = gradients();
  const plain = off(gradients);
  for (const i of [0, 1]) expect(error(fast[i]!, plain[i]!)).toBeLessThan(1e-5);
});

test('a weight that was written is read anew', () => {
  const x = draw('x', 1, 16, 4, 4);
  const weight = draw('weight', 16, 16, 3, 3);
  const before = conv(x, weight);
  noGrad(() => weight.mul_(2));
  expect(error(conv(x, weight), before.mul(2))).toBeLessThan(1e-6);
  noGrad(() => weight.copy_(zeros([16, 16, 3, 3])));
  expect(conv(x, weight).abs().amax().item()).toBe(0);
});

test('a weight that learns gets its gradient', () => {
  const x = draw('x', 1, 16, 4, 4);
  const weight = draw('weight', 16, 16, 3, 3).requiresGrad_();
  const [fast] = grad(conv(x, weight).square().sum(), [weight]);
  const [plain] = off(() => grad(conv(x, weight).square().sum(), [weight]));
  expect(error(fast!, plain!)).toBeLessThan(1e-6);
});

test('a picture does not depend on the batch it is in', () => {
  const x = draw('x', 7, 32, 8, 8);
  const weight = draw('weight', 32, 32, 3, 3);
  const all = conv(x, weight);
  for (const row of [0, 3, 6]) {
    expect(
      conv(x.narrow(0, row, 1), weight)
        .sub(all.narrow(0, row, 1))
        .abs()
        .amax()
        .item(),
    ).toBe(0);
  }
});
