import { expect, test } from 'vitest';
import {
  AdamW,
  cat,
  clipGradNorm,
  constant,
  cosine,
  ExponentialMovingAverage,
  GradientAccumulator,
  linearWarmup,
  liveBytes,
  liveTensors,
  noGrad,
  noiseKey,
  normal,
  ones,
  type StateTree,
  scope,
  type Tensor,
  tensor,
  UserError,
} from '../index.js';

type DTypes = 'float32' | 'float64';
const weights = (dtype: DTypes = 'float32') => [
  tensor([1, -2, 3], { dtype }),
  tensor([[0.5, -0.25]], { dtype }),
];
/** The gradient of parameter i at update t: 0.3 w + 0.1 (t + 1) (i + 1). */
const gradients = (parameters: readonly Tensor[], t: number) =>
  parameters.map((p, i) =>
    noGrad(() =>
      p
        .detach()
        .mul(0.3)
        .add(0.1 * (t + 1) * (i + 1)),
    ),
  );
const values = (list: readonly Tensor[]) => list.map((t) => t.toNumbers());

/** Within `bound`, relative to numbers above 1. */
function close(actual: readonly Tensor[], expected: number[][], bound: number): void {
  actual.forEach((t, i) => {
    t.toNumbers().forEach((value, j) => {
      const wanted = expected[i]?.[j] as number;
      expect(Math.abs(value - wanted) / Math.max(1, Math.abs(wanted))).toBeLessThan(bound);
    });
  });
}
/** Of float32, in which each update may round a weight once or twice by half of it. */
const EPSILON = 2 ** -23;

test('AdamW equals torch.optim.AdamW (PyTorch 2.13.0, not fused, same gradients)', () => {
  scope(() => {
    const run = (dtype: DTypes, updates: number, options: ConstructorParameters<typeof AdamW>[1]) => {
      const parameters = weights(dtype).map((p) => p.requiresGrad_());
      const optimiser = new AdamW(parameters, options);
      for (let t = 0; t < updates; t++) optimiser.step(gradients(parameters, t));
      optimiser.free();
      return parameters;
    };
    const expected = [
      [0.5956085249859222, -1.6154556230967199, 2.5876226138176923],
      [0.10175448356499966, -0.6317313867440002],
    ];
    close(run('float64', 4, { learningRate: 0.1 }), expected, 4 * EPSILON); // PyTorch's run was in float32
    close(run('float32', 4, { learningRate: 0.1 }), expected, 4 * EPSILON);
    const options = { learningRate: 0.01, betas: [0.8, 0.95] as const, weightDecay: 0.3, epsilon: 1e-4 };
    close(
      run('float32', 7, options),
      [
        [0.9083559513092041, -1.9034152030944824, 2.867124557495117],
        [0.41914835572242737, -0.31357240676879883],
      ],
      7 * EPSILON,
    );
  });
});

test('gradients in any memory order step the same weights; parameters of another order are refused', () => {
  scope(() => {
    const shape = [4, 3, 2, 2];
    const dense = normal([noiseKey(1, 'gradient')], shape).squeeze(0); // [4, 3, 2, 2]
    const orders: Record<string, Tensor> = {
      'channels last': dense.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2]),
      transposed: dense.transpose(0, 1).contiguous().transpose(0, 1),
      sliced: cat([dense, dense], 1).narrow(1, 0, 3),
    };
    const stepped = (gradient: Tensor) => {
      const w = ones(shape);
      const optimiser = new AdamW([w], { learningRate: 0.1 });
      for (let t = 0; t < 3; t++) optimiser.step([gradient]);
      optimiser.free();
      return w.toNumbers();
    };
    const expected = stepped(dense);
    for (const [name, gradient] of Object.entries(orders)) {
      expect(gradient.isContiguous(), name).toBe(false);
      expect(stepped(gradient), name).toEqual(expected);
    }
    expect(stepped(ones([1]).expand(shape)), 'expanded').toEqual(stepped(ones(shape)));
    const { transposed } = orders as { transposed: Tensor };
    expect(() => new AdamW([transposed], { learningRate: 1 })).toThrow(
      'AdamW: parameter 0 of shape [4,3,2,2] has strides [4,16,2,1]',
    );
  });
});

