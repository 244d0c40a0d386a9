import { type Device, deviceName } from './device.js';
import { type DType, dtypeLabel, dtypeName, dtypeNumber, isDType, itemSize } from './dtype.js';
import { UserError } from './errors.js';
import { addMade, freeHandle } from './made.js';
import { type Handle, native } from './native.js';
import { op } from './operators.js';

const collected = new FinalizationRegistry<Handle>(freeHandle);

const { call } = native;

/** Wraps a new handle, which belongs to the innermost scope, or to the garbage collector. One handle has one wrapper. */
export function wrap(handle: Handle): Tensor {
  const tensor = new Tensor(handle);
  if (!addMade(handle)) tensor.watch();
  return tensor;
}

type Dims = number | readonly number[];
type Operand = Tensor | number;

/**
 * An n-dimensional array in libtorch. Made inside a `scope()` it lives until the scope ends; made outside, until
 * `free()`, the end of a `using` block or, as a safety net, the garbage collector. Methods ending in `_` write in place.
 */
export class Tensor implements Disposable {
  constructor(readonly handle: Handle) {}

  /** Registers the garbage collector as the safety net. */
  watch(): void {
    collected.register(this, this.handle);
  }

  get shape(): number[] {
    return native.shape(this.handle);
  }
  get numel(): number {
    return this.shape.reduce((product, size) => product * size, 1);
  }
  get dtype(): DType {
    return dtypeName(native.dtype(this.handle));
  }
  get device(): Device {
    return native.device(this.handle) as Device;
  }
  get requiresGrad(): boolean {
    return native.requiresGrad(this.handle);
  }
  get isLive(): boolean {
    return native.isLive(this.handle);
  }

  /** Frees the memory now. Freeing twice is harmless; using a freed tensor is an error. */
  free(): void {
    freeHandle(this.handle);
  }
  [Symbol.dispose](): void {
    this.free();
  }

