// Makes random calls and prints how they went, one JSON line at the end. Run by fuzz.test.ts as a process of its own,
// because what is tested is that the process lives.
// Usage: child.ts SEED CALLS
import { writeSync } from 'node:fs';
import fc from 'fast-check';
import * as torch from '../index.js';
import { native } from '../native.js';
import { schemaOf } from '../schema.js';
import { fuzzOperators } from './operators.js';

const [seed = 1, calls = 1000] = process.argv.slice(2).map(Number);
const callsPerScope = 20;
const maxElements = 64;
const dtypes = ['float64', 'float32', 'bfloat16', 'float16', 'int64', 'int32', 'uint8', 'bool'] as const;

// 2^40 and more: too many bytes for any machine, so they are refused; nothing between would only cost time and memory.
const huge = fc.constantFrom(
  2 ** 40,
  -(2 ** 40),
  2 ** 53 - 1,
  2 ** 53,
  2n ** 62n,
  -(2n ** 63n),
  2n ** 63n,
  1e300,
);
const small = fc.integer({ min: -3, max: 6 });
const int = fc.oneof(
  { weight: 12, arbitrary: small },
  { weight: 1, arbitrary: fc.constantFrom(16, -16) },
  { weight: 1, arbitrary: huge },
);
const float = fc.oneof(
  { weight: 6, arbitrary: fc.double({ min: -4, max: 4, noNaN: true }) },
  { weight: 2, arbitrary: fc.constantFrom(Number.NaN, Infinity, -Infinity, -0, 1e308, 5e-324) },
  { weight: 1, arbitrary: huge },
);
const shape = fc
  .array(fc.integer({ min: 0, max: 4 }), { maxLength: 4 })
  .filter((dims) => product(dims) <= maxElements);
const product = (dims: readonly number[]) => dims.reduce((a, b) => a * b, 1);

/** Stands for a tensor of the pool until the call is made. */
class Pick {
  constructor(readonly index: number) {}
}
const tensor = fc.nat({ max: 1000 }).map((index) => new Pick(index));
const dtype = fc.constantFrom(...dtypes);
const junk: fc.Arbitrary<unknown> = fc.oneof(
  tensor,
  int,
  float,
  fc.boolean(),
  fc.constantFrom(
    undefined,
    null,
    '',
    'none',
    'mean',
    'cpu',
    'cuda',
    'meta',
    'float31',
    {},
    [],
    [[]],
    Symbol('s'),
    () => 0,
  ),
  fc.array(fc.oneof(int, float, tensor, fc.constant(null)), { maxLength: 5 }),
  fc.uint8Array({ maxLength: 4 }),
  fc.string({ maxLength: 4 }),
);

/** Mostly what the schema asks for, sometimes anything. */
function argument(kind: string): fc.Arbitrary<unknown> {
  const typed = (): fc.Arbitrary<unknown> => {
    switch (kind.replace(/\?$/, '')) {
      case 'Tensor':
        return tensor;
      case 'Tensor[]':
        return fc.array(tensor, { maxLength: 4 });
      case 'Tensor?[]':
        return fc.array(fc.oneof(tensor, fc.constant(null)), { maxLength: 3 });
      case 'int':
        return int;
      case 'int[]':
        return fc.oneof(fc.array(int, { maxLength: 4 }), int);
      case 'float':
        return float;
      case 'float[]':
        return fc.array(float, { maxLength: 3 });
      case 'bool':
        return fc.boolean();
      case 'Scalar':
        return fc.oneof(int, float, fc.boolean());
      case 'Scalar[]':
        return fc.array(fc.oneof(int, float), { maxLength: 4 });
      case 'str':
        return fc.constantFrom(
          'none',
          'tanh',
          'mean',
          'sum',
          'trunc',
          'floor',
          'reduced',
          'amax',
          'L',
          'bogus',
        );
      case 'ScalarType':
        return fc.oneof(dtype, int);
      case 'Device':
        return fc.constantFrom('cpu', 'cuda', 'cuda:7', 'meta', 'bogus');
      default:
        return fc.constantFrom(undefined, 0, 1);
    }
  };
  const arms = [
    { weight: 30, arbitrary: typed() },
    { weight: 2, arbitrary: junk },
  ];
  if (kind.endsWith('?') || kind.endsWith('=')) arms.push({ weight: 12, arbitrary: fc.constant(undefined) });
  return fc.oneof(...arms);
}

