import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import {
  type DType,
  free,
  liveBytes,
  liveTensors,
  ones,
  readHeader,
  readSafetensors,
  type StateDict,
  scope,
  tensor,
  UserError,
  writeSafetensors,
  zeros,
} from './index.js';

const folder = mkdtempSync(join(tmpdir(), 'rldf-safetensors-'));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string) => join(folder, name);

/** A file from header and data as given, well-formed or not. */
function craft(name: string, header: unknown, data = Buffer.alloc(0)): string {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(file(name), Buffer.concat([prefix, json, data]));
  return file(name);
}

// Written by Python's safetensors 0.8.0 (save of torch tensors, metadata {"format": "pt"}).
const fromPython = Buffer.from(
  'e8010000000000007b225f5f6d657461646174615f5f223a7b22666f726d6174223a227074227d2c2269223a7b226474797065223a22493634222c227368617065223a5b325d2c22646174615f6f666673657473223a5b302c31365d7d2c2273223a7b226474797065223a22463634222c227368617065223a5b5d2c22646174615f6f666673657473223a5b31362c32345d7d2c2261223a7b226474797065223a22463332222c227368617065223a5b325d2c22646174615f6f666673657473223a5b32342c33325d7d2c2265223a7b226474797065223a22463332222c227368617065223a5b302c335d2c22646174615f6f666673657473223a5b33322c33325d7d2c226266223a7b226474797065223a2242463136222c227368617065223a5b315d2c22646174615f6f666673657473223a5b33322c33345d7d2c2268616c66223a7b226474797065223a22463136222c227368617065223a5b322c315d2c22646174615f6f666673657473223a5b33342c33385d7d2c2275223a7b226474797065223a225538222c227368617065223a5b315d2c22646174615f6f666673657473223a5b33382c33395d7d2c22666c6167223a7b226474797065223a22424f4f4c222c227368617065223a5b335d2c22646174615f6f666673657473223a5b33392c34325d7d7d202020202020f9ffffffffffffff000000000001000000000000000010400000c03f000000c0404000380040ff010001',
  'hex',
);
const expected: Record<string, [DType, number[], number[]]> = {
  i: ['int64', [2], [-7, 2 ** 40]],
  s: ['float64', [], [4]],
  a: ['float32', [2], [1.5, -2]],
  e: ['float32', [0, 3], []],
  bf: ['bfloat16', [1], [3]],
  half: ['float16', [2, 1], [0.5, 2]],
  u: ['uint8', [1], [255]],
  flag: ['bool', [3], [1, 0, 1]],
};

function same(tensors: StateDict): void {
  expect(
    Object.fromEntries([...tensors].map(([name, t]) => [name, [t.dtype, t.shape, t.toNumbers()]])),
  ).toEqual(expected);
}

test("reads what Python's safetensors wrote, and writes the very same bytes", () => {
  const before = [liveTensors(), liveBytes()];
  writeFileSync(file('python.safetensors'), fromPython);
  const { tensors, metadata } = readSafetensors(file('python.safetensors'));
  same(tensors);
  expect(metadata).toEqual({ format: 'pt' });
  writeSafetensors(file('ours.safetensors'), tensors, metadata);
  expect(readFileSync(file('ours.safetensors')).equals(fromPython)).toBe(true);
  free(tensors);
  expect([liveTensors(), liveBytes()]).toEqual(before); // the reader keeps nothing else alive
});

test('round trip of every dtype, strange names, gradients and views; reading does not follow the file', () => {
  scope(() => {
    const made = new Map(
      Object.entries(expected).map(([name, [dtype, shape, values]]) => [
        name,
        tensor(values, { dtype, shape }),
      ]),
    );
    writeSafetensors(file('all.safetensors'), made);
    same(readSafetensors(file('all.safetensors')).tensors);
    expect(readSafetensors(file('all.safetensors')).metadata).toEqual({});
    const names: StateDict = new Map([
      ['__proto__', tensor([1])],
      ['a "quoted"\nname ä', tensor([2])],
      ['', tensor([3])],
      [
        'transposed',
        tensor([
          [1, 2],
          [3, 4],
        ]).transpose(0, 1),
      ],
      ['trained', tensor([5]).requiresGrad_()],
    ]);
    writeSafetensors(file('names.safetensors'), names);
    const read = readSafetensors(file('names.safetensors')).tensors;
    expect(Object.fromEntries([...read].map(([name, t]) => [`${name}!`, t.toNumbers()]))).toEqual({
      '__proto__!': [1],
      'a "quoted"\nname ä!': [2],
      '!': [3],
      'transposed!': [1, 3, 2, 4],
      'trained!': [5],
    });
    read.get('trained')?.mul_(2); // private: the file stays
    expect(readSafetensors(file('names.safetensors')).tensors.get('trained')?.item()).toBe(5);
    expect(() => writeSafetensors(file('x'), new Map([['__metadata__', tensor([1])]]))).toThrow(UserError);
    writeSafetensors(file('empty.safetensors'), new Map());
    expect(readSafetensors(file('empty.safetensors')).tensors.size).toBe(0);
  });
});

