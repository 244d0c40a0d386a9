import { deviceName } from './device.js';
import { type DType, dtypeNumber, isDType } from './dtype.js';
import { UserError } from './errors.js';
import { type Handle, native } from './native.js';
import { Tensor, wrap } from './tensor.js';

export type OperatorResult = Tensor | number | bigint | string | boolean | undefined | OperatorResult[];

/** Operators that end the process inside libtorch instead of raising an error, with the call that showed it. */
export const refusedOperators: Readonly<Record<string, string>> = {};

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
  const number = native.resolve(name, overload);
  const kinds = native.schema(number).map((argument) => argument.split(/[? ]/)[0] as string);
  const results = native.results(number);
  return (...args) => {
    const inputs: Tensor[] = [];
    const converted = args.map((value, i) => toNative(full, kinds[i] ?? '?', value, inputs));
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
  if (kind === 'ScalarType' && typeof value === 'string' && isDType(value))
    return dtypeNumber(value as DType);
  if (kind === 'Device' && typeof value === 'string') return deviceName(value as 'cpu');
  return value;
}

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
