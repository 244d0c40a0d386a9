/**
 * Files by torch.save of PyTorch before 1.6: a magic number, a version, facts on the machine, what is saved, the names of the
 * storages (a pickle each); then, of each storage in this order, its length and its numbers.
 */

import { type DType, itemSize } from './dtype.js';
import { shown, UserError } from './errors.js';
import { type Allowed, type Pickled, unpickleFirst } from './pickle.js';
import type { Entries } from './torch-file.js';

const magic = 0x1950a86a20f9469cfc6cn;
const version = 1001;

const nothing: Allowed = {
  functions: new Map(),
  values: new Map(),
  persistent: () => undefined,
};

/**
 * Where the numbers of each storage lie, named `data/KEY` as in an archive, and the pickle that refers to them.
 * @param bytes the beginning of the file, with all pickles
 * @param storages kinds of numbers that may be named
 * @throws UserError for a file of another kind, or a damaged one
 */
export function readLegacy(
  bytes: Uint8Array,
  where: string,
  size: number,
  storages: ReadonlyMap<string, DType>,
  read: (begin: number, size: number) => Buffer,
): { entries: Entries; pickle: Uint8Array } {
  const damaged = (what: string) =>
    new UserError(`${where}: ${what} — the file is truncated or damaged. Copy or download it again.`);
  let at = 0;
  const next = (allowed: Allowed) => {
    const { value, end } = unpickleFirst(bytes.subarray(at), where, allowed);
    at += end;
    return value;
  };
  if (next(nothing) !== magic)
    throw new UserError(`${where}: is a pickle, but no file by torch.save. Check the path.`);
  const given = next(nothing);
  if (given !== version) throw damaged(`its version is ${shown(given)}, not ${version}`);
  const system = next(nothing);
  if (!(system instanceof Map) || system.get('little_endian') !== true)
    throw new UserError(`${where}: its numbers are not little-endian — save it again on such a machine.`);

  const begin = at;
  const named = new Map<string, { dtype: DType; numel: number }>();
  next({
    // read once only to learn what it refers to, which lies behind it
    functions: new Map(['collections OrderedDict', 'torch Size', 'torch._utils _rebuild_tensor_v2', 'torch._utils _rebuild_parameter'].map((name) => [name, () => new Map()])), // biome-ignore format: one thought
    values: storages,
    persistent: (id: Pickled) => {
      const [kind, dtype, key, , numel, view] = Array.isArray(id) ? (id as unknown[]) : [];
      if (kind !== 'storage' || typeof dtype !== 'string' || typeof key !== 'string' || !isSize(numel))
        throw damaged(`it refers to ${shown(id)}, which is no storage`);
      if (view !== null && view !== undefined)
        throw new UserError(
          `${where}: storage ${key} is a part of another, as PyTorch before 0.4 saved it — save it again with a newer one.`,
        );
      named.set(key, { dtype: dtype as DType, numel });
      return undefined;
    },
  });
  const pickle = bytes.subarray(begin, at);

  const keys = next(nothing);
  if (!Array.isArray(keys)) throw damaged(`in the place of its storages' names is ${shown(keys)}`);
  const entries: Entries = new Map();
  for (const key of keys as unknown[]) {
    const storage = typeof key === 'string' ? named.get(key) : undefined;
    if (storage === undefined) throw damaged(`storage ${shown(key)} belongs to no tensor`);
    const own = storage.numel * itemSize[storage.dtype];
    if (at + 8 + own > size) throw damaged(`storage ${key} lies outside the file`);
    const told = read(at, 8).readBigUInt64LE();
    if (told !== BigInt(storage.numel))
      throw damaged(`storage ${key} has ${told} numbers, not ${storage.numel}`);
    entries.set(`data/${key}`, { begin: at + 8, size: own, plain: true });
    at += 8 + own;
  }
  return { entries, pickle };
}

const isSize = (size: unknown): size is number => Number.isSafeInteger(size) && (size as number) >= 0;