  /** The only element as a number. int64 beyond 2^53 is refused: read such tensors with `toArray()`. */
  item(): number {
    const value = call(op.item, this.handle);
    if (typeof value === 'bigint') {
      throw new UserError(
        `Tensor.item: ${value} is beyond 2^53 and would lose digits — use toArray(), which gives BigInt.`,
      );
    }
    return Number(value); // true is 1
  }
  /** A flat row-major copy. float16 and bfloat16 come as Float32Array, bool as Uint8Array of 0 and 1. */
  toArray(): Float32Array | Float64Array | BigInt64Array | Int32Array | Uint8Array {
    switch (this.dtype) {
      case 'float64':
        return new Float64Array(this.bytes().buffer);
      case 'float32':
        return new Float32Array(this.bytes().buffer);
      case 'int64':
        return new BigInt64Array(this.bytes().buffer);
      case 'int32':
        return new Int32Array(this.bytes().buffer);
      case 'uint8':
      case 'bool':
        return this.bytes();
      default: {
        const wide = this.to('float32');
        const array = new Float32Array(wide.bytes().buffer);
        wide.free();
        return array;
      }
    }
  }
  /** A flat row-major copy as JavaScript numbers. */
  toNumbers(): number[] {
    return Array.from(this.toArray() as ArrayLike<number | bigint>, Number);
  }
  /** A copy of the raw bytes, row-major. */
  bytes(): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.numel * itemSize[this.dtype]);
    using here = this.device === 'cpu' ? undefined : this.to('cpu');
    using dense = (here ?? this).contiguous();
    native.copyBytes(dense.handle, bytes, false);
    return bytes;
  }

  /** Marks a leaf as one that gradients are wanted for. */
  requiresGrad_(on = true): this {
    call(op.requiresGrad_, this.handle, on);
    return this;
  }
  /** The same values, cut from the graph; shares memory. */
  detach(): Tensor {
    return wrap(call(op.detach, this.handle));
  }
  clone(): Tensor {
    return wrap(call(op.clone, this.handle));
  }
  /** Elements between neighbours along each dimension; views, and what kernels return, need not be row-major. */
  strides(): number[] {
    return this.shape.map((_, dim) => call(op.stride, this.handle, dim) as number);
  }
  /** Whether the elements lie row by row without gaps: what kernels that walk raw memory rely on. */
  isContiguous(): boolean {
    const { shape } = this;
    const strides = this.strides();
    let expected = 1;
    for (let dim = shape.length - 1; dim >= 0; dim--) {
      if (shape[dim] !== 1 && strides[dim] !== expected) return shape.includes(0);
      expected *= shape[dim] as number;
    }
    return true;
  }
  contiguous(): Tensor {
    return wrap(call(op.contiguous, this.handle));
  }
  /** Converts dtype, device or both. The result may share memory when nothing changes. */
  to(target: DType | Device | { dtype?: DType; device?: Device }): Tensor {
    const { dtype, device } =
      typeof target === 'object'
        ? target
        : isDType(target)
          ? { dtype: target, device: undefined }
          : { dtype: undefined, device: target };
    return wrap(
      call(
        op.to,
        this.handle,
        dtype === undefined ? null : dtypeNumber(dtype),
        null,
        device === undefined ? null : deviceName(device),
      ),
    );
  }

  // elementwise; `alpha` multiplies the other operand
  add(other: Operand, alpha?: number): Tensor {
    if (typeof other === 'number') return wrap(call(op.addScalar, this.handle, other, alpha));
    // an argument less is a conversion less
    if (alpha === undefined) return wrap(call(op.addTensor, this.handle, other.handle));
    return wrap(call(op.addTensor, this.handle, other.handle, alpha));
  }
  sub(other: Operand, alpha?: number): Tensor {
    if (typeof other === 'number') return wrap(call(op.subScalar, this.handle, other, alpha));
    // an argument less is a conversion less
    if (alpha === undefined) return wrap(call(op.subTensor, this.handle, other.handle));
    return wrap(call(op.subTensor, this.handle, other.handle, alpha));
  }
  mul(other: Operand): Tensor {
    return wrap(
      typeof other === 'number'
        ? call(op.mulScalar, this.handle, other)
        : call(op.mulTensor, this.handle, other.handle),
    );
  }
  div(other: Operand): Tensor {
    return wrap(
      typeof other === 'number'
        ? call(op.divScalar, this.handle, other)
        : call(op.divTensor, this.handle, other.handle),
    );
  }
  pow(exponent: Operand): Tensor {
    return wrap(
      typeof exponent === 'number'
        ? call(op.powScalar, this.handle, exponent)
        : call(op.powTensor, this.handle, exponent.handle),
    );
  }
  maximum(other: Tensor): Tensor {
    return wrap(call(op.maximum, this.handle, other.handle));
  }
  minimum(other: Tensor): Tensor {
    return wrap(call(op.minimum, this.handle, other.handle));
  }
  neg(): Tensor {
    return wrap(call(op.neg, this.handle));
  }
  abs(): Tensor {
    return wrap(call(op.abs, this.handle));
  }
  exp(): Tensor {
    return wrap(call(op.exp, this.handle));
  }
  log(): Tensor {
    return wrap(call(op.log, this.handle));
  }
  sqrt(): Tensor {
    return wrap(call(op.sqrt, this.handle));
  }
  rsqrt(): Tensor {
    return wrap(call(op.rsqrt, this.handle));
  }
  square(): Tensor {
    return wrap(call(op.square, this.handle));
  }
  sin(): Tensor {
    return wrap(call(op.sin, this.handle));
  }
  cos(): Tensor {
    return wrap(call(op.cos, this.handle));
  }
  tanh(): Tensor {
    return wrap(call(op.tanh, this.handle));
  }
  sigmoid(): Tensor {
    return wrap(call(op.sigmoid, this.handle));
  }
  relu(): Tensor {
    return wrap(call(op.relu, this.handle));
  }
  silu(): Tensor {
    return wrap(call(op.silu, this.handle));
  }
  gelu(approximate: 'none' | 'tanh' = 'none'): Tensor {
    return wrap(call(op.gelu, this.handle, approximate));
  }
  round(): Tensor {
    return wrap(call(op.round, this.handle));
  }
  floor(): Tensor {
    return wrap(call(op.floor, this.handle));
  }
  clamp(min?: number, max?: number): Tensor {
    return wrap(call(op.clamp, this.handle, min, max));
  }
  eq(other: Operand): Tensor {
    return wrap(
      typeof other === 'number'
        ? call(op.eqScalar, this.handle, other)
        : call(op.eqTensor, this.handle, other.handle),
    );
  }
  ne(other: Operand): Tensor {
    return wrap(
      typeof other === 'number'
        ? call(op.neScalar, this.handle, other)
        : call(op.neTensor, this.handle, other.handle),
    );
  }
  lt(other: Operand): Tensor {
    return wrap(
      typeof other === 'number'
        ? call(op.ltScalar, this.handle, other)
        : call(op.ltTensor, this.handle, other.handle),
    );
  }
  le(other: Operand): Tensor {
    return wrap(
      typeof other === 'number'
        ? call(op.leScalar, this.handle, other)
        : call(op.leTensor, this.handle, other.handle),
    );
  }
  gt(other: Operand): Tensor {
    return wrap(
      typeof other === 'number'
        ? call(op.gtScalar, this.handle, other)
        : call(op.gtTensor, this.handle, other.handle),
    );
  }
  ge(other: Operand): Tensor {
    return wrap(
      typeof other === 'number'
        ? call(op.geScalar, this.handle, other)
        : call(op.geTensor, this.handle, other.handle),
    );
  }
  logicalAnd(other: Tensor): Tensor {
    return wrap(call(op.logicalAnd, this.handle, other.handle));
  }
  logicalNot(): Tensor {
    return wrap(call(op.logicalNot, this.handle));
  }
  isfinite(): Tensor {
    return wrap(call(op.isfinite, this.handle));
  }

  // reductions and products; `dims` left out means all
  matmul(other: Tensor): Tensor {
    return wrap(call(op.matmul, this.handle, other.handle));
  }
  sum(dims?: Dims, keepdim = false): Tensor {
    return wrap(
      dims === undefined ? call(op.sum, this.handle) : call(op.sumDims, this.handle, dims, keepdim),
    );
  }
  mean(dims?: Dims, keepdim = false): Tensor {
    return wrap(
      dims === undefined ? call(op.mean, this.handle) : call(op.meanDims, this.handle, dims, keepdim),
    );
  }
  /** `correction` 1 is the sample variance (Bessel), 0 the population's. */
  variance(dims?: Dims, { correction = 1, keepdim = false } = {}): Tensor {
    return wrap(call(op.variance, this.handle, dims, correction, keepdim));
  }
  std(dims?: Dims, options: { correction?: number; keepdim?: boolean } = {}): Tensor {
    const variance = this.variance(dims, options);
    const std = variance.sqrt();
    if (!variance.requiresGrad) variance.free();
    return std;
  }
  amax(dims: Dims = [], keepdim = false): Tensor {
    return wrap(call(op.amax, this.handle, dims, keepdim));
  }
  amin(dims: Dims = [], keepdim = false): Tensor {
    return wrap(call(op.amin, this.handle, dims, keepdim));
  }
  argmax(dim?: number, keepdim = false): Tensor {
    return wrap(call(op.argmax, this.handle, dim, keepdim));
  }
  softmax(dim: number): Tensor {
    return wrap(call(op.softmax, this.handle, dim));
  }
  logSoftmax(dim: number): Tensor {
    return wrap(call(op.logSoftmax, this.handle, dim));
  }
  logsumexp(dims: Dims, keepdim = false): Tensor {
    return wrap(call(op.logsumexp, this.handle, dims, keepdim));
  }
  cumsum(dim: number): Tensor {
    return wrap(call(op.cumsum, this.handle, dim));
  }
  /** Euclidean norm of all elements. */
  norm(): Tensor {
    return wrap(call(op.norm, this.handle));
  }

  // shapes
  reshape(shape: readonly number[]): Tensor {
    return wrap(call(op.reshape, this.handle, shape));
  }
  permute(dims: readonly number[]): Tensor {
    return wrap(call(op.permute, this.handle, dims));
  }
  transpose(a: number, b: number): Tensor {
    return wrap(call(op.transpose, this.handle, a, b));
  }
  unsqueeze(dim: number): Tensor {
    return wrap(call(op.unsqueeze, this.handle, dim));
  }
  squeeze(dim: number): Tensor {
    return wrap(call(op.squeeze, this.handle, dim));
  }
  /** -1 keeps a dimension as it is. */
  expand(shape: readonly number[]): Tensor {
    return wrap(call(op.expand, this.handle, shape));
  }
  flatten(startDim = 0, endDim = -1): Tensor {
    return wrap(call(op.flatten, this.handle, startDim, endDim));
  }
  /** A view of `length` entries from `start` along `dim`. */
  narrow(dim: number, start: number, length: number): Tensor {
    return wrap(call(op.narrow, this.handle, dim, start, length));
  }
  /** A view of one entry along `dim`, which disappears. */
  select(dim: number, index: number): Tensor {
    return wrap(call(op.select, this.handle, dim, index));
  }
  indexSelect(dim: number, index: Tensor): Tensor {
    return wrap(call(op.indexSelect, this.handle, dim, index.handle));
  }
  gather(dim: number, index: Tensor): Tensor {
    return wrap(call(op.gather, this.handle, dim, index.handle));
  }
  chunk(count: number, dim = 0): Tensor[] {
    return call(op.chunk, this.handle, count, dim).map(wrap);
  }
  split(sizes: readonly number[], dim = 0): Tensor[] {
    return call(op.splitSizes, this.handle, sizes, dim).map(wrap);
  }

  // in place
  copy_(source: Tensor): this {
    call(op.copy_, this.handle, source.handle);
    return this;
  }
  add_(other: Operand, alpha?: number): this {
    if (typeof other === 'number') call(op.addScalar_, this.handle, other, alpha);
    else call(op.addTensor_, this.handle, other.handle, alpha);
    return this;
  }
  mul_(other: Operand): this {
    if (typeof other === 'number') call(op.mulScalar_, this.handle, other);
    else call(op.mulTensor_, this.handle, other.handle);
    return this;
  }
  div_(other: Operand): this {
    if (typeof other === 'number') call(op.divScalar_, this.handle, other);
    else call(op.divTensor_, this.handle, other.handle);
    return this;
  }
  /** this + weight * (target - this) */
  lerp_(target: Tensor, weight: number): this {
    call(op.lerp_, this.handle, target.handle, weight);
    return this;
  }
  clamp_(min?: number, max?: number): this {
    call(op.clamp_, this.handle, min, max);
    return this;
  }
  zero_(): this {
    call(op.zero_, this.handle);
    return this;
  }
  fill_(value: number): this {
    call(op.fill_, this.handle, value);
    return this;
  }

  toString(): string {
    if (!this.isLive) return 'Tensor(freed)';
    return `Tensor(${dtypeLabel(native.dtype(this.handle))}[${this.shape.join(', ')}], ${this.device})`;
  }
}
