/** `.pt` and `.pth` files that torch.save wrote, read as data: an archive of raw numbers, and a pickle that says what they are. */

import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs';
import { type DType, dtypeNumber, itemSize } from './dtype.js';
import { shown, UserError } from './errors.js';
import { native } from './native.js';
import type { StateDict } from './nn/parameters.js';
import { type Allowed, type Pickled, unpickle } from './pickle.js';
import { scope } from './scope.js';
import { Tensor, wrap } from './tensor.js';
import { readLegacy } from './torch-file-legacy.js';

const op = {
  fromFile: native.resolve('from_file', ''),
  viewDtype: native.resolve('view', 'dtype'),
  asStrided: native.resolve('as_strided', ''),
};

const storages: ReadonlyMap<string, DType> = new Map([
  ['torch DoubleStorage', 'float64'],
  ['torch FloatStorage', 'float32'],
  ['torch HalfStorage', 'float16'],
  ['torch BFloat16Storage', 'bfloat16'],
  ['torch LongStorage', 'int64'],
  ['torch IntStorage', 'int32'],
  ['torch ByteStorage', 'uint8'],
  ['torch BoolStorage', 'bool'],
]);

/** Weights of a hundred gigabytes have a pickle of some megabytes. */
const largestPickle = 64_000_000;

/**
 * The tensors of a file by `torch.save`, an archive or, of PyTorch before 1.6, pickles in a row: those of a state dict, or of
 * the one that a checkpoint holds as `state_dict`, `model` or `params`. Nothing in the file can run: its pickles may name
 * tensors and dictionaries, and anything else is refused. The data is memory-mapped, as that of safetensors.
 *
 * @throws UserError for anything that is no such file: the message names file, tensor and rule
 */
export function readTorchFile(path: string): StateDict {
  const where = `torch file ${path}`;
  const status = existsSync(path) ? statSync(path) : undefined;
  if (!status?.isFile()) throw new UserError(`${where}: there is no such file — check the path.`);
  if (readBytes(path, 0, 1)[0] === 0x80) {
    const bytes = readBytes(path, 0, Math.min(status.size, largestPickle));
    const { entries, pickle } = readLegacy(bytes, where, status.size, storages, (begin, size) =>
      readBytes(path, begin, size),
    );
    return tensorsIn(path, where, status.size, '', entries, pickle);
  }
  const entries = readArchive(path, where, status.size);
  const pickle = [...entries.keys()].find((name) => name.endsWith('/data.pkl'));
  if ([...entries.keys()].some((name) => name.includes('/code/') || name.endsWith('/constants.pkl'))) {
    throw new UserError(
      `${where}: is a TorchScript archive, which holds a program (OpenAI's own CLIP files are such) — only weights are read. Take the same weights from a hub as safetensors.`,
    );
  }
  const [packed] = [...entries].find(([, entry]) => !entry.plain) ?? [];
  if (packed !== undefined) {
    throw new UserError(
      `${where}: ${packed} is compressed or encrypted — torch.save does neither. Check the path.`,
    );
  }
  if (pickle === undefined)
    throw new UserError(`${where}: holds no data.pkl — it is no file by torch.save. Check the path.`);
  const root = pickle.slice(0, -'data.pkl'.length);
  const order = entries.get(`${root}byteorder`);
  if (order !== undefined && readBytes(path, order.begin, Math.min(order.size, 16)).toString() !== 'little')
    throw new UserError(`${where}: its numbers are big-endian — save it again on a little-endian machine.`);
  const { begin, size } = entries.get(pickle)!;
  if (size > largestPickle)
    throw new UserError(`${where}: data.pkl has ${size} bytes — at most ${largestPickle} are read.`);
  return tensorsIn(path, where, status.size, root, entries, readBytes(path, begin, size));
}

function tensorsIn(
  path: string,
  where: string,
  size: number,
  root: string,
  entries: Entries,
  pickle: Uint8Array,
): StateDict {
  return scope(() => {
    const file = wrap(native.call(op.fromFile, path, false, size, dtypeNumber('uint8')));
    return tensorsOf(where, unpickle(pickle, where, allowedIn(where, root, entries, file)));
  });
}

