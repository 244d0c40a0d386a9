// Whatever reads memory gives the same numbers for the same tensor, however it lies in memory.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import {
  AdamW,
  cat,
  clipGradNorm,
  ExponentialMovingAverage,
  F,
  GradientAccumulator,
  grad,
  noGrad,
  noiseKey,
  normal,
  ops,
  Parameters,
  readSafetensors,
  type StateTree,
  scope,
  type Tensor,
  tensor,
  writeSafetensors,
  zeros,
} from './index.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-formats-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The tensor in other orders of memory; none is row-major unless it has one element a dimension. */
const formats: Record<string, (dense: Tensor) => Tensor> = {
  'channels last': (dense) => asIf(dense, (rank) => [0, ...range(2, rank), 1]),
  transposed: (dense) => asIf(dense, (rank) => [...range(0, rank)].reverse()),
  'first two swapped': (dense) => asIf(dense, (rank) => [1, 0, ...range(2, rank)]),
  'a slice of more columns': (dense) => {
    const rank = dense.shape.length;
    const last = dense.shape[rank - 1] as number;
    return cat([dense, dense, dense], rank - 1).narrow(rank - 1, last, last);
  },
  'every second element': (dense) =>
    cat([dense.unsqueeze(-1), dense.neg().unsqueeze(-1)], dense.shape.length).select(dense.shape.length, 0),
  'with an offset': (dense) => cat([dense.flatten(), dense.flatten()]).narrow(0, dense.numel, dense.numel).reshape(dense.shape), // biome-ignore format: one thought
};

const range = (from: number, to: number) =>
  Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);

/** Lies in memory as if its dimensions had that order. */
function asIf(dense: Tensor, orderOf: (rank: number) => number[]): Tensor {
  const rank = dense.shape.length;
  if (rank < 2) return dense;
  const order = orderOf(rank);
  return dense.permute(order).contiguous().permute(order.map((_, dim) => order.indexOf(dim))); // biome-ignore format: one thought
}

const draw = (seed: number, name: string, shape: readonly number[]) =>
  normal([noiseKey(seed, name)], shape).squeeze(0);

/** Of some tensors of one shape, what a reader of memory makes of them. Must not depend on how they lie. */
const readers: Record<string, (given: Tensor) => number[]> = {
  toNumbers: (given) => given.toNumbers(),
  bytes: (given) => [...given.bytes()],
  'toArray in bfloat16': (given) => [...(given.to('bfloat16').toArray() as Float32Array)],
  contiguous: (given) => given.contiguous().toNumbers(),
  clone: (given) => given.clone().toNumbers(),
  'AdamW.step, its gradient': (given) => {
    const parameter = draw(1, 'parameter', given.shape);
    const optimiser = new AdamW([parameter], { learningRate: 0.1 });
    for (let step = 0; step < 3; step++) optimiser.step([given]);
    optimiser.free();
    return parameter.toNumbers();
  },
  'AdamW.load, its moments': (given) => {
    const parameter = draw(1, 'parameter', given.shape);
    const optimiser = new AdamW([parameter], { learningRate: 0.1 });
    const steps = [tensor(3)];
    optimiser.load({ first: [given], second: [given.square()], steps } as unknown as StateTree);
    optimiser.step([draw(1, 'gradient', given.shape)]);
    optimiser.free();
    return parameter.toNumbers();
  },
  'AdamW.step, a parameter out of a state dict': (given) => {
    const parameters = Parameters.from(new Map([['w', given]]));
    const parameter = parameters.create('w', given.shape, 'zeros');
    const optimiser = new AdamW([parameter], { learningRate: 0.1 });
    optimiser.step([draw(1, 'gradient', given.shape)]);
    const stepped = parameter.toNumbers();
    optimiser.free();
    parameters.free();
    return stepped;
  },
  'ExponentialMovingAverage, its parameter': (given) => {
    const average = new ExponentialMovingAverage([given], 0.5);
    average.averaged[0]?.zero_();
    for (let step = 0; step < 2; step++) average.update();
    const averaged = (average.averaged[0] as Tensor).toNumbers();
    average.free();
    return averaged;
  },
  'ExponentialMovingAverage.load': (given) => {
    const average = new ExponentialMovingAverage([zeros(given.shape)], 0.5);
    average.load({ averaged: [given], updates: 1 });
    average.update();
    const averaged = (average.averaged[0] as Tensor).toNumbers();
    average.free();
    return averaged;
  },
  'GradientAccumulator.add': (given) => {
    const accumulator = new GradientAccumulator([zeros(given.shape)]);
    accumulator.add([given], 0.5);
    accumulator.add([given]);
    const sums = accumulator.take(([sum]) => (sum as Tensor).toNumbers());
    accumulator.free();
    return sums;
  },
  clipGradNorm: (given) => {
    const own = tensor(given.toNumbers(), { shape: given.shape });
    const norm = clipGradNorm([given, own], 0.01);
    expect(norm).toBeGreaterThan(0.01);
    return [norm / 100, ...given.toNumbers()];
  },
  linear: (given) => F.linear(given, draw(2, 'weight', [3, given.shape.at(-1) as number])).toNumbers(),
  layerNorm: (given) => F.layerNorm(given, [given.shape.at(-1) as number]).toNumbers(),
  softmax: (given) => given.softmax(-1).toNumbers(),
  attention: (given) => {
    const q = given.reshape([1, 1, -1, given.shape.at(-1) as number]);
    return [F.scaledDotProductAttention, F.attentionByProducts].flatMap((of) => of(q, q, q).toNumbers());
  },
  'gradient of a matrix product': (given) => {
    const x = given.detach().requiresGrad_();
    const y = F.linear(x, draw(2, 'weight', [3, given.shape.at(-1) as number])).tanh();
    return (grad(y.square().sum(), [x])[0] as Tensor).toNumbers();
  },
};

