import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { liveTensors, readTorchFile, UserError } from './index.js';

const goldens = join(import.meta.dirname, '..', '..', 'models', 'goldens', 'torch-files'); // by torch.save itself
const folder = mkdtempSync(join(tmpdir(), 'rldf-torch-file-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** An archive as torch.save's, with a pickle and storages of our own. */
function archive(files: { [name: string]: Buffer }): string {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const [name, data] of Object.entries(files)) {
    const header = Buffer.alloc(30);
    header.writeUInt32LE(0x04034b50, 0);
    header.writeUInt32LE(data.length, 18);
    header.writeUInt32LE(data.length, 22);
    header.writeUInt16LE(name.length, 26);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50, 0);
    entry.writeUInt32LE(data.length, 20);
    entry.writeUInt32LE(data.length, 24);
    entry.writeUInt16LE(name.length, 28);
    entry.writeUInt32LE(at, 42);
    directory.push(entry, Buffer.from(name));
    parts.push(header, Buffer.from(name), data);
    at += 30 + name.length + data.length;
  }
  const listed = Buffer.concat(directory);
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(Object.keys(files).length, 8);
  end.writeUInt16LE(Object.keys(files).length, 10);
  end.writeUInt32LE(listed.length, 12);
  end.writeUInt32LE(at, 16);
  const path = join(folder, `${Math.abs(at)}-${parts.length}-${listed.length}.pt`);
  writeFileSync(path, Buffer.concat([...parts, listed, end]));
  return path;
}

const pickled = (...pieces: (string | number[])[]) =>
  archive({
    'a/data.pkl': Buffer.concat(
      pieces.map((piece) => (typeof piece === 'string' ? Buffer.from(piece, 'latin1') : Buffer.from(piece))),
    ),
    'a/data/0': Buffer.alloc(16),
  });

const text = (value: string) => `X${String.fromCharCode(value.length)}\0\0\0${value}`;
/** ('storage', torch.FloatStorage, '0', 'cpu', 4), then the tensor's offset, size and stride. */
const tensorOf = (offset: string, size: string, stride: string, count = 'K\x04') =>
  `ctorch._utils\n_rebuild_tensor_v2\n((${text('storage')}ctorch\nFloatStorage\n${text('0')}${text('cpu')}${count}tQ${offset}${size}${stride}\x89ccollections\nOrderedDict\n)RtR`;
const stateOf = (tensor: string) => ['\x80\x02}', text('w'), tensor, 's.'];

test('what torch.save wrote is read: state dicts, checkpoints, newer protocols', () => {
  for (const name of ['checkpoint.pt', 'protocol-4.pt', 'legacy.pth']) {
    const tensors = readTorchFile(join(goldens, name));
    expect([...tensors].map(([own, { shape, dtype }]) => [own, shape, dtype])).toEqual([
      ['0.weight', [1, 2], 'float32'],
      ['0.bias', [1], 'float32'],
    ]);
  }
  const [first, second, third] = ['checkpoint.pt', 'protocol-4.pt', 'legacy.pth'].map((name) =>
    [...readTorchFile(join(goldens, name)).values()].map((tensor) => tensor.toNumbers()),
  );
  expect(first).toEqual(second);
  expect(first).toEqual(third);
  expect(
    readTorchFile(pickled(...stateOf(tensorOf('K\x00', 'K\x02K\x02\x86', 'K\x01K\x02\x86')))).get('w')?.shape,
  ).toEqual([2, 2]);
});

test.each([
  [
    'module.pt',
    /refused, it names torch\.nn\.modules\.container\.Sequential — a pickle may run what it names/,
  ],
  ['script.pt', /is a TorchScript archive, which holds a program/],
])('%s is refused', (name, message) => {
  expect(() => readTorchFile(join(goldens, name))).toThrow(UserError);
  expect(() => readTorchFile(join(goldens, name))).toThrow(message);
});