test('the first update by hand: sign of the gradient, after the decay', () => {
  scope(() => {
    const [w] = weights('float64') as [Tensor];
    const optimiser = new AdamW([w], { learningRate: 0.1, weightDecay: 0.5, epsilon: 0 });
    optimiser.step([tensor([2, -7, 0.01], { dtype: 'float64' })]);
    // w (1 - 0.1 · 0.5) - 0.1 sign(g)
    close([w], [[0.95 - 0.1, -1.9 + 0.1, 2.85 - 0.1]], 12);
    optimiser.step([tensor([1, 1, 1], { dtype: 'float64' })], 0); // a scheduled rate of 0 changes nothing
    close([w], [[0.85, -1.8, 2.75]], 12);
    optimiser.free();
  });
});

test('saved and loaded, AdamW goes on bit for bit', () => {
  scope(() => {
    const [a, b] = [weights(), weights()];
    const [first, second] = [a, b].map((p) => new AdamW(p, { learningRate: 0.05 })) as [AdamW, AdamW];
    for (let t = 0; t < 3; t++) first.step(gradients(a, t));
    b.forEach((p, i) => {
      p.copy_(a[i] as Tensor);
    });
    second.load(first.state());
    for (let t = 3; t < 6; t++) {
      first.step(gradients(a, t));
      second.step(gradients(b, t));
    }
    expect(values(b)).toEqual(values(a));
    const state = first.state() as Record<string, Tensor[]>;
    for (const bad of [
      {},
      null,
      { ...state, first: [] },
      { ...state, second: [tensor([1]), tensor([[1, 2]])] },
    ]) {
      expect(() => second.load(bad as StateTree)).toThrow(UserError);
    }
    expect(() => second.load({ ...state, second: [tensor([1]), tensor([[1, 2]])] } as StateTree)).toThrow(
      /"second": saved tensor 0 has shape \[1\], the parameter \[3\]/,
    );
    expect(() => first.step([a[0] as Tensor])).toThrow(/1 gradients for 2 parameters/);
    first.free();
    second.free();
  });
});

test('clipGradNorm: one norm over all, scaled in place only when above; NaN scales nothing', () => {
  scope(() => {
    const grads = () => [tensor([3, 4]), tensor([[12]])];
    const big = grads();
    expect(clipGradNorm(big, 6.5)).toBe(13);
    expect(values(big)).toEqual([[1.4999998807907104, 1.9999998807907104], [5.999999523162842]]); // clip_grad_norm_
    const small = grads();
    expect(clipGradNorm(small, 13.5)).toBe(13);
    expect(values(small)).toEqual([[3, 4], [12]]);
    const broken = [tensor([Number.NaN, 1])];
    expect(clipGradNorm(broken, 1)).toBeNaN();
    expect(values(broken)).toEqual([[Number.NaN, 1]]);
    expect(clipGradNorm([], 1)).toBe(0);
  });
});

test('GradientAccumulator: weighted sums, zero after take, also when use throws not lost', () => {
  const before = [liveTensors(), liveBytes()];
  scope(() => {
    const parameters = weights();
    const accumulator = new GradientAccumulator(parameters);
    accumulator.add([tensor([1, 2, 3]), tensor([[1, 1]])], 0.25);
    accumulator.add([tensor([4, 4, 4]), tensor([[2, 0]])], 0.5);
    expect(accumulator.count).toBe(2);
    expect(accumulator.take(values)).toEqual([
      [2.25, 2.5, 2.75],
      [1.25, 0.25],
    ]);
    expect(accumulator.count).toBe(0);
    accumulator.add([tensor([1, 1, 1]), tensor([[1, 1]])]);
    expect(() =>
      accumulator.take(() => {
        throw new Error('no room');
      }),
    ).toThrow('no room');
    expect(accumulator.take(values)).toEqual([
      [1, 1, 1],
      [1, 1],
    ]);
    expect(() => accumulator.add([])).toThrow(/0 gradients for 2 parameters/);
    accumulator.free();
  });
  expect([liveTensors(), liveBytes()]).toEqual(before);
});

