import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import {
  AdamW,
  clipGradNorm,
  ExponentialMovingAverage,
  F,
  free,
  GradientAccumulator,
  grad,
  keep,
  Linear,
  liveBytes,
  liveTensors,
  noiseKey,
  normal,
  ones,
  ops,
  Parameters,
  scope,
  setThreads,
  type Tensor,
  tensor,
  threads,
  zeros,
} from './index.js';
import { addonFile, native } from './native.js';

const alive = () => [liveTensors(), liveBytes()];

test('a scope frees what was made inside, but not what it returns in arrays, objects, maps and sets', () => {
  const before = alive();
  const kept = scope(() => {
    const a = ones([2]);
    const b = a.add(1);
    const c = b.mul(3);
    a.sub(c);
    return { list: [a, 7], map: new Map([['b', b]]), set: new Set([c]) };
  });
  expect(liveTensors()).toBe((before[0] as number) + 3);
  expect((kept.list[0] as Tensor).toNumbers()).toEqual([1, 1]);
  expect(kept.map.get('b')?.toNumbers()).toEqual([2, 2]);
  free(kept);
  expect(alive()).toEqual(before);
});

test('survivors belong to the scope around, kept tensors to nobody', () => {
  const before = alive();
  let inner: Tensor | undefined;
  const stays = scope(() => {
    const outer = ones([1]);
    inner = scope(() => outer.add(1));
    expect(inner.item()).toBe(2);
    expect(scope(() => outer)).toBe(outer); // returning a tensor of the outer scope changes nothing
    return scope(() => scope(() => keep(ones([4]))));
  });
  expect(inner?.isLive).toBe(false);
  expect(stays.isLive).toBe(true);
  stays.free();
  stays.free(); // harmless
  expect(alive()).toEqual(before);
});

test('an error inside frees everything and leaves the outer scope intact', () => {
  const before = alive();
  scope(() => {
    const a = ones([2, 3]);
    expect(() =>
      scope(() => {
        scope(() => [a.add(1), a.mul(2)]);
        a.matmul(ones([4, 5]));
      }),
    ).toThrow(
      /aten::matmul: (mm: )?mat1 and mat2 shapes cannot be multiplied \(2x3 and 4x5\).*Float\[2, 3\], Float\[4, 5\]/s,
    );
    expect(liveTensors()).toBe((before[0] as number) + 1);
    expect(a.isLive).toBe(true);
  });
  expect(alive()).toEqual(before);
});

test('promises and generators are refused, and their tensors freed', () => {
  const before = alive();
  const loose = scope as (fn: () => unknown) => unknown;
  expect(() => loose(async () => ones([1]))).toThrow(/asynchronous code or a generator/);
  expect(() =>
    loose(function* () {
      yield ones([1]);
    }),
  ).toThrow(/asynchronous code or a generator/);
  expect(() =>
    loose(async function* () {
      yield ones([1]);
    }),
  ).toThrow(/asynchronous code or a generator/);
  expect(alive()).toEqual(before);
});

test('a stale handle is an error, never another tensor', () => {
  const a = ones([2]);
  a.free();
  const reuser = tensor([5, 5]); // takes the slot of a, with the next generation
  expect(reuser.handle % 2 ** 24).toBe(a.handle % 2 ** 24);
  expect(reuser.handle).not.toBe(a.handle);
  expect(a.isLive).toBe(false);
  expect(String(a)).toBe('Tensor(freed)');
  for (const use of [
    () => a.shape,
    () => a.add(1),
    () => reuser.add(a),
    () => a.item(),
    () => a.bytes(),
    () => keep(a),
    () => a.requiresGrad_(),
  ]) {
    expect(use).toThrow(/was freed/);
  }
  expect(() => ops.aten('stack')([reuser, a])).toThrow(/aten::stack.*was freed/s);
  reuser.free();
  for (const nonsense of [
    0,
    -1,
    0.5,
    Number.NaN,
    Infinity,
    2 ** 24,
    2 ** 52 + 1,
    2 ** 53,
    1e300,
    '1',
    null,
    {},
  ]) {
    expect(() => native.shape(nonsense as number)).toThrow(/freed, or is no tensor|expected a Tensor/);
  }
});

test('an operator that writes in place returns the same handle, `using` frees', () => {
  const before = alive();
  {
    using a = tensor([1, 2]);
    expect(a.add_(1).mul_(2)).toBe(a);
    expect(ops.aten('add_', 'Scalar')(a, 1)).toBe(a);
    expect(a.toNumbers()).toEqual([5, 7]);
    expect(liveTensors()).toBe((before[0] as number) + 1);
  }
  expect(alive()).toEqual(before);
});

