import type { Device, Tensor } from '@rldf/torch';

/** One line of what a check found. */
export interface DeviceRow {
  check: string;
  what: string;
  values: Record<string, number | string>;
  /** Why the check failed, in full. */
  problem?: string;
}

export interface CheckOptions {
  device: Device;
  /** As little as shows that the check runs. */
  smoke: boolean;
}

/** Rows come as they are found. */
export type Found = AsyncGenerator<Omit<DeviceRow, 'check'>>;

/** How far a list of numbers is from the one that it should be. */
export function differences(found: ArrayLike<number>, wanted: ArrayLike<number>) {
  if (found.length !== wanted.length) throw new Error(`${found.length} numbers instead of ${wanted.length}`);
  let [largest, difference, norm, equal] = [0, 0, 0, 0];
  for (let i = 0; i < wanted.length; i++) {
    const [a, b] = [found[i] as number, wanted[i] as number];
    if (!Number.isFinite(a)) throw new Error(`number ${i} is ${a}`);
    largest = Math.max(largest, Math.abs(a - b));
    difference += (a - b) ** 2;
    norm += b ** 2;
    equal += a === b ? 1 : 0;
  }
  return {
    /** ‖a - b‖ / ‖b‖ */
    relative: norm === 0 ? Math.sqrt(difference) : Math.sqrt(difference / norm),
    largest,
    /** Share of equal ones. */
    equal: wanted.length === 0 ? 1 : equal / wanted.length,
  };
}

/** All numbers of some tensors. */
export const numbersOf = (tensors: readonly Tensor[]): number[] =>
  tensors.flatMap((tensor) => tensor.toNumbers());

/** Runs a generator to its end and gives what it returns. */
export async function finish<T>(generator: AsyncGenerator<unknown, T>): Promise<T> {
  for (let next = await generator.next(); ; next = await generator.next()) if (next.done) return next.value;
}