test('ExponentialMovingAverage: warm-up of the decay, averaged values only inside', async () => {
  const before = liveTensors();
  const parameter = tensor([0], { dtype: 'float64' }).requiresGrad_();
  const average = new ExponentialMovingAverage([parameter], 0.2);
  let expected = 0;
  [1, 5, -3, 2].forEach((value, n) => {
    noGrad(() => parameter.fill_(value));
    average.update();
    const decay = Math.min(0.2, (1 + n) / (10 + n));
    expected = decay * expected + (1 - decay) * value;
    expect(average.averaged[0]?.item()).toBeCloseTo(expected, 12);
  });
  expect(await average.withAveraged(async () => parameter.item())).toBeCloseTo(expected, 12);
  expect(parameter.item()).toBe(2);
  await expect(average.withAveraged(() => Promise.reject(new Error('in the middle')))).rejects.toThrow(
    'in the middle',
  );
  expect(parameter.item()).toBe(2); // put back after an error too
  const other = new ExponentialMovingAverage([parameter], 0.2);
  other.load(average.state());
  noGrad(() => parameter.fill_(9));
  average.update();
  other.update();
  expect(other.averaged[0]?.item()).toBe(average.averaged[0]?.item());
  expect(() => other.load({ averaged: [], updates: 1 })).toThrow(UserError);
  expect(() => other.load({ averaged: [parameter] })).toThrow(/"updates" is undefined/);
  expect(() => new ExponentialMovingAverage([parameter], 1)).toThrow(/decay 1 must be in \[0, 1\)/);
  for (const owner of [average, other, parameter]) owner.free();
  expect(liveTensors()).toBe(before);
});

test('schedules', () => {
  expect([0, 1, 100].map(constant)).toEqual([1, 1, 1]);
  expect([0, 1, 3, 4, 50].map(linearWarmup(4))).toEqual([0.25, 0.5, 1, 1, 1]);
  expect(linearWarmup(0)(0)).toBe(1);
  const schedule = cosine(12, { warmup: 2, floor: 0.1 });
  const expected = [0.5, 1, 1, 0.55, 0.1, 0.1];
  [0, 1, 2, 7, 12, 99].forEach((step, i) => {
    expect(schedule(step)).toBeCloseTo(expected[i] as number, 12);
  });
});

test('AdamW.agreement: the cosine with the running mean of the gradients before, by hand', () => {
  const before = liveTensors();
  scope(() => {
    const parameters = [tensor([0, 0]), tensor([[0]])];
    const optimiser = new AdamW(parameters, { learningRate: 0.1 });
    const first = [tensor([3, 0]), tensor([[4]])];
    const second = [tensor([4, 5]), tensor([[3]])];
    expect(optimiser.agreement(first)).toBeUndefined();
    optimiser.step(first); // running mean (0.3, 0, 0.4)
    // (3·4 + 4·3) / (5 · √50)
    expect(optimiser.agreement(second)).toBeCloseTo(24 / (5 * Math.sqrt(50)), 6);
    expect(optimiser.agreement(second.map((gradient) => gradient.mul(-2)))).toBeCloseTo(
      -24 / (5 * Math.sqrt(50)),
      6,
    );
    optimiser.step(second); // 0.9 (0.3, 0, 0.4) + 0.1 (4, 5, 3) = (0.67, 0.5, 0.66)
    expect(optimiser.agreement(first)).toBeCloseTo(
      (3 * 0.67 + 4 * 0.66) / (5 * Math.hypot(0.67, 0.5, 0.66)),
      6,
    );
    expect(optimiser.agreement(first.map((gradient) => gradient.mul(0)))).toBeUndefined();
    optimiser.free();
  });
  expect(new AdamW([], { learningRate: 1 }).agreement([])).toBeUndefined();
  expect(liveTensors()).toBe(before);
});
