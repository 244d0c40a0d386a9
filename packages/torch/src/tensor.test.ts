import { expect, test } from 'vitest';
import {
  arange,
  autocast,
  availableDevices,
  type Device,
  type DType,
  empty,
  eye,
  F,
  fromBytes,
  full,
  linspace,
  noGrad,
  ones,
  ops,
  scope,
  setThreads,
  Tensor,
  tensor,
  threads,
  torchVersion,
  UserError,
  zeros,
} from './index.js';

test('a scalar is an integer only if the tensor is integral', () => {
  scope(() => {
    const ints = arange(3, { dtype: 'int64' });
    expect(ints.add(1).dtype).toBe('int64');
    expect(ints.add(1.5).dtype).toBe('float32');
    expect(ints.add(1.5).toNumbers()).toEqual([1.5, 2.5, 3.5]);
    expect(ints.mul(2).toNumbers()).toEqual([0, 2, 4]);
    expect(ints.div(2).dtype).toBe('float32');
    expect(ints.pow(2).dtype).toBe('int64');
    expect(tensor([1.5]).add(1).dtype).toBe('float32');
    expect(tensor([1.5], { dtype: 'float64' }).add(1).dtype).toBe('float64');
    expect(tensor([1], { dtype: 'uint8' }).add(255).toNumbers()).toEqual([0]); // wraps around, as in PyTorch
    expect(ones([1], { dtype: 'bool' }).add(1).dtype).toBe('int64');
    expect(ints.eq(1).dtype).toBe('bool');
  });
});

test('integer arguments refuse fractions, NaN and what has lost digits; BigInt goes beyond 2^53', () => {
  scope(() => {
    const x = ones([4]);
    for (const bad of [0.5, Number.NaN, Infinity, 2 ** 53]) {
      expect(() => x.narrow(0, bad, 1)).toThrow(/aten::narrow: expected an integer for start, got .*2\^53/);
      expect(() => x.reshape([bad])).toThrow(/expected an integer/);
    }
    expect(() => x.narrow(0, '1' as never, 1)).toThrow(/expected an integer for start/);
    const big = 2n ** 62n + 1n;
    expect((tensor([big], { dtype: 'int64' }).toArray() as BigInt64Array)[0]).toBe(big);
    expect((ops.aten('add', 'Scalar')(tensor([1], { dtype: 'int64' }), big) as Tensor).toArray()[0]).toBe(
      big + 1n,
    );
    expect(() => ops.aten('add', 'Scalar')(x, 2n ** 63n)).toThrow(/does not fit into 64 bits/);
    expect(() => tensor([big], { dtype: 'int64' }).item()).toThrow(/would lose digits/);
    expect(() => tensor([-(2n ** 63n)], { dtype: 'int64' }).item()).toThrow(
      /-9223372036854775808 is beyond 2\^53/,
    );
    expect(tensor([-(2 ** 53) + 1], { dtype: 'int64' }).item()).toBe(-(2 ** 53) + 1);
    expect(() => tensor([1.5], { dtype: 'int64' })).toThrow(UserError);
  });
});

test('every dtype goes in and out', () => {
  const cases: [DType, number[], unknown][] = [
    ['float64', [1.5, -2], Float64Array],
    ['float32', [1.5, -2], Float32Array],
    ['float16', [1.5, -2], Float32Array],
    ['bfloat16', [1.5, -2], Float32Array],
    ['int64', [3, -2], BigInt64Array],
    ['int32', [3, -2], Int32Array],
    ['uint8', [3, 254], Uint8Array],
    ['bool', [1, 0], Uint8Array],
  ];
  scope(() => {
    for (const [dtype, values, list] of cases) {
      const made = tensor(values, { dtype });
      expect(made.dtype).toBe(dtype);
      expect(made.toArray()).toBeInstanceOf(list);
      expect(made.toNumbers()).toEqual(values);
      expect(fromBytes(made.bytes(), dtype, [2]).toNumbers()).toEqual(values);
      expect(zeros([2], { dtype }).dtype).toBe(dtype);
    }
    expect(
      tensor([
        [1, 2, 3],
        [4, 5, 6],
      ]).shape,
    ).toEqual([2, 3]);
    expect(tensor(new Float64Array(6), { shape: [3, 2] }).dtype).toBe('float64');
    expect(tensor(7).shape).toEqual([]);
    expect(tensor(7).item()).toBe(7);
    expect(tensor([]).shape).toEqual([0]);
    expect(() => tensor([[1, 2], [3]])).toThrow(/cannot be made from/);
    expect(() => tensor([1], { dtype: 'float31' as never })).toThrow(
      /dtype: "float31" is unknown — one of float64|uint8/,
    );
    expect(() => zeros([1], { dtype: 'constructor' as never })).toThrow(/is unknown/);
    expect(() => fromBytes(new Uint8Array(7), 'float32', [2])).toThrow(/8 bytes cannot be made from 7 bytes/);
  });
});

test('factories', () => {
  scope(() => {
    expect(full([2], 2.5).toNumbers()).toEqual([2.5, 2.5]);
    expect(full([2], 3, { dtype: 'int64' }).toNumbers()).toEqual([3, 3]);
    expect(eye(2).toNumbers()).toEqual([1, 0, 0, 1]);
    expect(arange(3).toNumbers()).toEqual([0, 1, 2]);
    expect(arange(1, 2, 0.25, { dtype: 'float64' }).toNumbers()).toEqual([1, 1.25, 1.5, 1.75]);
    expect(arange(5, 0, -2, { dtype: 'int64' }).toNumbers()).toEqual([5, 3, 1]);
    expect(linspace(0, 1, 5).toNumbers()).toEqual([0, 0.25, 0.5, 0.75, 1]);
    expect(empty([2, 0, 3]).numel).toBe(0);
    expect(empty([2, 5, 3]).numel).toBe(30);
    expect(() => zeros([-1])).toThrow(/aten::zeros/);
  });
});

