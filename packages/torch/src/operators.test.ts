import { beforeEach, expect, test, vi } from 'vitest';
import * as torch from './index.js';
import { native } from './native.js';
import { op } from './operators.js';
import { schemaOf } from './schema.js';

// Every call of the typed methods, functions, factories and optimisers is held against the schema of the linked libtorch.
const seen = vi.hoisted(() => ({ operators: new Set<number>(), faults: [] as string[] }));

vi.mock('./native.js', async (original) => {
  const real = (await original()) as typeof import('./native.js');
  const names = new Map<number, string>();
  const resolve = (name: string, overload: string) => {
    const number = real.native.resolve(name, overload);
    names.set(number, overload === '' ? name : `${name}.${overload}`);
    return number;
  };
  const fits = (kind: string, value: unknown): boolean => {
    if (kind.endsWith('[]')) {
      const element = kind.slice(0, -2);
      return Array.isArray(value)
        ? value.every((item) => fits(element, item))
        : element === 'int' && fits('int', value);
    }
    if (kind === 'Tensor') return typeof value === 'number' && real.native.isLive(value);
    if (kind === 'int' || kind === 'ScalarType') return Number.isSafeInteger(value);
    if (kind === 'float' || kind === 'Scalar') return typeof value === 'number';
    if (kind === 'bool') return typeof value === 'boolean';
    return (kind === 'str' || kind === 'Device') && typeof value === 'string';
  };
  const call = (operator: number, ...args: unknown[]) => {
    seen.operators.add(operator);
    const schema = schemaOf(operator).arguments;
    const name = names.get(operator) ?? `operator ${operator}`;
    if (args.length > schema.length)
      seen.faults.push(`${name}: ${args.length} arguments for ${schema.length}`);
    schema.forEach(({ kind, optional, hasDefault, name: argument }, i) => {
      const missing = args[i] === undefined || args[i] === null;
      if (missing ? !optional && !hasDefault : !fits(kind, args[i])) {
        seen.faults.push(`${name}: ${kind} ${argument} was given ${String(args[i])}`);
      }
    });
    return real.native.call(operator, ...args);
  };
  return { ...real, native: { ...real.native, resolve, call } };
});

beforeEach(() => {
  seen.faults.length = 0;
});

const { F, ones, tensor } = torch;
const matrix = () =>
  tensor([
    [1, 2, 3],
    [4, 5, 6],
  ]);
const ids = () => tensor([[1, 0, 1]], { dtype: 'int64' });
const image = () => ones([1, 2, 4, 4]);

