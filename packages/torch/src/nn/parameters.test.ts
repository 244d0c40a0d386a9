import { expect, test } from 'vitest';
import {
  Conv2d,
  Embedding,
  F,
  GroupNorm,
  LayerNorm,
  Linear,
  liveTensors,
  type ParameterPath,
  Parameters,
  scope,
  type Tensor,
  tensor,
  UserError,
  zeros,
} from '../index.js';

function net(path: ParameterPath) {
  return {
    embedding: new Embedding(path.at('embedding'), 5, 4),
    norm: new LayerNorm(path.at('norm'), 4),
    out: new Linear(path.at('layers', 0, 'out'), 4, 3, { bias: false }),
    conv: new Conv2d(path.at('conv'), 2, 4, 3, { padding: 1, stride: 2 }),
    group: new GroupNorm(path.at('group'), 2, 4),
  };
}
const names = [
  'embedding.weight',
  'norm.weight',
  'norm.bias',
  'layers.0.out.weight',
  'conv.weight',
  'conv.bias',
  'group.weight',
  'group.bias',
];

test('names, shapes and initial distributions', () => {
  const before = liveTensors();
  const parameters = Parameters.random(1);
  net(parameters.at());
  expect([...parameters.entries.keys()]).toEqual(names);
  expect([...parameters.layers.keys()]).toEqual(['layers.0.out', 'conv']);
  expect(parameters.entries.get('conv.weight')?.shape).toEqual([4, 2, 3, 3]);
  expect(parameters.entries.get('norm.weight')?.toNumbers()).toEqual([1, 1, 1, 1]);
  expect(parameters.entries.get('norm.bias')?.toNumbers()).toEqual([0, 0, 0, 0]);
  expect(parameters.count).toBe(20 + 4 + 4 + 12 + 72 + 4 + 4 + 4);
  const bound = 1 / Math.sqrt(18);
  const conv = parameters.entries.get('conv.weight')?.toNumbers() as number[];
  expect(Math.max(...conv.map(Math.abs))).toBeLessThanOrEqual(bound);
  expect(Math.max(...conv)).toBeGreaterThan(0.8 * bound);
  expect(Math.min(...conv)).toBeLessThan(-0.8 * bound);
  parameters.free();
  expect(liveTensors()).toBe(before);
});

test('a drawn parameter depends on seed and name alone', () => {
  const draw = (seed: number, order: string[]) => {
    const parameters = Parameters.random(seed);
    for (const name of order) new Linear(parameters.at(name), 3, 2);
    const values = Object.fromEntries([...parameters.entries].map(([name, t]) => [name, t.toNumbers()]));
    parameters.free();
    return values;
  };
  expect(draw(1, ['a', 'b'])).toEqual(draw(1, ['b', 'a']));
  expect(draw(1, ['a', 'b'])).not.toEqual(draw(2, ['a', 'b']));
  const { 'a.weight': a, 'b.weight': b } = draw(1, ['a', 'b']);
  expect(a).not.toEqual(b);
});

test('from a state dict: copies, converted; missing, misshapen and unused names are errors that say so', () => {
  scope(() => {
    const source = Parameters.random(4);
    net(source.at());
    const state = source.state();
    const loaded = Parameters.from(state, { dtype: 'float64' });
    net(loaded.at());
    loaded.assertAllUsed();
    expect(loaded.entries.get('conv.bias')?.dtype).toBe('float64');
    loaded.entries.get('conv.bias')?.zero_();
    expect(state.get('conv.bias')?.abs().sum().item()).toBeGreaterThan(0); // a copy
    const load = (change: (map: typeof state) => void) => () => {
      const changed = new Map(state);
      change(changed);
      const parameters = Parameters.from(changed, { where: 'file.safetensors' });
      net(parameters.at());
      parameters.assertAllUsed();
    };
    expect(load((map) => map.delete('conv.bias'))).toThrow(
      /^file\.safetensors: tensor "conv\.bias" \[4\] is missing/,
    );
    expect(load((map) => map.set('conv.bias', zeros([2, 2])))).toThrow(
      /"conv\.bias" has shape \[2, 2\], the config asks for \[4\]/,
    );
    expect(load((map) => map.set('conv.extra', zeros([1])))).toThrow(
      /1 tensors belong to no layer of this config: conv\.extra/,
    );
    expect(load((map) => map.delete('norm.bias'))).toThrow(UserError);
    const twice = Parameters.random(1);
    new Linear(twice.at('a'), 1, 1);
    expect(() => new Linear(twice.at('a'), 1, 1)).toThrow(/parameter "a\.weight" is asked for twice/);
    for (const owner of [source, loaded, twice]) owner.free();
  });
});