function same(actual: readonly number[], expected: readonly number[]): void {
  expect(actual.length).toBe(expected.length);
  const largest = Math.max(1e-9, ...expected.map(Math.abs));
  const off = actual.findIndex((value, i) => !(Math.abs(value - (expected[i] as number)) <= 3e-6 * largest));
  expect(off, `element ${off}: ${actual[off]} for ${expected[off]}`).toBe(-1);
}

const shapes = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 4 });

describe.each(Object.keys(formats))('%s', (format) => {
  test('any shape: every reader of memory sees the same numbers', () => {
    fc.assert(
      fc.property(shapes, fc.nat({ max: 1000 }), (shape, seed) =>
        scope(() => {
          for (const [name, read] of Object.entries(readers)) {
            const dense = () => draw(seed, 'x', shape).mul(3);
            const given = (formats[format] as (dense: Tensor) => Tensor)(dense());
            expect(given.shape).toEqual(shape);
            try {
              same(read(given), read(dense()));
            } catch (error) {
              throw new Error(`${name}, [${shape}] as ${format}: ${(error as Error).message}`);
            }
          }
        }),
      ),
      { numRuns: 12, seed: 7 },
    );
  });

  test.each([
    ['libtorch’s', 6, 10],
    ['Winograd’s', 16, 32],
  ])('3x3 convolution (%s): input, weight, bias and gradients', (_, inChannels, outChannels) => {
    scope(() => {
      const as = formats[format] as (dense: Tensor) => Tensor;
      const given = {
        x: draw(3, 'x', [2, inChannels, 5, 4]),
        weight: draw(3, 'weight', [outChannels, inChannels, 3, 3]),
        bias: draw(3, 'bias', [outChannels]),
        gradient: draw(3, 'gradient', [2, outChannels, 5, 4]),
      };
      type Given = typeof given;
      const plain = ({ x, weight, bias }: Given) => F.conv2d(x, weight, bias, { padding: 1 }).toNumbers();
      const gradients = ({ x, weight, bias, gradient }: Given, learned: boolean) => {
        const inputs = (learned ? [x, weight, bias] : [x]).map((t) => t.detach().requiresGrad_());
        const [ofX, ofWeight = weight, ofBias = bias] = inputs as [Tensor, Tensor?, Tensor?];
        const y = F.conv2d(ofX, ofWeight, ofBias, { padding: 1 });
        return grad(y, inputs, { gradOutputs: [gradient] }).flatMap((t) => t.toNumbers());
      };
      for (const part of Object.keys(given) as (keyof Given)[]) {
        const strided = { ...given, [part]: as(given[part]) };
        same(plain(strided), plain(given));
        for (const learned of [false, true]) same(gradients(strided, learned), gradients(given, learned));
      }
    });
  });
});

