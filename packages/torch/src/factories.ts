import { type Device, deviceName } from './device.js';
import { type DType, dtypeNumber, itemSize } from './dtype.js';
import { UserError } from './errors.js';
import { native } from './native.js';
import { type Tensor, wrap } from './tensor.js';

export interface TensorOptions {
  /** float32 unless said otherwise. */
  dtype?: DType;
  /** cpu unless said otherwise. */
  device?: Device;
}

const op = {
  arange: native.resolve('arange', 'start_step'),
  cat: native.resolve('cat', ''),
  empty: native.resolve('empty', 'memory_format'),
  eye: native.resolve('eye', ''),
  full: native.resolve('full', ''),
  linspace: native.resolve('linspace', ''),
  stack: native.resolve('stack', ''),
  where: native.resolve('where', 'self'),
  zeros: native.resolve('zeros', ''),
};

const typeOf = (options: TensorOptions): [number, null, string] => [
  dtypeNumber(options.dtype ?? 'float32'),
  null,
  deviceName(options.device ?? 'cpu'),
];

export function empty(shape: readonly number[], options: TensorOptions = {}): Tensor {
  return wrap(native.call(op.empty, shape, ...typeOf(options)));
}

export function zeros(shape: readonly number[], options: TensorOptions = {}): Tensor {
  return wrap(native.call(op.zeros, shape, ...typeOf(options)));
}

export function full(shape: readonly number[], value: number, options: TensorOptions = {}): Tensor {
  return wrap(native.call(op.full, shape, value, ...typeOf(options)));
}

export function ones(shape: readonly number[], options: TensorOptions = {}): Tensor {
  return full(shape, 1, options);
}

export function eye(size: number, options: TensorOptions = {}): Tensor {
  return wrap(native.call(op.eye, size, ...typeOf(options)));
}

/** start, start + step, ... below end; `arange(n)` counts from 0. */
export function arange(end: number, options?: TensorOptions): Tensor;
export function arange(start: number, end: number, options?: TensorOptions): Tensor;
export function arange(start: number, end: number, step: number, options?: TensorOptions): Tensor;
export function arange(...args: (number | TensorOptions | undefined)[]): Tensor {
  const numbers = args.filter((arg) => typeof arg === 'number');
  const options = args.find((arg) => typeof arg === 'object') ?? {};
  const [start, end, step = 1] =
    numbers.length === 1 ? [0, numbers[0] as number] : (numbers as [number, number, number?]);
  return wrap(native.call(op.arange, start, end, step, ...typeOf(options)));
}

export function linspace(start: number, end: number, steps: number, options: TensorOptions = {}): Tensor {
  return wrap(native.call(op.linspace, start, end, steps, ...typeOf(options)));
}

export type NestedNumbers = number | bigint | readonly NestedNumbers[];
type NumberArray = Float32Array | Float64Array | Int32Array | Uint8Array | BigInt64Array;

const arrays: Record<string, new (values: ArrayLike<number>) => NumberArray> = {
  float64: Float64Array,
  float32: Float32Array,
  int32: Int32Array,
  uint8: Uint8Array,
  bool: Uint8Array,
};

/**
 * A tensor from numbers: nested arrays give the shape; a typed array needs `shape` unless it is a vector and gives
 * its own dtype unless one is asked for.
 */
export function tensor(
  data: NestedNumbers | NumberArray,
  options: TensorOptions & { shape?: readonly number[] } = {},
): Tensor {
  const typed = ArrayBuffer.isView(data);
  const own = typed ? dtypeOfArray(data as NumberArray) : 'float32';
  const dtype = options.dtype ?? own;
  dtypeNumber(dtype); // refuses an unknown one
  const flat: ArrayLike<number | bigint> = typed ? (data as NumberArray) : flatten(data as NestedNumbers);
  const shape = options.shape ?? (typed ? [flat.length] : shapeOf(data as NestedNumbers));
  const device = deviceName(options.device ?? 'cpu');
  const carrier: DType = dtype === 'float16' || dtype === 'bfloat16' ? 'float32' : dtype;
  const { buffer, byteOffset, byteLength } = carrierArray(flat, own, typed, carrier);
  const made = fromBytes(new Uint8Array(buffer, byteOffset, byteLength), carrier, shape);
  if (carrier === dtype && device === 'cpu') return made;
  const converted = made.to({ dtype, device: device as Device });
  made.free();
  return converted;
}

/** A tensor from raw little-endian bytes, row-major. */
export function fromBytes(bytes: Uint8Array, dtype: DType, shape: readonly number[]): Tensor {
  dtypeNumber(dtype); // refuses an unknown one
  const wanted = shape.reduce((count, size) => count * size, itemSize[dtype]);
  if (bytes.length !== wanted) {
    throw new UserError(
      `tensor: ${wanted} bytes cannot be made from ${bytes.length} bytes — dtype, shape and data must agree.`,
    );
  }
  const made = empty(shape, { dtype });
  native.copyBytes(made.handle, bytes, true);
  return made;
}

function carrierArray(
  flat: ArrayLike<number | bigint>,
  own: DType,
  typed: boolean,
  carrier: DType,
): NumberArray {
  if (typed && own === carrier) return flat as NumberArray;
  if (carrier === 'int64') {
    return BigInt64Array.from(
      Array.from(flat, (value) => (typeof value === 'bigint' ? value : integer(value))),
    );
  }
  const List = arrays[carrier] as new (values: ArrayLike<number>) => NumberArray;
  return new List(Array.from(flat, Number));
}

function integer(value: number): bigint {
  if (!Number.isSafeInteger(value)) {
    throw new UserError(
      `tensor: ${value} is not an integer within 2^53 — int64 tensors take integers, or BigInt beyond 2^53.`,
    );
  }
  return BigInt(value);
}

function dtypeOfArray(array: NumberArray): DType {
  if (array instanceof Float32Array) return 'float32';
  if (array instanceof Float64Array) return 'float64';
  if (array instanceof BigInt64Array) return 'int64';
  if (array instanceof Int32Array) return 'int32';
  return 'uint8';
}

function shapeOf(data: NestedNumbers): number[] {
  return Array.isArray(data) ? [data.length, ...(data.length === 0 ? [] : shapeOf(data[0]))] : [];
}

function flatten(data: NestedNumbers): (number | bigint)[] {
  return Array.isArray(data)
    ? (data.flat(Number.POSITIVE_INFINITY) as (number | bigint)[])
    : [data as number | bigint];
}

export function cat(tensors: readonly Tensor[], dim = 0): Tensor {
  return wrap(
    native.call(
      op.cat,
      tensors.map((t) => t.handle),
      dim,
    ),
  );
}

export function stack(tensors: readonly Tensor[], dim = 0): Tensor {
  return wrap(
    native.call(
      op.stack,
      tensors.map((t) => t.handle),
      dim,
    ),
  );
}

/** `a` where `condition` (bool) holds, else `b`. */
export function where(condition: Tensor, a: Tensor, b: Tensor): Tensor {
  return wrap(native.call(op.where, condition.handle, a.handle, b.handle));
}