test('whole numbers are no weights, and neither are NaN and infinity', () => {
  scope(() => {
    const load = (weight: Tensor) => {
      const parameters = Parameters.from(new Map([['a.weight', weight]]), {
        dtype: 'float32',
        where: 'a.safetensors',
      });
      try {
        new Linear(parameters.at('a'), 2, 1, { bias: false });
        parameters.assertAllUsed();
      } finally {
        parameters.free();
      }
    };
    for (const dtype of ['int64', 'int32', 'uint8', 'bool'] as const) {
      expect(() => load(tensor([[1, 0]], { dtype }))).toThrow(
        `a.safetensors: tensor "a.weight" is ${dtype} — weights are floating-point numbers`,
      );
    }
    for (const wrong of [Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => load(tensor([[1, wrong]]))).toThrow(
        'a.safetensors: tensor "a.weight" [1, 2] holds NaN or infinity — the training that wrote it had diverged',
      );
    }
    load(tensor([[1, 0]], { dtype: 'bfloat16' }));
    const batches = new Map([['norm.num_batches_tracked', tensor(7, { dtype: 'int64' })]]);
    const counters = Parameters.from(batches, { dtype: 'float32' });
    expect(counters.at('norm').tensor('num_batches_tracked', [], 'zeros').item()).toBe(7);
    counters.free();
  });
});

test('trainable turns gradients on and off', () => {
  const parameters = Parameters.random(1);
  const layer = new Linear(parameters.at('a'), 2, 2);
  expect(layer.weight.requiresGrad).toBe(false);
  expect(parameters.trainable()).toHaveLength(2);
  expect(layer.weight.requiresGrad && layer.bias?.requiresGrad).toBe(true);
  parameters.trainable(false);
  expect(layer.weight.requiresGrad).toBe(false);
  parameters.free();
});

test('layers compute what their functions do; low-rank branches add scale · up(down(x))', () => {
  scope(() => {
    const parameters = Parameters.random(2);
    const { embedding, norm, out, conv, group } = net(parameters.at());
    const ids = tensor([[4, 0]], { dtype: 'int64' });
    const x = embedding.forward(ids); // [1, 2, 4]
    expect(x.toNumbers()).toEqual(embedding.weight.indexSelect(0, ids.squeeze(0)).toNumbers());
    const normal = norm.forward(x);
    expect(normal.mean(-1).abs().amax().item()).toBeLessThan(1e-6);
    expect(normal.variance(-1, { correction: 0 }).toNumbers()[0]).toBeCloseTo(1, 3);
    const image = tensor(
      Array.from({ length: 32 }, (_, i) => Math.sin(i)),
      { dtype: 'float32' },
    ).reshape([1, 2, 4, 4]);
    const made = conv.forward(image);
    expect(made.toNumbers()).toEqual(
      F.conv2d(image, conv.weight, conv.bias, { stride: 2, padding: 1 }).toNumbers(),
    );
    expect(group.forward(made).shape).toEqual([1, 4, 2, 2]);
    const plain = out.forward(x);
    const down = tensor([[1, 0, 0, 0]]);
    const up = tensor([[1], [2], [3]]);
    out.branches = [{ down, up, scale: 0.5 }];
    const expected = plain.add(x.narrow(2, 0, 1).matmul(up.transpose(0, 1)), 0.5).toNumbers();
    out
      .forward(x)
      .toNumbers()
      .forEach((value, i) => {
        expect(value).toBeCloseTo(expected[i] as number, 6);
      });
    out.branches = [{ down, up, scale: 0 }];
    expect(out.forward(x).toNumbers()).toEqual(plain.toNumbers());
    parameters.free();
  });
});
