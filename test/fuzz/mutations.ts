// What a file can become when it is damaged, mistaken for another, or meant to do harm. Mutations are small descriptions,
// so that ten thousand of them cost nothing until they are applied.
import fc from 'fast-check';

/** Text that stands in a JSON file as it is: what JSON itself has no words for. */
class Raw {
  constructor(readonly text: () => string) {}
}

/** Values that some reader somewhere does not expect. */
const nasty: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -0,
  1,
  2,
  3,
  -1,
  0.5,
  1e-320,
  77,
  1e5,
  1e9,
  2 ** 31,
  2 ** 32 + 1,
  2 ** 53,
  1e20,
  1e308,
  -1e308,
  '',
  ' ',
  'x',
  '0',
  '1000000000',
  'true',
  'constructor',
  '__proto__',
  'toString',
  'hasOwnProperty',
  '../../../etc/passwd',
  '\u0000',
  '\ud800',
  '🦊',
  '(',
  '(a+)+$',
  '<|endoftext|>',
  [],
  [[]],
  [null],
  [1e9],
  [0, 0, 0, 0],
  [-1, -1],
  ['x', 'y'],
  {},
  { a: 1 },
  { length: 1e9 },
  { toString: 1 },
  new Raw(() => 'Infinity'),
  new Raw(() => '-Infinity'),
  new Raw(() => 'NaN'),
  new Raw(() => `[${Array(1000).fill(1).join()}]`),
  new Raw(() => `"${'long '.repeat(20_000)}"`),
  new Raw(() => '['.repeat(20_000) + ']'.repeat(20_000)),
  new Raw(() => `${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`),
  new Raw(() => '1'.repeat(5000)),
];
const keys = [
  '__proto__',
  'constructor',
  'length',
  'toString',
  '',
  'x',
  '0',
  '_class_name',
  '$tensor',
  '\ud800',
];

const share = fc.double({ min: 0, max: 1, noNaN: true });
const nastyIndex = fc.nat({ max: nasty.length - 1 });

/** Mutations of a JSON value; `place` chooses one of its parts. */
export const jsonMutation = fc.oneof(
  { weight: 8, arbitrary: fc.record({ op: fc.constant('set' as const), place: share, value: nastyIndex }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('remove' as const), place: share }) },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('add' as const),
      place: share,
      key: fc.constantFrom(...keys),
      value: nastyIndex,
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('copy' as const), place: share, from: share }) },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('scale' as const),
      place: share,
      factor: fc.constantFrom(-1, 0.5, 2, 3, 10, 1000, 1e6, 1e9),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('repeat' as const),
      place: share,
      times: fc.constantFrom(2, 3, 500),
    }),
  },
);
export type JsonMutation = typeof jsonMutation extends fc.Arbitrary<infer Value> ? Value : never;