interface Call {
  name: string;
  run: (args: unknown[], self: torch.Tensor) => unknown;
  args: unknown[];
  self: Pick;
}

type Callable = (...args: never[]) => unknown;

function target(name: string, run: Call['run'], args: fc.Arbitrary<unknown[]>): fc.Arbitrary<Call> {
  return fc.record({ name: fc.constant(name), run: fc.constant(run), args, self: tensor });
}

const anyArguments = fc.oneof(
  fc.tuple(tensor),
  fc.tuple(int),
  fc.tuple(int, int),
  fc.tuple(fc.array(int, { maxLength: 4 })),
  fc.tuple(tensor, fc.array(int, { maxLength: 4 })),
  fc.array(fc.oneof(tensor, int, junk), { maxLength: 5 }),
);

// Everything public that computes. Freeing is left to the scope, and toString and item have nothing to give wrong.
const methods = Object.getOwnPropertyNames(torch.Tensor.prototype)
  .filter((name) => !['constructor', 'free', 'watch', 'toString'].includes(name))
  .filter(
    (name) => typeof Object.getOwnPropertyDescriptor(torch.Tensor.prototype, name)?.value === 'function',
  )
  .map((name) =>
    target(
      `Tensor.${name}`,
      (args, self) => (self[name as 'add'] as Callable).apply(self, args as never[]),
      anyArguments,
    ),
  );
const functions = Object.entries(torch.F as unknown as Record<string, Callable>).map(([name, f]) =>
  target(
    `F.${name}`,
    (args) => f(...(args as never[])),
    fc.oneof(
      fc.tuple(tensor, tensor, fc.oneof(tensor, fc.constant(undefined))),
      fc.tuple(
        tensor,
        tensor,
        tensor,
        fc.record(
          {
            mask: fc.option(tensor, { nil: undefined }),
            stride: int,
            padding: int,
            groups: int,
            dilation: int,
            scale: float,
          },
          { requiredKeys: [] },
        ),
      ),
      fc.tuple(tensor, fc.oneof(int, fc.array(int, { maxLength: 3 })), fc.oneof(tensor, float, junk)),
      anyArguments,
    ),
  ),
);
const free = [
  'empty',
  'zeros',
  'full',
  'ones',
  'eye',
  'arange',
  'linspace',
  'tensor',
  'cat',
  'stack',
  'where',
  'fromBytes',
  'normal',
  'uniform',
  'grad',
  'clipGradNorm',
] as const;
const factories = free.map((name) =>
  target(
    name,
    // biome-ignore lint/performance/noDynamicNamespaceImportAccess: all of the package is fuzzed
    (args) => (torch[name] as unknown as Callable)(...(args as never[])),
    fc.oneof(
      fc.tuple(
        fc.oneof(shape, fc.array(int, { maxLength: 4 })),
        fc.oneof(
          fc.record({ dtype, device: fc.constantFrom('cpu', 'cuda', 'bogus') }, { requiredKeys: [] }),
          junk,
        ),
      ),
      fc.tuple(fc.array(tensor, { maxLength: 4 }), int),
      fc.tuple(fc.array(tensor, { maxLength: 2 }), fc.array(tensor, { maxLength: 2 })),
      fc.tuple(fc.oneof(int, float), fc.oneof(int, float), int),
      fc.tuple(tensor, tensor, tensor),
      anyArguments,
    ),
  ),
);
const raw = fuzzOperators.map((full) => {
  const [name = '', ...overload] = full.split('.');
  const { arguments: wanted } = schemaOf(native.resolve(name, overload.join('.')));
  const exact = fc.tuple(...wanted.map(({ kind, optional }) => argument(optional ? `${kind}?` : kind)));
  const f = torch.ops.aten(name, overload.join('.'));
  return target(
    `aten::${full}`,
    (args) => f(...args),
    fc.oneof({ weight: 14, arbitrary: exact }, { weight: 1, arbitrary: anyArguments }),
  );
});