const marker = join(folder, 'was-run');
const malicious: [string, (string | number[])[], RegExp][] = [
  ['os.system', [`\x80\x02cposix\nsystem\n(${text(`touch ${marker}`)}tR.`], /it names posix\.system/],
  ['eval', [`\x80\x02c__builtin__\neval\n(${text('1')}tR.`], /it names __builtin__\.eval/],
  [
    'a name from the prototype',
    [`\x80\x02cconstructor\nconstructor\n)R.`],
    /it names constructor\.constructor/,
  ],
  [
    'a name by the stack',
    [`\x80\x04\x8c\x05posix\x8c\x06system\x93`, `(${text('x')}tR.`],
    /it names posix\.system/,
  ],
  [
    'a named value that is called',
    ['\x80\x02ctorch\nFloatStorage\n)R.'],
    /it calls something that is no function/,
  ],
  ['an object of a class', ['\x80\x02ccollections\nOrderedDict\n)\x81.'], /its opcode 0x81 at byte/],
  ['the old way to call', [`\x80\x02(${text('x')}iposix\nsystem\n.`], /its opcode 0x69 at byte/],
  ['state of what is no dictionary', ['\x80\x02]}b.'], /it sets the state of an object/],
  ['a memo that is not there', ['\x80\x02h\x05.'], /it refers to value 5, which is not there/],
  ['an early end', ['\x80\x02X\xff\xff\xff\x7fabc'], /it ends too early/],
  ['nothing', ['\x80\x02.'], /0 values are left/],
  ['a number alone', ['\x80\x02K\x05.'], /holds no tensors by name/],
  [
    'a storage that is not there',
    stateOf(tensorOf('K\x00', 'K\x02\x85', 'K\x01\x85').replace(text('0'), text('7'))),
    /the storage \["storage","float32","7","cpu",4\] is not in the file/,
  ],
  [
    'a storage of another size',
    stateOf(tensorOf('K\x00', 'K\x02\x85', 'K\x01\x85', 'K\x05')),
    /storage 0 has 16 bytes, but 5 numbers of float32 take 20/,
  ],
  [
    'a tensor beyond its storage',
    stateOf(tensorOf('K\x03', 'K\x02\x85', 'K\x01\x85')),
    /a tensor of size \[2\] reaches beyond the 4 numbers/,
  ],
  [
    'a tensor that repeats its storage for ever',
    stateOf(tensorOf('K\x00', 'J\xff\xff\xff\x7f\x85', 'K\x00\x85')),
    /reaches beyond the 4 numbers/,
  ],
  [
    'a negative stride',
    stateOf(tensorOf('K\x00', 'K\x02\x85', 'J\xff\xff\xff\xff\x85')),
    /has offset 0 and strides \[-1\]/,
  ],
];

test.each(malicious)('refused: %s', (_, pieces, message) => {
  const before = liveTensors();
  const path = pickled(...pieces);
  expect(() => readTorchFile(path)).toThrow(UserError);
  expect(() => readTorchFile(path)).toThrow(message);
  expect(() => readTorchFile(path)).toThrow(path);
  expect(() => readFileSync(marker)).toThrow('ENOENT');
  expect(liveTensors()).toBe(before);
});

test('damaged archives are refused, whatever is cut off or changed', () => {
  const path = join(folder, 'damaged.pt');
  const before = liveTensors();
  const tryOne = (bytes: Buffer) => {
    writeFileSync(path, bytes);
    try {
      for (const tensor of readTorchFile(path).values()) tensor.free();
    } catch (error) {
      expect(error).toBeInstanceOf(UserError);
    }
  };
  const [whole, legacy] = ['checkpoint.pt', 'legacy.pth'].map((name) => readFileSync(join(goldens, name)));
  for (const [file, step] of [[whole!, 29], [legacy!, 3]] as const) {
    for (let end = 0; end < file.length; end += 11 * step) tryOne(file.subarray(0, end));
    for (let at = 0; at < file.length; at += step) {
      const bytes = Buffer.from(file);
      bytes[at]! ^= 0xff;
      tryOne(bytes);
    }
  } // biome-ignore format: one thought
  expect(liveTensors()).toBe(before);
  writeFileSync(path, legacy!.subarray(0, legacy!.length - 4));
  expect(() => readTorchFile(path)).toThrow(
    /damaged\.pt: storage \d+ lies outside the file — the file is truncated/,
  );
  writeFileSync(path, Buffer.from('\x80\x02K\x01.', 'latin1'));
  expect(() => readTorchFile(path)).toThrow(/is a pickle, but no file by torch\.save/);
  const named = Buffer.from(
    legacy!.toString('latin1').replace('ccollections\nOrderedDict\n', 'cposix\nsystem\n'),
    'latin1',
  );
  writeFileSync(path, named);
  expect(() => readTorchFile(path)).toThrow(/refused, it names posix\.system/);
  writeFileSync(path, whole!.subarray(0, 40));
  expect(() => readTorchFile(path)).toThrow(
    /damaged\.pt: its directory is missing — the file is truncated or damaged/,
  );
  expect(() => readTorchFile(join(folder, 'nowhere.pt'))).toThrow(/there is no such file/);
});