/** Mutations of bytes; `at` is a share of the length. */
export const byteMutation = fc.oneof(
  { weight: 3, arbitrary: fc.record({ op: fc.constant('cut' as const), at: share }) },
  {
    weight: 6,
    arbitrary: fc.record({ op: fc.constant('flip' as const), at: share, byte: fc.nat({ max: 255 }) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('insert' as const),
      at: share,
      text: fc.oneof(
        fc.constantFrom(
          '\0',
          '\n',
          '"',
          '{',
          '}',
          '[',
          ']',
          ',',
          ':',
          '-',
          '\t',
          '&a ',
          '*a',
          '!!binary ',
          '|',
          '- ',
        ),
        fc.string({ unit: 'binary', maxLength: 6 }),
      ),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      op: fc.constant('remove' as const),
      at: share,
      length: fc.integer({ min: 1, max: 40 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('repeat' as const),
      at: share,
      length: fc.integer({ min: 1, max: 30 }),
      times: fc.constantFrom(1, 2, 2000),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('whole' as const), which: fc.nat({ max: 1000 }) }) },
);
export type ByteMutation = typeof byteMutation extends fc.Arbitrary<infer Value> ? Value : never;

type Json = { [key: string]: unknown } | unknown[];
const isContainer = (value: unknown): value is Json =>
  value !== null && typeof value === 'object' && !(value instanceof Raw);

function copyOf(value: unknown): unknown {
  if (!isContainer(value)) return value;
  if (Array.isArray(value)) return value.map(copyOf);
  return Object.fromEntries(Object.entries(value).map(([key, child]) => [key, copyOf(child)]));
}

function places(root: Json): { parent: Json; key: string }[] {
  const found: { parent: Json; key: string }[] = [];
  const visit = (parent: Json) => {
    // long lists (a vocabulary) are visited at their beginning only: else they would take all mutations
    for (const key of Object.keys(parent).slice(0, 60)) {
      found.push({ parent, key });
      const child = (parent as { [key: string]: unknown })[key];
      if (isContainer(child)) visit(child);
    }
  };
  visit(root);
  return found;
}

/** The text of a JSON value after the mutations. */
export function mutateJson(value: object, mutations: readonly JsonMutation[]): string {
  const root = copyOf(value) as Json;
  for (const mutation of mutations) {
    const all = places(root);
    const at = (where: number) => all[Math.min(all.length - 1, Math.floor(where * all.length))];
    const place = at(mutation.place);
    if (place === undefined) break;
    const parent = place.parent as { [key: string]: unknown };
    const old = parent[place.key];
    const write = (key: string, next: unknown) =>
      Object.defineProperty(parent, key, {
        value: next,
        enumerable: true,
        configurable: true,
        writable: true,
      });
    if (mutation.op === 'set') write(place.key, nasty[mutation.value]);
    else if (mutation.op === 'remove') {
      if (Array.isArray(parent)) parent.splice(Number(place.key), 1);
      else delete parent[place.key];
    } else if (mutation.op === 'add') {
      if (Array.isArray(parent)) parent.push(nasty[mutation.value]);
      else write(mutation.key, nasty[mutation.value]);
    } else if (mutation.op === 'copy') {
      const from = at(mutation.from);
      const copied = from && (from.parent as { [key: string]: unknown })[from.key];
      write(place.key, copyOf(copied));
    } else if (mutation.op === 'scale') {
      if (typeof old === 'number') write(place.key, old * mutation.factor);
    } else if (Array.isArray(old)) write(place.key, Array(mutation.times).fill(old).flat());
    else if (typeof old === 'string') write(place.key, old.repeat(mutation.times));
  }
  return print(root);
}

/** JSON as Python writes it, with the raw parts as they are. */
function print(value: unknown): string {
  if (value instanceof Raw) return value.text();
  if (typeof value === 'number')
    return Object.is(value, -0) ? '-0.0' : Number.isFinite(value) ? `${value}` : `${value}`;
  if (Array.isArray(value)) return `[${value.map(print).join(', ')}]`;
  if (isContainer(value))
    return `{${Object.entries(value)
      .map(([key, child]) => `${JSON.stringify(key)}: ${print(child)}`)
      .join(', ')}}`;
  return JSON.stringify(value) ?? 'null';
}

/** What a whole file may turn out to be. */
const wholes: readonly (() => Buffer)[] = [
  () => Buffer.alloc(0),
  () => Buffer.from('\n'),
  () => Buffer.from('null'),
  () => Buffer.from('[]'),
  () => Buffer.from('{}'),
  () => Buffer.from('"text"'),
  () => Buffer.alloc(64),
  () => Buffer.alloc(64, 255),
  () => Buffer.from('\uFEFF{}'),
  () => Buffer.from('{}', 'utf16le'),
  () => Buffer.from('PK\x03\x04'),
  () => Buffer.from('<html>404</html>'),
  () => Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n'),
  () => Buffer.from('['.repeat(50_000)),
  () => Buffer.from('{"a":'.repeat(50_000)),
  () => Buffer.from('- '.repeat(5000)),
  () =>
    Buffer.from(
      'a: &a [x, x, x, x, x, x, x, x, x]\n' +
        [...'bcdefghij']
          .map((name, i) => `${name}: &${name} [${Array(9).fill(`*${'abcdefghi'[i]}`).join(', ')}]\n`)
          .join(''),
    ),
  () => Buffer.from('&a [*a]'),
  () => Buffer.from('a: *missing\nb: !!js/function x\n? {x: y}\n: z\n'),
  () => Buffer.from('x'.repeat(1_000_000)),
  () => Buffer.from('x\n'.repeat(100_000)),
];

export function mutateBytes(bytes: Buffer, mutations: readonly ByteMutation[]): Buffer {
  let now: Buffer = Buffer.from(bytes);
  for (const mutation of mutations) {
    if (mutation.op === 'whole') {
      now = wholes[mutation.which % wholes.length]!();
      continue;
    }
    const at = Math.min(now.length, Math.floor(mutation.at * (now.length + 1)));
    const [head, tail] = [now.subarray(0, at), now.subarray(at)];
    if (mutation.op === 'cut') now = Buffer.from(head);
    else if (mutation.op === 'flip') {
      if (at < now.length) now[at] = mutation.byte;
    } else if (mutation.op === 'insert') now = Buffer.concat([head, Buffer.from(mutation.text), tail]);
    else if (mutation.op === 'remove') now = Buffer.concat([head, tail.subarray(mutation.length)]);
    else {
      const part = tail.subarray(0, mutation.length);
      now = Buffer.concat([head, ...Array<Buffer>(mutation.times).fill(part), tail]);
    }
  }
  return now;
}