test('safetensors: what is written is what is read', () => {
  scope(() => {
    const dense = draw(8, 'x', [3, 2, 4, 5]);
    const all = [
      ...Object.entries(formats),
      ['expanded', () => dense.narrow(1, 0, 1).expand([3, 2, 4, 5])] as const,
    ];
    const file = join(folder, 'formats.safetensors');
    writeSafetensors(file, new Map(all.map(([name, as]) => [name, as(dense)])));
    const { tensors } = readSafetensors(file);
    for (const [name, as] of all) expect(tensors.get(name)?.toNumbers(), name).toEqual(as(dense).contiguous().toNumbers()); // biome-ignore format: one thought
    const [one] = all[0] as [string, unknown];
    expect(tensors.get(one)?.toNumbers()).toEqual(dense.toNumbers());
  });
});

test('zero strides: what is expanded counts as if it had been copied', () => {
  scope(() => {
    for (const [name, read] of Object.entries(readers)) {
      for (const [from, to] of [
        [
          [1, 3],
          [4, 3],
        ],
        [
          [2, 1, 3],
          [2, 5, 3],
        ],
        [[1], [6]],
      ] as const) {
        const expanded = () => draw(5, 'x', from).mul(3).expand(to);
        if (name === 'clipGradNorm') {
          // scaled in place: libtorch refuses memory that several elements share
          expect(() => read(expanded())).toThrow('more than one element of the written-to tensor');
        } else same(read(expanded()), read(expanded().contiguous()));
      }
    }
  });
});

test('a typed array that is a part of a larger one gives its own numbers', () => {
  scope(() => {
    const all = Float32Array.from({ length: 12 }, (_, i) => i);
    expect(tensor(all.subarray(5, 9), { shape: [2, 2] }).toNumbers()).toEqual([5, 6, 7, 8]);
    expect(tensor(new Uint8Array(all.buffer, 3, 4)).toNumbers()).toEqual([
      ...new Uint8Array(all.buffer).subarray(3, 7),
    ]);
  });
});

test('two parameters that are only added share one gradient: it is clipped once', () => {
  scope(() => {
    const [a, b, c] = [
      [1, 2],
      [1, 1],
      [2, 3],
    ].map((list) => tensor(list).requiresGrad_()) as [Tensor, Tensor, Tensor];
    const gradients = grad(a.add(b).square().sum().add(c.square().sum()), [a, b, c]); // 2 (a + b), the same, 2 c
    const before = gradients.map((gradient) => gradient.toNumbers());
    expect(before).toEqual([
      [4, 6],
      [4, 6],
      [4, 6],
    ]); // c's is of its own memory, and as long
    const norm = clipGradNorm(gradients, 1);
    expect(norm).toBeCloseTo(Math.sqrt(3 * 52), 4);
    for (const gradient of gradients) same(gradient.toNumbers(), [4 / norm, 6 / norm]);
  });
});

test('a weight that an optimiser stepped is packed anew for Winograd’s kernel', () => {
  scope(() => {
    const x = draw(4, 'x', [1, 16, 4, 4]);
    const weight = draw(4, 'weight', [16, 16, 3, 3]);
    const conv = () => F.conv2d(x, weight, undefined, { padding: 1 });
    conv();
    const optimiser = new AdamW([weight], { learningRate: 0.5 });
    optimiser.step([weight]);
    const exact = F.conv2d(x.to('float64'), weight.to('float64'), undefined, { padding: 1 });
    same(conv().toNumbers(), exact.toNumbers());
    const average = new ExponentialMovingAverage([weight], 0.5);
    noGrad(() => weight.mul_(3));
    conv();
    average.update(); // (1 - 0.1) of what is three times as large
    expect(
      average.averaged[0]
        ?.sub(weight.mul(0.9 + 0.1 / 3))
        .abs()
        .amax()
        .item(),
    ).toBeLessThan(1e-5);
    optimiser.free();
    average.free();
  });
});

test('fused optimisers called by name refuse what they would scramble', () => {
  scope(() => {
    const dense = draw(6, 'x', [2, 3]);
    const strided = dense.transpose(0, 1).contiguous().transpose(0, 1);
    const call = (gradient: Tensor) =>
      ops.aten('_fused_adamw_')(
        [zeros([2, 3])],
        [gradient],
        [zeros([2, 3])],
        [zeros([2, 3])],
        [],
        [tensor(1)],
        ...[0.1, 0.9, 0.99, 0, 1e-8, false, false],
      );
    call(dense);
    expect(() => call(strided)).toThrow(
      'ops.aten: _fused_adamw_ is refused with a tensor of shape [2,3] and strides [1,2]',
    );
  });
});