interface Storage {
  dtype: DType;
  numel: number;
  numbers(): Tensor;
}

/** What torch.save's pickles name. */
function allowedIn(where: string, root: string, entries: Entries, file: Tensor): Allowed {
  const known = new Map<string, Storage>();
  const functions = new Map<string, (args: readonly Pickled[]) => Pickled>([
    ['collections OrderedDict', () => new Map()],
    ['torch Size', ([sizes]) => sizes],
    ['torch._utils _rebuild_tensor_v2', (args) => rebuilt(where, args)],
    ['torch._utils _rebuild_parameter', ([data]) => data],
  ]);
  const persistent = (id: Pickled): Storage => {
    const [kind, dtype, key, , numel] = Array.isArray(id) ? (id as unknown[]) : [];
    const entry = entries.get(`${root}data/${key}`);
    if (kind !== 'storage' || typeof dtype !== 'string' || !isSize(numel) || entry === undefined) {
      throw new UserError(
        `${where}: the storage ${shown(id)} is not in the file — truncated, or of another format. Copy or download it again.`,
      );
    }
    const bytes = numel * itemSize[dtype as DType];
    if (bytes !== entry.size) {
      throw new UserError(
        `${where}: storage ${key} has ${entry.size} bytes, but ${numel} numbers of ${dtype} take ${bytes} — the file is damaged. Copy or download it again.`,
      );
    }
    const numbers = () => {
      const raw = file.narrow(0, entry.begin, entry.size);
      const aligned = entry.begin % itemSize[dtype as DType] === 0 ? raw : raw.clone();
      return dtype === 'uint8'
        ? aligned
        : wrap(native.call(op.viewDtype, aligned.handle, dtypeNumber(dtype as DType)));
    };
    const storage = known.get(String(key)) ?? { dtype: dtype as DType, numel, numbers };
    known.set(String(key), storage);
    return storage;
  };
  return { functions, values: storages, persistent };
}

const isSize = (size: unknown): size is number => Number.isSafeInteger(size) && (size as number) >= 0;

/** torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...). */
function rebuilt(where: string, [storage, offset, size, stride]: readonly Pickled[]): Tensor {
  const { numel, numbers } = (storage ?? {}) as Partial<Storage>;
  const [sizes, strides] = [size, stride] as number[][];
  const good =
    numel !== undefined &&
    isSize(offset) &&
    Array.isArray(sizes) &&
    Array.isArray(strides) &&
    sizes.length === strides.length &&
    [...sizes, ...strides].every(isSize);
  const refuse = (what: string) =>
    new UserError(
      `${where}: a tensor ${what} — the file is damaged, or of another format. Copy or download it again.`,
    );
  if (!good) throw refuse(`of size ${shown(size)} has offset ${shown(offset)} and strides ${shown(stride)}`);
  const count = sizes.reduce((product, one) => product * one, 1);
  const last = sizes.reduce((sum, one, i) => sum + (one - 1) * strides[i]!, offset);
  if (count > numel || (count > 0 && last >= numel))
    throw refuse(`of size [${sizes.join(', ')}] reaches beyond the ${numel} numbers of its storage`);
  if (count === 0) return numbers!().narrow(0, 0, 0).reshape(sizes);
  const own = numbers!().narrow(0, offset, last - offset + 1);
  return wrap(native.call(op.asStrided, own.handle, sizes, strides));
}

/** The tensors by name of a state dict, or of the first one that a checkpoint holds. */
function tensorsOf(where: string, content: Pickled): StateDict {
  if (content instanceof Map) {
    for (const holder of [content, ...['state_dict', 'model', 'params'].map((name) => content.get(name))]) {
      if (!(holder instanceof Map)) continue;
      const tensors = [...holder].filter(
        ([name, value]) => typeof name === 'string' && value instanceof Tensor,
      );
      if (tensors.length > 0) return new Map(tensors) as StateDict;
    }
  }
  throw new UserError(
    `${where}: holds no tensors by name — a state dict is needed, or a checkpoint with one as "state_dict", "model" or "params".`,
  );
}