function pool(): torch.Tensor[] {
  const list: torch.Tensor[] = [];
  const sizes = [
    [],
    [0],
    [4],
    [2, 3],
    [3, 2],
    [3, 3],
    [2, 3, 4],
    [1, 2, 4, 4],
    [2, 1, 3, 3],
    [0, 3],
    [64],
    [4, 4],
  ];
  sizes.forEach((size, i) => {
    for (const type of ['float32', dtypes[i % dtypes.length], dtypes[(i * 3 + 1) % dtypes.length]] as const) {
      const key = torch.noiseKey(i, type ?? '');
      list.push(
        torch
          .normal([key], size)
          .squeeze(0)
          .mul(3)
          .to(type ?? 'float32'),
      );
    }
  });
  list.push(torch.full([3], Number.NaN), torch.full([2, 2], Infinity), torch.arange(6, { dtype: 'int64' }));
  list.push(
    torch.tensor([2n ** 62n, -(2n ** 63n), -1n], { dtype: 'int64' }),
    torch.zeros([2, 3]).transpose(0, 1),
  );
  list.push(
    torch.ones([3, 3]).requiresGrad_(),
    torch.ones([1]).expand([4, 4]),
    torch.ones([2, 2], { dtype: 'float64' }).requiresGrad_(),
  );
  const stale = torch.ones([2]);
  stale.free();
  list.push(stale);
  return list;
}

function materialise(value: unknown, from: torch.Tensor[]): unknown {
  if (value instanceof Pick) return from[value.index % from.length];
  if (Array.isArray(value)) return value.map((item) => materialise(item, from));
  if (value !== null && typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype) {
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, materialise(item, from)]));
  }
  return value;
}

function collect(result: unknown, into: torch.Tensor[]): void {
  torch.forEachTensor(result, (made) => {
    if (made.isLive && made.shape.length <= 6 && made.numel <= maxElements) into.push(made);
  });
}

const tally = { done: 0, succeeded: 0, refused: 0, names: new Set<string>(), strange: [] as string[] };
const verbose = process.env.FUZZ_TRACE !== undefined;
const show = (value: unknown): string =>
  JSON.stringify(value, (_, item) =>
    item instanceof torch.Tensor
      ? String(item)
      : typeof item === 'bigint'
        ? `${item}n`
        : typeof item === 'number' && !Number.isFinite(item)
          ? String(item)
          : item,
  );

torch.setThreads(1);
const before = [torch.liveTensors(), torch.liveBytes()];
const plan = fc.sample(
  fc.oneof(
    { weight: 2, arbitrary: fc.oneof(...methods) },
    { weight: 1, arbitrary: fc.oneof(...functions) },
    { weight: 1, arbitrary: fc.oneof(...factories) },
    { weight: 5, arbitrary: fc.oneof(...raw) },
  ),
  { seed, numRuns: calls },
);
for (let start = 0; start < plan.length; start += callsPerScope) {
  torch.scope(() => {
    const tensors = pool();
    for (const call of plan.slice(start, start + callsPerScope)) {
      const args = materialise(call.args, tensors) as unknown[];
      const self = materialise(call.self, tensors) as torch.Tensor;
      if (verbose) writeSync(2, `${tally.done} ${call.name} self=${self} ${show(args)}\n`);
      try {
        collect(call.run(args, self), tensors);
        tally.succeeded++;
        tally.names.add(call.name);
      } catch (error) {
        tally.refused++;
        if (!(error instanceof Error) || error.message === '')
          tally.strange.push(`${call.name}: ${String(error)}`);
      }
      tally.done++;
    }
  });
}
const after = [torch.liveTensors(), torch.liveBytes()];
process.stdout.write(
  `${JSON.stringify({ ...tally, names: [...tally.names], targets: methods.length + functions.length + factories.length + raw.length, before, after })}\n`,
);