test('data that begins at an odd place is read all the same', () => {
  scope(() => {
    const data = Buffer.alloc(1 + 8 + 4);
    data.writeUInt8(7, 0);
    data.writeDoubleLE(-1.25, 1);
    data.writeFloatLE(2.5, 9);
    const header = {
      byte: { dtype: 'U8', shape: [1], data_offsets: [0, 1] },
      wide: { dtype: 'F64', shape: [1], data_offsets: [1, 9] },
      single: { dtype: 'F32', shape: [1], data_offsets: [9, 13] },
    };
    const { tensors } = readSafetensors(craft('odd.safetensors', header, data));
    expect([...tensors.values()].map((t) => t.add(0).item())).toEqual([7, -1.25, 2.5]);
  });
});

const one = (entry: object) => ({ t: { dtype: 'F32', shape: [2], data_offsets: [0, 8], ...entry } });
const malformed: [string, () => string, RegExp][] = [
  ['missing', () => file('nowhere.safetensors'), /nowhere\.safetensors: there is no such file/],
  ['a folder', () => folder, /there is no such file/],
  [
    'below a file',
    () => join(craft('x.bin', ''), 'adapter.safetensors'),
    /adapter\.safetensors: there is no such file/,
  ],
  [
    'too short',
    () => {
      writeFileSync(file('m'), 'abc');
      return file('m');
    },
    /3 bytes are too few/,
  ],
  [
    'header bomb',
    () => {
      const bytes = Buffer.alloc(64);
      bytes.writeBigUInt64LE(2n ** 63n);
      writeFileSync(file('m'), bytes);
      return file('m');
    },
    /the header claims 9223372036854775808 bytes in a file of 64/,
  ],
  [
    'header beyond the file',
    () => {
      const bytes = Buffer.alloc(64);
      bytes.writeBigUInt64LE(57n);
      writeFileSync(file('m'), bytes);
      return file('m');
    },
    /the header claims 57 bytes/,
  ],
  ['not JSON', () => craft('m', '{"t":'), /the header is not JSON/],
  ['no object', () => craft('m', '[1]'), /the header is not a JSON object/],
  [
    'metadata of numbers',
    () => craft('m', { __metadata__: { epoch: 3 } }),
    /"__metadata__" must hold strings only/,
  ],
  [
    'unknown dtype',
    () => craft('m', one({ dtype: 'F8_E4M3' }), Buffer.alloc(8)),
    /tensor "t" has dtype "F8_E4M3" — one of F64/,
  ],
  [
    'dtype from the prototype',
    () => craft('m', one({ dtype: 'constructor' }), Buffer.alloc(8)),
    /tensor "t" has dtype "constructor"/,
  ],
  ['no entry', () => craft('m', { t: null }), /tensor "t" has dtype/],
  ['negative shape', () => craft('m', one({ shape: [-2] }), Buffer.alloc(8)), /tensor "t" has shape \[-2\]/],
  ['shape of text', () => craft('m', one({ shape: '2' }), Buffer.alloc(8)), /tensor "t" has shape "2"/],
  [
    'fractional shape',
    () => craft('m', one({ shape: [0.5] }), Buffer.alloc(8)),
    /tensor "t" has shape \[0\.5\]/,
  ],
  [
    'no offsets',
    () => craft('m', one({ data_offsets: [0] }), Buffer.alloc(8)),
    /tensor "t" has data_offsets \[0\]/,
  ],
  [
    'wrong size',
    () => craft('m', one({ shape: [3] }), Buffer.alloc(8)),
    /tensor "t" has 8 bytes, but float32\[3\] takes 12/,
  ],
  [
    'overflowing shape',
    () => craft('m', one({ shape: [2 ** 40, 2 ** 40] }), Buffer.alloc(8)),
    /tensor "t" has 8 bytes/,
  ],
  [
    'out of range',
    () => craft('m', one({ data_offsets: [8, 16] }), Buffer.alloc(8)),
    /tensor "t" lies at \[8, 16\) outside the 8 data bytes/,
  ],
  [
    'backwards',
    () => craft('m', one({ data_offsets: [8, 0] }), Buffer.alloc(8)),
    /tensor "t" lies at \[8, 0\)/,
  ],
  [
    'truncated',
    () => craft('m', one({}), Buffer.alloc(7)),
    /tensor "t" lies at \[0, 8\) outside the 7 data bytes — the file is truncated/,
  ],
  [
    'overlap',
    () =>
      craft('m', { ...one({}), u: { dtype: 'F32', shape: [2], data_offsets: [4, 12] } }, Buffer.alloc(12)),
    /tensors "t" and "u" overlap/,
  ],
  [
    'a hole',
    () => craft('m', one({ data_offsets: [4, 12] }), Buffer.alloc(12)),
    /4 bytes before tensor "t" belong to no tensor/,
  ],
  ['trailing garbage', () => craft('m', one({}), Buffer.alloc(9)), /1 bytes at the end belong to no tensor/],
  [
    'a name twice',
    () =>
      craft(
        'm',
        '{"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}',
        Buffer.alloc(2),
      ),
    /belong to no tensor/,
  ],
];