const calls: Record<string, (x: torch.Tensor) => unknown> = {
  abs: (x) => x.abs(),
  add: (x) => [x.add(1), x.add(x), x.add(1, 2), x.add(x, 0.5)],
  add_: (x) => [x.add_(1), x.add_(x), x.add_(x, 2)],
  amax: (x) => [x.amax(), x.amax(1, true), x.amax([0, 1])],
  amin: (x) => [x.amin(), x.amin(1, true), x.amin([0, 1])],
  argmax: (x) => [x.argmax(), x.argmax(1, true)],
  bytes: (x) => x.bytes(),
  chunk: (x) => [x.chunk(2), x.chunk(3, 1)],
  clamp: (x) => [x.clamp(0), x.clamp(undefined, 1), x.clamp(0, 1)],
  clamp_: (x) => x.clamp_(0, 1),
  clone: (x) => x.clone(),
  contiguous: (x) => x.contiguous(),
  isContiguous: (x) => x.isContiguous(),
  copy_: (x) => x.copy_(x.clone()),
  cos: (x) => x.cos(),
  cumsum: (x) => x.cumsum(1),
  detach: (x) => x.detach(),
  div: (x) => [x.div(2), x.div(x)],
  div_: (x) => [x.div_(2), x.div_(x)],
  eq: (x) => [x.eq(1), x.eq(x)],
  exp: (x) => x.exp(),
  expand: (x) => x.expand([2, -1, 3]),
  fill_: (x) => x.fill_(3),
  flatten: (x) => [x.flatten(), x.flatten(0, 1)],
  floor: (x) => x.floor(),
  free: (x) => x.clone().free(),
  gather: (x) => x.gather(0, ids()),
  ge: (x) => [x.ge(1), x.ge(x)],
  gelu: (x) => [x.gelu(), x.gelu('tanh')],
  gt: (x) => [x.gt(1), x.gt(x)],
  indexSelect: (x) => x.indexSelect(1, ids().squeeze(0)),
  isfinite: (x) => x.isfinite(),
  item: (x) => x.sum().item(),
  le: (x) => [x.le(1), x.le(x)],
  lerp_: (x) => x.lerp_(x.clone(), 0.25),
  log: (x) => x.log(),
  logSoftmax: (x) => x.logSoftmax(1),
  logicalAnd: (x) => x.logicalAnd(x),
  logicalNot: (x) => x.logicalNot(),
  logsumexp: (x) => [x.logsumexp(1), x.logsumexp([0, 1], true)],
  lt: (x) => [x.lt(1), x.lt(x)],
  matmul: (x) => x.matmul(x.transpose(0, 1)),
  maximum: (x) => x.maximum(x),
  mean: (x) => [x.mean(), x.mean(0), x.mean([0, 1], true)],
  minimum: (x) => x.minimum(x),
  mul: (x) => [x.mul(2), x.mul(x)],
  mul_: (x) => [x.mul_(2), x.mul_(x)],
  narrow: (x) => x.narrow(1, 1, 2),
  ne: (x) => [x.ne(1), x.ne(x)],
  neg: (x) => x.neg(),
  norm: (x) => x.norm(),
  permute: (x) => x.permute([1, 0]),
  pow: (x) => [x.pow(2), x.pow(x)],
  relu: (x) => x.relu(),
  requiresGrad_: (x) => x.clone().requiresGrad_(),
  reshape: (x) => x.reshape([3, -1]),
  round: (x) => x.round(),
  rsqrt: (x) => x.rsqrt(),
  select: (x) => x.select(1, -1),
  sigmoid: (x) => x.sigmoid(),
  silu: (x) => x.silu(),
  sin: (x) => x.sin(),
  softmax: (x) => x.softmax(0),
  split: (x) => x.split([1, 2], 1),
  sqrt: (x) => x.sqrt(),
  strides: (x) => x.strides(),
  square: (x) => x.square(),
  squeeze: (x) => x.squeeze(0),
  std: (x) => [x.std(), x.std(1, { correction: 0, keepdim: true })],
  sub: (x) => [x.sub(1), x.sub(x), x.sub(1, 2), x.sub(x, 2)],
  sum: (x) => [x.sum(), x.sum(0), x.sum([0, 1], true)],
  tanh: (x) => x.tanh(),
  to: (x) => [x.to('int64'), x.to('cpu'), x.to({ dtype: 'bfloat16', device: 'cpu' }), x.to({})],
  toArray: (x) => [x.toArray(), x.to('bfloat16').toArray()],
  toNumbers: (x) => x.toNumbers(),
  toString: (x) => x.toString(),
  transpose: (x) => x.transpose(0, -1),
  unsqueeze: (x) => x.unsqueeze(-1),
  variance: (x) => [x.variance(), x.variance(1), x.variance([0, 1], { correction: 0, keepdim: true })],
  watch: () => undefined,
  zero_: (x) => x.zero_(),
  constructor: () => undefined,
};

