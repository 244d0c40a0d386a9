import { UserError } from './errors.js';

export type DType = 'float64' | 'float32' | 'bfloat16' | 'float16' | 'int64' | 'int32' | 'uint8' | 'bool';

/** c10::ScalarType numbers. */
const numbers: Record<DType, number> = {
  uint8: 0,
  int32: 3,
  int64: 4,
  float16: 5,
  float32: 6,
  float64: 7,
  bool: 11,
  bfloat16: 15,
};

const names = new Map(Object.entries(numbers).map(([name, number]) => [number, name as DType]));

/** Bytes of one element. */
export const itemSize: Record<DType, number> = {
  uint8: 1,
  bool: 1,
  float16: 2,
  bfloat16: 2,
  int32: 4,
  float32: 4,
  int64: 8,
  float64: 8,
};

export function dtypeNumber(dtype: DType): number {
  const number = typeof dtype === 'string' && isDType(dtype) ? numbers[dtype] : undefined;
  if (number === undefined) {
    throw new UserError(
      `dtype: ${JSON.stringify(dtype)} is unknown — one of ${Object.keys(numbers).join(', ')}.`,
    );
  }
  return number;
}

export function dtypeName(number: number): DType {
  const name = names.get(number);
  if (name === undefined) {
    throw new UserError(
      `dtype: libtorch type number ${number} is not supported — convert it inside libtorch first.`,
    );
  }
  return name;
}

/** For messages: also says something about types that this package does not handle. */
export function dtypeLabel(number: number): string {
  return names.get(number) ?? `libtorch type ${number}`;
}

export function isDType(value: string): value is DType {
  return Object.hasOwn(numbers, value);
}

/** Half as wide as float32: numbers that are stored so, but summed and stepped in float32. */
export const isHalf = (dtype: DType): boolean => dtype === 'float16' || dtype === 'bfloat16';

export function isFloating(dtype: DType): boolean {
  return dtype.includes('float');
}
