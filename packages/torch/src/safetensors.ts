import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { type DType, dtypeNumber, itemSize } from './dtype.js';
import { shown, UserError } from './errors.js';
import { native } from './native.js';
import type { StateDict } from './nn/parameters.js';
import { scope } from './scope.js';
import { wrap } from './tensor.js';

const dtypes: Record<string, DType> = {
  F64: 'float64',
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
  I64: 'int64',
  I32: 'int32',
  U8: 'uint8',
  BOOL: 'bool',
};
const codes = Object.fromEntries(Object.entries(dtypes).map(([code, dtype]) => [dtype, code])) as Record<
  DType,
  string
>;

/** The format's own limit: a longer header is an attack or a broken file. */
const maxHeaderBytes = 100_000_000;

export interface SafetensorsFile {
  tensors: StateDict;
  metadata: Record<string, string>;
}

interface Entry {
  name: string;
  dtype: DType;
  shape: number[];
  begin: number;
  end: number;
}

const op = {
  fromFile: native.resolve('from_file', ''),
  viewDtype: native.resolve('view', 'dtype'),
};

/**
 * Reads a safetensors file, or all shards of a `*.index.json`. The data is memory-mapped (private: writing changes
 * only this process's copy), so that opening is instant and unused tensors cost nothing.
 *
 * @throws UserError for anything that is not a well-formed file: the message names file, tensor and rule
 */
export function readSafetensors(path: string): SafetensorsFile {
  if (path.endsWith('.json')) return readShards(path);
  const { entries, metadata, dataStart } = readHeader(path);
  const size = statSync(path).size;
  const tensors = scope(() => {
    const read: StateDict = new Map();
    const file = wrap(native.call(op.fromFile, path, false, size, dtypeNumber('uint8')));
    for (const { name, dtype, shape, begin, end } of entries) {
      const bytes = file.narrow(0, dataStart + begin, end - begin);
      const aligned = (dataStart + begin) % itemSize[dtype] === 0 ? bytes : bytes.clone();
      const typed =
        dtype === 'uint8' ? aligned : wrap(native.call(op.viewDtype, aligned.handle, dtypeNumber(dtype)));
      read.set(name, typed.reshape(shape));
    }
    return read;
  });
  return { tensors, metadata };
}

function readShards(path: string): SafetensorsFile {
  const where = `safetensors index ${path}`;
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    throw new UserError(`${where}: cannot be read — check the path.`);
  }
  const index = parseJson(text, where);
  const map = isRecord(index) ? index.weight_map : undefined;
  if (!isRecord(map)) throw new UserError(`${where}: no "weight_map" — not a safetensors index.`);
  const shards = new Set<string>();
  for (const [name, shard] of Object.entries(map)) {
    if (typeof shard !== 'string' || shard !== basename(shard) || shard.endsWith('.json'))
      throw new UserError(
        `${where}: tensor "${name}" is said to be in ${shown(shard)} — the plain name of a safetensors file beside the index is needed.`,
      );
    shards.add(shard);
  }
  const tensors = scope(() => {
    const read: StateDict = new Map();
    for (const shard of shards) {
      for (const [name, tensor] of readSafetensors(join(dirname(path), shard)).tensors) {
        if (map[name] === shard) read.set(name, tensor);
      }
    }
    for (const [name, shard] of Object.entries(map)) {
      if (!read.has(name))
        throw new UserError(
          `${where}: tensor "${name}" should be in ${shard} but is not — a shard is incomplete or of another model.`,
        );
    }
    return read;
  });
  return { tensors, metadata: {} };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

/** Names, dtypes, shapes and metadata, without touching the data. */
export function readHeader(path: string): {
  entries: Entry[];
  metadata: Record<string, string>;
  dataStart: number;
} {
  const where = `safetensors file ${path}`;
  const status = existsSync(path) ? statSync(path) : undefined;
  if (!status?.isFile()) throw new UserError(`${where}: there is no such file — check the path.`);
  const { size } = status;
  if (size < 8)
    throw new UserError(`${where}: ${size} bytes are too few — the file is truncated or of another format.`);
  const file = opened(path, where);
  let json: string;
  let length: number;
  try {
    const prefix = Buffer.alloc(8);
    readSync(file, prefix, 0, 8, 0);
    const wide = prefix.readBigUInt64LE();
    if (wide > BigInt(maxHeaderBytes) || wide > BigInt(size - 8)) {
      throw new UserError(
        `${where}: the header claims ${wide} bytes in a file of ${size} (at most ${maxHeaderBytes} are allowed) — truncated, or no safetensors file.`,
      );
    }
    length = Number(wide);
    const header = Buffer.alloc(length);
    readSync(file, header, 0, length, 8);
    json = header.toString('utf8');
  } finally {
    closeSync(file);
  }
  const header = parseJson(json, where);
  if (!isRecord(header)) throw new UserError(`${where}: the header is not a JSON object.`);
  const { __metadata__: metadata = {}, ...named } = header;
  if (!isRecord(metadata) || !Object.values(metadata).every((value) => typeof value === 'string'))
    throw new UserError(
      `${where}: "__metadata__" must hold strings only — the file is damaged. Copy or download it again.`,
    );
  const dataStart = 8 + length;
  const entries = Object.entries(named).map(([name, entry]) =>
    checkEntry(where, name, entry, size - dataStart),
  );
  checkOverlaps(where, entries, size - dataStart);
  return { entries, metadata: metadata as Record<string, string>, dataStart };
}

