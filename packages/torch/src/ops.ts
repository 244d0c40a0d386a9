import { deviceName } from './device.js';
import { type DType, dtypeNumber } from './dtype.js';
import { shown, UserError } from './errors.js';
import { type Handle, native } from './native.js';
import { schemaOf } from './schema.js';
import { Tensor, wrap } from './tensor.js';

export type OperatorResult = Tensor | number | bigint | string | boolean | undefined | OperatorResult[];

/**
 * Operators that end the process inside libtorch instead of raising an error, with the call that showed it. Found by
 * random calls of all operators (as in fuzz/); nearly all are internal ones, whose public callers check first.
 */
export const refusedOperators: Readonly<Record<string, string>> = {
  _cholesky_solve_helper: 'heap corruption with (float32[0, 3], float32[2, 3, 4], true); use cholesky_solve',
  _convert_indices_from_coo_to_csr: 'segmentation fault with (int64[6], -1, true)',
  _convert_indices_from_csr_to_coo:
    'segmentation fault with (uint8[1, 2, 4, 4], bool[1, 2, 4, 4], false, true)',
  _dyn_quant_matmul_4bit: 'floating point exception with (float32[0], float32[2, 1, 3, 3], 0, 2, 2)',
  _dyn_quant_pack_4bit_weight:
    'floating point exception with (uint8[2, 3, 4], float64[], float32[0], 0, 1, 0)',
  _embedding_bag:
    'segmentation fault without offsets: (float32[3, 2], int64[1], int64[0], false, 0, false, undefined, false, 7); use embedding',
  _embedding_bag_forward_only: 'the kernel of _embedding_bag; use embedding',
  _fft_r2c: 'segmentation fault with (float32[4, 4], [-2], -3, true); use fft_rfft',
  _foreach_copy: 'segmentation fault with lists of different lengths; use _foreach_copy_',
  _linalg_eigvals: 'heap corruption with full([2, 2], Infinity); use linalg_eig',
  _native_batch_norm_legit:
    'segmentation fault outside of training with a weight of another size; use batch_norm',
  _new_zeros_with_same_feature_meta: 'segmentation fault with (bfloat16[4], uint8[2, 3, 4], -3)',
  _nnpack_spatial_convolution: 'segmentation fault with tensors of less than four dimensions; use conv2d',
  _remove_batch_dim: 'free of an invalid pointer with (float32[2, 3, 4], 16, 4, -3)',
  _reshape_alias_copy: 'segmentation fault with (float32[0], 2, 1)',
  _sobol_engine_initialize_state_: 'heap corruption with (int64[3, 2], -1)',
  _stack: 'segmentation fault with an empty list; use stack',
  _weight_norm: 'segmentation fault with (float32[2, 1, 3, 3], float32[0, 3], 0)',
  _weight_norm_interface: 'segmentation fault with (float32[0], float32[0], 0)',
  batch_norm_update_stats: 'segmentation fault with (float32[3, 2], null, float32[0], Infinity)',
  choose_qparams_optimized: 'heap corruption with (float32[64], 3, -1, -3.5e-323, 2)',
  embedding_bag:
    'segmentation fault without offsets: (float32[3, 2], int64[1], int64[0], false, 2); use embedding',
  linalg_eigvals: 'double free with full([2, 2], Infinity); use linalg_eig, which refuses infinities',
  native_batch_norm: 'segmentation fault outside of training without running statistics; use batch_norm',
  range: 'floating point exception with range(-1, -2.7e-194, 1.1e-125); use arange',
};

/** Arguments with which an operator never ends: the power is halved by its absolute value, and -2^63 has none. */
const endless: Readonly<Record<string, (args: readonly unknown[]) => boolean>> = {
  linalg_matrix_power: ([, power]) => power === -(2n ** 63n),
  matrix_power: ([, power]) => power === -(2n ** 63n),
};

/** The kernels of fused optimisers walk raw memory of CPUs: with other strides they step an element by another one's gradient. */
const walksMemory = /^_fused_(adam|adamw|adagrad|sgd)_?$/;

/** Changing a tensor's storage or metadata under its other handles is not supported. */
const reshaping = new Set([
  'resize_',
  'resize_as_',
  'set_',
  'set_data',
  'squeeze_',
  'unsqueeze_',
  't_',
  'transpose_',
  'swapaxes_',
  'swapdims_',
  'as_strided_',
]);

/**
 * Any operator of libtorch by its ATen name: arguments in the schema's order, `undefined` for a default.
 * Dtypes and devices are given by name.
 *
 * @example const roll = ops.aten('roll'); roll(x, [1], [0])
 */