test('more memory than the machine has is an error, not the end', () => {
  for (const make of [
    () => zeros([2 ** 40]),
    () => empty([2 ** 20, 2 ** 20, 4]),
    () =>
      ones([1])
        .expand([2 ** 42])
        .clone(),
    () => arange(2 ** 45),
  ]) {
    expect(() => scope(make)).toThrow(
      /a tensor of \d+ bytes was asked for, but this machine has \d+ bytes of memory/,
    );
  }
});

test('errors name the operator, the rule and the operands', () => {
  scope(() => {
    const a = ones([2, 3]);
    expect(() => a.add(ones([4]))).toThrow(
      /^aten::add\.Tensor: The size of tensor a \(3\) must match .* \[operands: Float\[2, 3\], Float\[4\]\]$/,
    );
    expect(() => ops.aten('nonsense')).toThrow(/has no operator aten::nonsense/);
    expect(() => ops.aten('add', 'Tensor')(a)).toThrow(/missing argument 'other' \(Tensor\)/);
    expect(() => ops.aten('add', 'Tensor')(a, 1)).toThrow(/expected a Tensor, got number/);
    expect(() => ops.aten('relu')(a, 1)).toThrow(/got 2 arguments, takes at most 1/);
    expect(() => ops.aten('sum')(a, a)).toThrow(/expected ScalarType, got a Tensor/);
    expect(() => ops.aten('add', 'out')).toThrow(/an output that is given to it/);
    expect(() => ops.aten('tanh_backward')).toThrow(/Use grad\(\)/);
  });
});

test('raw operators: lists, optional tensors, numbers, strings, several results', () => {
  scope(() => {
    const a = tensor([[3, 1, 2]]);
    const [values, indices] = ops.aten('sort')(a, -1, true) as [Tensor, Tensor];
    expect(values.toNumbers()).toEqual([3, 2, 1]);
    expect(indices.dtype).toBe('int64');
    expect((ops.aten('roll')(a, [1], [1]) as Tensor).toNumbers()).toEqual([2, 3, 1]);
    expect(
      (ops.aten('index', 'Tensor')(a, [null, tensor([2, 0], { dtype: 'int64' })]) as Tensor).toNumbers(),
    ).toEqual([2, 3]);
    expect((ops.aten('unbind', 'int')(a, 1) as Tensor[]).map((t) => t.item())).toEqual([3, 1, 2]);
    expect(ops.aten('equal')(a, a)).toBe(true);
    expect(ops.aten('size', 'int')(a, 1)).toBe(3);
    expect((ops.aten('to', 'dtype')(a, 'float64') as Tensor).dtype).toBe('float64');
    expect((ops.aten('empty', 'memory_format')([2], undefined, undefined, 'cpu') as Tensor).shape).toEqual([
      2,
    ]);
    expect((ops.aten('div', 'Tensor_mode')(a, tensor(2), 'floor') as Tensor).toNumbers()).toEqual([1, 0, 1]);
    expect(ops.operatorNames().length).toBeGreaterThan(2000);
  });
});

test('autocast: products narrow, sums wide, and off again after', () => {
  scope(() => {
    const a = ones([4, 4]).mul(1.001).requiresGrad_();
    const seen = autocast('bfloat16', () => [
      a.matmul(a).dtype,
      F.linear(a, a).dtype,
      a.add(a).dtype,
      a.softmax(0).dtype,
    ]);
    expect(seen).toEqual(['bfloat16', 'bfloat16', 'float32', 'float32']);
    expect(a.matmul(a).dtype).toBe('float32');
    expect(autocast('float32', () => a.matmul(a).dtype)).toBe('float32');
    expect(() =>
      autocast('bfloat16', () => {
        throw new Error('out');
      }),
    ).toThrow('out');
    expect(a.matmul(a).dtype).toBe('float32');
    expect(autocast('bfloat16', () => autocast('float16', () => a.matmul(a).dtype))).toBe('bfloat16');
    // its cache of narrowed weights is dropped at the end: a changed weight is seen
    const product = () =>
      autocast('bfloat16', () =>
        F.linear(ones([1, 4]), a)
          .to('float32')
          .sum()
          .item(),
      );
    const before = product();
    noGrad(() => a.mul_(2));
    expect(product()).toBe(2 * before);
  });
});

test('devices: what is not there is an error that names what is', () => {
  expect(availableDevices()[0]).toBe('cpu');
  expect(() => zeros([1], { device: 'cuda:99' })).toThrow(
    /device: "cuda:99" is not here — this libtorch sees cpu/,
  );
  expect(() => ones([1]).to('tpu' as Device)).toThrow(UserError);
  expect(() => ones([1]).to({ device: 'meta' as Device })).toThrow(UserError);
  expect(torchVersion()).toMatch(/^2\.\d+\.\d+/);
});

test('threads', () => {
  const before = threads();
  setThreads(1);
  expect(threads()).toBe(1);
  expect(() => setThreads(0)).toThrow(/from 1 to 1024/);
  expect(() => setThreads(1.5)).toThrow(/expected an integer/);
  setThreads(before);
});

test('a tensor prints itself, also one of a type that is not handled', () => {
  scope(() => {
    expect(String(ones([2, 3]))).toBe('Tensor(float32[2, 3], cpu)');
    const complex = ops.aten('fft_fft')(ones([4])) as Tensor;
    expect(complex).toBeInstanceOf(Tensor);
    expect(String(complex)).toBe('Tensor(libtorch type 9[4], cpu)');
    expect(() => complex.dtype).toThrow(/type number 9 is not supported/);
  });
});