function opened(path: string, where: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    throw new UserError(
      `${where}: cannot be opened (${(error as NodeJS.ErrnoException).code}) — the file must be readable. Check its permissions.`,
    );
  }
}

function parseJson(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new UserError(
      `${where}: the header is not JSON (${(error as Error).message}) — truncated, or of another format.`,
    );
  }
}

function checkEntry(where: string, name: string, value: unknown, dataBytes: number): Entry {
  const entry = (value ?? {}) as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
  const { dtype: code } = entry;
  const dtype = typeof code === 'string' && Object.hasOwn(dtypes, code) ? dtypes[code] : undefined;
  if (dtype === undefined) {
    throw new UserError(
      `${where}: tensor "${name}" has dtype ${shown(code)} — one of ${Object.keys(dtypes).join(', ')} is supported.`,
    );
  }
  const { shape, data_offsets: offsets } = entry;
  const isSize = (size: unknown) => Number.isSafeInteger(size) && (size as number) >= 0;
  if (!Array.isArray(shape) || !shape.every(isSize))
    throw new UserError(
      `${where}: tensor "${name}" has shape ${shown(shape)} — an array of non-negative integers is needed.`,
    );
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize))
    throw new UserError(
      `${where}: tensor "${name}" has data_offsets ${shown(offsets)} — [begin, end] is needed.`,
    );
  const [begin, end] = offsets as [number, number];
  const bytes = shape.reduce((product: number, dim: number) => product * dim, itemSize[dtype]);
  if (end > dataBytes || begin > end)
    throw new UserError(
      `${where}: tensor "${name}" lies at [${begin}, ${end}) outside the ${dataBytes} data bytes — the file is truncated or damaged. Copy or download it again.`,
    );
  if (end - begin !== bytes)
    throw new UserError(
      `${where}: tensor "${name}" has ${end - begin} bytes, but ${dtype}[${shape.join(', ')}] takes ${bytes}.`,
    );
  return { name, dtype, shape, begin, end };
}

function checkOverlaps(where: string, entries: Entry[], dataBytes: number): void {
  const sorted = entries.filter((entry) => entry.end > entry.begin).sort((a, b) => a.begin - b.begin);
  let position = 0;
  for (const [i, entry] of sorted.entries()) {
    if (entry.begin < position)
      throw new UserError(
        `${where}: tensors "${sorted[i - 1]?.name}" and "${entry.name}" overlap — the file is damaged. Copy or download it again.`,
      );
    if (entry.begin > position)
      throw new UserError(
        `${where}: ${entry.begin - position} bytes before tensor "${entry.name}" belong to no tensor — the file is damaged. Copy or download it again.`,
      );
    position = entry.end;
  }
  if (position !== dataBytes)
    throw new UserError(
      `${where}: ${dataBytes - position} bytes at the end belong to no tensor — the file is damaged. Copy or download it again.`,
    );
}

/**
 * Writes tensors atomically: to a temporary name, synced, then renamed. A crash leaves the old file or the new one.
 * Wider types come first, so that every tensor is aligned to its element size; ties keep the given order.
 */
export function writeSafetensors(
  path: string,
  tensors: StateDict,
  metadata: Record<string, string> = {},
): void {
  const header: Record<string, unknown> = Object.create(null);
  if (tensors.has('__metadata__'))
    throw new UserError(`safetensors file ${path}: a tensor cannot be named "__metadata__".`);
  if (Object.keys(metadata).length > 0) header.__metadata__ = metadata;
  const ordered = [...tensors].sort(([, a], [, b]) => itemSize[b.dtype] - itemSize[a.dtype]);
  let offset = 0;
  for (const [name, tensor] of ordered) {
    const bytes = tensor.numel * itemSize[tensor.dtype];
    header[name] = {
      dtype: codes[tensor.dtype],
      shape: tensor.shape,
      data_offsets: [offset, offset + bytes],
    };
    offset += bytes;
  }
  const json = Buffer.from(JSON.stringify(header), 'utf8');
  const padded = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, ' ')]);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(padded.length));
  const temporary = `${path}.tmp-${process.pid}`;
  try {
    const file = openSync(temporary, 'w');
    try {
      writeAll(file, prefix);
      writeAll(file, padded);
      for (const [, tensor] of ordered) writeAll(file, tensor.bytes());
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

function writeAll(file: number, bytes: Uint8Array): void {
  for (let written = 0; written < bytes.length; ) written += writeSync(file, bytes, written);
}