test('a number that an operator returns is never taken for a handle', () => {
  scope(() => {
    const victim = ones([1]);
    const size = ops.aten('size', 'int')(zeros([0]).expand([victim.handle % 2 ** 24, 0]), 0);
    expect(size).toBe(victim.handle % 2 ** 24);
    const view = ones([1]).expand([victim.handle]); // one element, repeated by stride 0
    expect(ops.aten('size', 'int')(view, 0)).toBe(victim.handle);
    expect(ops.aten('sym_size', 'int')(view, 0)).toBe(victim.handle);
  });
});

test('a call that begins while another converts its arguments does not disturb it', () => {
  scope(() => {
    const a = tensor([1, 2, 3, 4]);
    const shape = [0, 2];
    Object.defineProperty(shape, 0, { get: () => a.add(1).sum().item() - 12 }); // 2
    expect(a.reshape(shape).shape).toEqual([2, 2]);
    Object.defineProperty(shape, 0, {
      get: () => {
        throw new Error('from the getter');
      },
    });
    expect(() => a.reshape(shape)).toThrow('from the getter');
    expect(a.reshape([2, 2]).shape).toEqual([2, 2]);
  });
});

test('the garbage collector frees what nobody can reach: the safety net', async () => {
  process.env.RLDF_TEST_COLLECTION = 'on'; // test/without-collection.setup.ts
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const before = liveTensors();
  (() => {
    for (let i = 0; i < 50; i++) ones([10]);
    scope(() => keep(ones([10])));
    scope(() => ones([10]));
  })();
  expect(liveTensors()).toBe(before + 52);
  for (let i = 0; i < 50 && liveTensors() > before; i++) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
  delete process.env.RLDF_TEST_COLLECTION;
  expect(liveTensors()).toBe(before);
});

test('1,000 training updates leave tensors and bytes exactly equal', () => {
  const threadsBefore = threads();
  setThreads(1); // the net is tiny
  const parameters = Parameters.random(1);
  const first = new Linear(parameters.at('first'), 6, 16);
  const second = new Linear(parameters.at('second'), 16, 2);
  const trained = parameters.trainable();
  const optimiser = new AdamW(trained, { learningRate: 1e-2 });
  const average = new ExponentialMovingAverage(trained, 0.99);
  const accumulator = new GradientAccumulator(trained);
  const update = (step: number) =>
    scope(() => {
      for (let part = 0; part < 2; part++) {
        scope(() => {
          const x = normal([noiseKey(3, 'x', step, part)], [8, 6]).squeeze(0); // [8, 6]
          const target = x.narrow(1, 0, 2).sin(); // [8, 2]
          const loss = F.mseLoss(second.forward(first.forward(x).silu()), target);
          accumulator.add(grad(loss, trained), 0.5);
        });
      }
      accumulator.take((sums) => {
        clipGradNorm(sums, 1);
        optimiser.step(sums);
      });
      average.update();
      const x = normal([noiseKey(4, 'test')], [64, 6]).squeeze(0);
      return F.mseLoss(second.forward(first.forward(x).silu()), x.narrow(1, 0, 2).sin()).item();
    });
  const start = update(0);
  const before = alive();
  let end = start;
  for (let step = 1; step <= 1000; step++) end = update(step);
  expect(alive()).toEqual(before);
  expect(end).toBeLessThan(start / 10); // and it was training
  for (const owner of [parameters, optimiser, average, accumulator]) owner.free();
  setThreads(threadsBefore);
});

test('a worker has handles of its own', async () => {
  const mine = tensor([1, 2, 3]);
  const worker = new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
     const torch = require(workerData.addon);
     let stale; try { torch.shape(workerData.handle); stale = false } catch (error) { stale = /freed, or is no tensor/.test(error.message) }
     const [before] = torch.live();
     const call = (name, overload, ...args) => torch.call(torch.resolve(name, overload), ...args);
     const mine = call('full', '', [2], 4.5);
     parentPort.postMessage({ stale, before, handle: mine, sum: call('item', '', call('sum', '', mine)) });`,
    { eval: true, workerData: { addon: addonFile, handle: mine.handle } },
  );
  const answer = await new Promise<Record<string, unknown>>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  expect(answer).toMatchObject({ stale: true, before: 0, sum: 9 });
  expect(await worker.terminate()).toBeTypeOf('number');
  expect(mine.toNumbers()).toEqual([1, 2, 3]); // the worker's end freed only its own
  mine.free();
});