export type Entries = Map<string, { begin: number; size: number; plain: boolean }>;

/** Places of a zip archive's files, none of them compressed. */
function readArchive(path: string, where: string, size: number): Entries {
  const damaged = (what: string) =>
    new UserError(`${where}: ${what} — the file is truncated or damaged. Copy or download it again.`);
  const first = readBytes(path, 0, Math.min(size, 4));
  if (first.length < 4 || first.readUInt32LE(0) !== 0x04034b50) {
    throw new UserError(`${where}: is no file by torch.save. Check the path.`);
  }
  const tailSize = Math.min(size, 66_000);
  const tail = readBytes(path, size - tailSize, tailSize);
  const end = tail.lastIndexOf(Buffer.from('PK\x05\x06', 'latin1'));
  if (end < 0 || end + 22 > tail.length) throw damaged('its directory is missing');
  let [count, length, start] = [
    tail.readUInt16LE(end + 10),
    tail.readUInt32LE(end + 12),
    tail.readUInt32LE(end + 16),
  ];
  if (end >= 20 && tail.readUInt32LE(end - 20) === 0x07064b50) {
    const at = Number(tail.readBigUInt64LE(end - 12)); // zip64: for archives beyond 4 GB, and torch writes it always
    if (at + 56 > size) throw damaged('its directory is missing');
    const wide = readBytes(path, at, 56);
    if (wide.readUInt32LE(0) !== 0x06064b50) throw damaged('its directory is missing');
    [count, length, start] = [32, 40, 48].map((place) => Number(wide.readBigUInt64LE(place))) as [number, number, number]; // biome-ignore format: one thought
  }
  if (start + length > size || length > 200_000_000) throw damaged('its directory lies outside the file');
  const directory = readBytes(path, start, length);
  const entries: Entries = new Map();
  for (let i = 0, at = 0; i < count; i++) {
    if (at + 46 > length || directory.readUInt32LE(at) !== 0x02014b50)
      throw damaged('its directory is broken');
    const [flags, method] = [directory.readUInt16LE(at + 8), directory.readUInt16LE(at + 10)];
    const [nameLength, extraLength, noteLength] = [28, 30, 32].map((place) => directory.readUInt16LE(at + place)) as [number, number, number]; // biome-ignore format: one thought
    const name = directory.toString('utf8', at + 46, at + 46 + nameLength);
    const extra = directory.subarray(at + 46 + nameLength, at + 46 + nameLength + extraLength);
    const [packed, size_, place] = [20, 24, 42].map((field) => directory.readUInt32LE(at + field)) as [number, number, number]; // biome-ignore format: one thought
    const entry = { size: size_, packed, header: place };
    widen(entry, extra);
    if (entry.header + 30 > size) throw damaged(`${name} lies outside the file`);
    const header = readBytes(path, entry.header, 30);
    const begin = entry.header + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
    if (header.readUInt32LE(0) !== 0x04034b50 || begin + entry.size > size)
      throw damaged(`${name} lies outside the file`);
    entries.set(name, { begin, size: entry.size, plain: method === 0 && (flags & 1) === 0 });
    at += 46 + nameLength + extraLength + noteLength;
  }
  return entries;
}

/** Sizes of 4 GB and more stand in an extra field, those alone and in this order. */
function widen(entry: { size: number; packed: number; header: number }, extra: Buffer): void {
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    if (extra.readUInt16LE(at) !== 1) continue;
    let place = at + 4;
    for (const key of ['size', 'packed', 'header'] as const) {
      if (entry[key] !== 0xffffffff || place + 8 > extra.length) continue;
      entry[key] = Number(extra.readBigUInt64LE(place));
      place += 8;
    }
    return;
  }
}

function readBytes(path: string, begin: number, size: number): Buffer {
  const bytes = Buffer.alloc(size);
  const file = openSync(path, 'r');
  try {
    let read = 0;
    while (read < size) {
      const count = readSync(file, bytes, read, size - read, begin + read);
      if (count === 0) break;
      read += count;
    }
    return bytes.subarray(0, read);
  } finally {
    closeSync(file);
  }
}