export function aten(name: string, overload = ''): (...args: unknown[]) => OperatorResult {
  const full = overload === '' ? name : `${name}.${overload}`;
  const evidence = refusedOperators[full] ?? refusedOperators[name];
  if (evidence !== undefined) {
    throw new UserError(`ops.aten: ${full} is refused — it ends the process inside libtorch (${evidence}).`);
  }
  if (reshaping.has(name)) {
    throw new UserError(
      `ops.aten: ${full} is refused — it changes a tensor's layout in place. Use the operator without the underscore.`,
    );
  }
  if (name.endsWith('_backward')) {
    throw new UserError(
      `ops.aten: ${full} is refused — libtorch calls it with checked arguments only, and with others it reads outside of its tensors. Use grad().`,
    );
  }
  const number = native.resolve(name, overload);
  const schema = schemaOf(number);
  if (!name.endsWith('_') && schema.arguments.some(({ written }) => written)) {
    throw new UserError(
      `ops.aten: ${full} is refused — it resizes and writes an output that is given to it. Use the overload that returns its result.`,
    );
  }
  const kinds = schema.arguments.map(({ kind }) => kind);
  const { results } = schema;
  const neverEnds = Object.hasOwn(endless, name) ? endless[name] : undefined;
  return (...args) => {
    if (neverEnds?.(args)) {
      throw new UserError(
        `ops.aten: ${full} is refused with ${args.slice(1).join(', ')} — libtorch would never end.`,
      );
    }
    const inputs: Tensor[] = [];
    const converted = args.map((value, i) => toNative(full, kinds[i] ?? '?', value, inputs));
    const strided = walksMemory.test(name) ? inputs.find((input) => !input.isContiguous()) : undefined;
    if (strided !== undefined) {
      throw new UserError(
        `ops.aten: ${full} is refused with a tensor of shape [${strided.shape}] and strides [${strided.strides()}] — its kernel does not look at strides. Give its contiguous().`,
      );
    }
    const value = native.call(number, ...converted);
    if (results.length === 1) return fromNative(results[0] as string, value, inputs);
    return results.map((kind, i) => fromNative(kind, value[i], inputs));
  };
}

function toNative(where: string, kind: string, value: unknown, inputs: Tensor[]): unknown {
  if (value === undefined || value === null) return value;
  if (kind === 'Tensor') {
    if (!(value instanceof Tensor)) throw new UserError(`${where}: expected a Tensor, got ${typeof value}.`);
    inputs.push(value);
    return value.handle;
  }
  if (kind.startsWith('Tensor')) {
    if (!Array.isArray(value))
      throw new UserError(`${where}: expected an array of Tensors, got ${typeof value}.`);
    return value.map((item) => toNative(where, 'Tensor', item, inputs));
  }
  if (value instanceof Tensor || (Array.isArray(value) && value.some((item) => item instanceof Tensor))) {
    throw new UserError(`${where}: expected ${kind}, got a Tensor — use item() for a number.`);
  }
  if (kind === 'ScalarType') return dtypeNumber(value as DType);
  if (kind === 'Device' && typeof value === 'string') return deviceName(value as 'cpu');
  const choices = Object.hasOwn(numbered, kind) ? numbered[kind] : undefined;
  if (choices !== undefined && !choices.includes(value as number))
    throw new UserError(
      `${where}: expected one of ${choices.join(', ')} for the ${kind}, got ${shown(value)}.`,
    );
  return value;
}

/** Kinds whose numbers libtorch does not check: strided; contiguous, preserve, channels last, channels last 3d. */
const numbered: Readonly<Record<string, readonly number[]>> = { Layout: [0], MemoryFormat: [0, 1, 2, 3] };

/** A number is a handle only where the schema says Tensor. A result that is one of the operands keeps its wrapper. */
function fromNative(kind: string, value: unknown, inputs: Tensor[]): OperatorResult {
  if (value === undefined) return undefined;
  if (kind === 'Tensor') return inputs.find((input) => input.handle === value) ?? wrap(value as Handle);
  if (kind === 'Tensor[]') return (value as Handle[]).map((item) => fromNative('Tensor', item, inputs));
  return value as OperatorResult;
}

/** Names of all operators in the linked libtorch, `name.overload`, sorted. */
export function operatorNames(): string[] {
  return native
    .listOperators()
    .map((name) => name.replace('aten::', ''))
    .sort();
}