const functions: Record<keyof typeof F, () => unknown> = {
  avgPool2d: () => F.avgPool2d(image(), 2),
  attentionByProducts: () => F.attentionByProducts(image(), image(), image(), { causal: true }),
  conv2d: () => [
    F.conv2d(image(), ones([2, 2, 3, 3])),
    F.conv2d(image(), ones([2, 1, 3, 3]), ones([2]), { stride: 2, padding: 1, dilation: 1, groups: 2 }),
  ],
  crossEntropy: () => [
    F.crossEntropy(ones([2, 3]), tensor([0, 1], { dtype: 'int64' })),
    F.crossEntropy(ones([2, 3]), tensor([0, 1], { dtype: 'int64' }), { reduction: 'sum' }),
  ],
  embedding: () => F.embedding(ones([2, 3]), ids()),
  groupNorm: () => [F.groupNorm(image(), 2), F.groupNorm(image(), 1, ones([2]), ones([2]), 1e-3)],
  interpolateBicubic: () => [
    F.interpolateBicubic(image(), [2, 3]),
    F.interpolateBicubic(image(), [2, 3], { antialias: true }),
  ],
  interpolateBilinear: () => [
    F.interpolateBilinear(image(), [2, 3]),
    F.interpolateBilinear(image(), [2, 3], { antialias: true }),
  ],
  interpolateNearest: () => F.interpolateNearest(image(), [2, 3]),
  layerNorm: () => [F.layerNorm(matrix(), [3]), F.layerNorm(matrix(), [3], ones([3]), ones([3]), 1e-3)],
  linear: () => [F.linear(matrix(), ones([4, 3])), F.linear(matrix(), ones([4, 3]), ones([4]))],
  mseLoss: () => [F.mseLoss(matrix(), matrix()), F.mseLoss(matrix(), matrix(), { reduction: 'none' })],
  pad: () => F.pad(image(), [1, 1, 0, 2], 0.5),
  scaledDotProductAttention: () => [
    F.scaledDotProductAttention(image(), image(), image()),
    F.scaledDotProductAttention(image(), image(), image(), { causal: true, scale: 0.1 }),
    F.scaledDotProductAttention(image(), image(), image(), { mask: ones([4, 4], { dtype: 'bool' }) }),
  ],
};

test('every typed method fits the schema of the linked libtorch', () => {
  const methods = Object.getOwnPropertyNames(torch.Tensor.prototype).filter(
    (name) => typeof Object.getOwnPropertyDescriptor(torch.Tensor.prototype, name)?.value === 'function',
  );
  expect(methods.sort()).toEqual(Object.keys(calls).sort()); // a new method needs a line above
  torch.scope(() => {
    for (const run of Object.values(calls)) run(matrix());
  });
  expect(seen.faults).toEqual([]);
  const unused = Object.entries(op).filter(([, number]) => !seen.operators.has(number));
  expect(unused.map(([name]) => name)).toEqual([]);
});

test('every function and factory fits the schema', () => {
  const settings = ['MOST_SCORES_BY_PRODUCTS', 'setAttention']; // no operators
  expect(Object.keys(F).sort()).toEqual([...Object.keys(functions), ...settings].sort());
  torch.scope(() => {
    for (const run of Object.values(functions)) run();
    torch.empty([2]);
    torch.zeros([2], { dtype: 'bool', device: 'cpu' });
    torch.full([2], 3);
    torch.ones([]);
    torch.eye(3);
    torch.arange(3);
    torch.linspace(0, 1, 3);
    torch.cat([ones([1]), ones([2])]);
    torch.stack([ones([1]), ones([1])], 1);
    torch.where(ones([1]).gt(0), ones([1]), ones([1]));
  });
  expect(seen.faults).toEqual([]);
});

test('the check sees a wrong call', () => {
  torch.scope(() => {
    const x = matrix();
    for (const bad of [[x.handle, 1.5], [x.handle, '1'], [x.handle, 0, 1, 2, 3, 4], [7, 0], []]) {
      const before = seen.faults.length;
      expect(() => native.call(op.cumsum, ...bad)).toThrow();
      expect(seen.faults.length).toBeGreaterThan(before);
    }
  });
});