test.each(malformed)('malformed file: %s', (_, make, message) => {
  const before = liveTensors();
  const path = make();
  expect(() => readSafetensors(path)).toThrow(UserError);
  expect(() => readSafetensors(path)).toThrow(message);
  expect(() => readSafetensors(path)).toThrow(path); // names the file
  expect(liveTensors()).toBe(before);
});

test('shards: read as one; a bad index or shard is an error that names it, and leaks nothing', () => {
  const before = liveTensors();
  const index = (map: unknown, name = 'model.safetensors.index.json') => {
    writeFileSync(file(name), JSON.stringify(map));
    return file(name);
  };
  scope(() => {
    writeSafetensors(
      file('one.safetensors'),
      new Map([
        ['a', tensor([1])],
        ['b', tensor([2])],
      ]),
    );
    writeSafetensors(file('two.safetensors'), new Map([['c', tensor([3])]]));
  });
  const map = { a: 'one.safetensors', b: 'one.safetensors', c: 'two.safetensors' };
  const { tensors } = readSafetensors(index({ weight_map: map }));
  expect([...tensors].map(([name, t]) => [name, t.item()])).toEqual([
    ['a', 1],
    ['b', 2],
    ['c', 3],
  ]);
  free(tensors);
  for (const [bad, message] of [
    [{}, /no "weight_map"/],
    [{ weight_map: [] }, /no "weight_map"/],
    [null, /no "weight_map"/],
    [{ weight_map: { ...map, d: 'two.safetensors' } }, /tensor "d" should be in two\.safetensors but is not/],
    [{ weight_map: { ...map, c: 'one.safetensors' } }, /tensor "c" should be in one\.safetensors but is not/],
    [
      { weight_map: { ...map, d: '../two.safetensors' } },
      /tensor "d" is said to be in "\.\.\/two\.safetensors"/,
    ],
    [{ weight_map: { ...map, d: 3 } }, /tensor "d" is said to be in 3/],
    [{ weight_map: { ...map, d: 'model.safetensors.index.json' } }, /the plain name of a safetensors file/],
    [{ weight_map: { ...map, d: 'three.safetensors' } }, /three\.safetensors: there is no such file/],
  ] as const) {
    expect(() => readSafetensors(index(bad))).toThrow(message);
    expect(() => readSafetensors(index(bad))).toThrow(UserError);
  }
  writeFileSync(file('broken.json'), '{');
  expect(() => readSafetensors(file('broken.json'))).toThrow(/broken\.json: .* not JSON/);
  expect(() => readSafetensors(file('none.json'))).toThrow(/none\.json: cannot be read/);
  expect(liveTensors()).toBe(before);
});

test('writing is atomic: a failure leaves the old file and no other', () => {
  scope(() => {
    const path = file('atomic.safetensors');
    writeSafetensors(path, new Map([['old', tensor([1])]]));
    const bytes = readFileSync(path);
    const files = readdirSync(folder).sort();
    const freed = zeros([1000]);
    const tensors = new Map([
      ['fine', ones([1000])],
      ['freed', freed],
    ]);
    const failing = new Map(tensors);
    // fails after the first tensor was written
    Object.defineProperty(failing.get('freed'), 'bytes', {
      value: () => {
        throw new Error('disk full');
      },
    });
    expect(() => writeSafetensors(path, failing)).toThrow('disk full');
    freed.free();
    expect(() => writeSafetensors(path, tensors)).toThrow(/was freed/);
    expect(readFileSync(path).equals(bytes)).toBe(true);
    expect(readdirSync(folder).sort()).toEqual(files);
    expect(() => writeSafetensors(join(folder, 'no', 'such', 'folder'), new Map())).toThrow(/ENOENT/);
  });
});

test('the header alone: names, shapes, metadata, without the data', () => {
  const { entries, metadata, dataStart } = readHeader(file('python.safetensors'));
  expect(entries.map(({ name }) => name)).toEqual(Object.keys(expected));
  expect(metadata).toEqual({ format: 'pt' });
  expect(dataStart).toBe(8 + 488);
});
