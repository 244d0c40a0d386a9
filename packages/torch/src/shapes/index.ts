/**
 * What a program would need, asked in a process with `RLDF_TORCH=shapes`, where tensors have shapes but no numbers. Memory
 * is counted as with libtorch: `allocatedBytes`, `peakBytes`, `resetPeakBytes`.
 */

import { InternalError } from '../errors.js';
import { native } from '../native.js';
import type { ShapesNative, Work } from './native.js';

export { setKernels } from './products.js';

export type { Work };

/** Whether this process computes with shapes only. */
export const active = 'takeWork' in native;

function shapes(): ShapesNative {
  if (active) return native as ShapesNative;
  throw new InternalError('shapes: this process computes with libtorch — set RLDF_TORCH=shapes.');
}

/** The most bytes with which a backward pass began, since the last `resetPeakBytes`. */
export function graphPeakBytes(): number {
  return shapes().graphPeak();
}

/** All operators since the last call, each shape once, with how often and how much. */
export function takeWork(): Work[] {
  return shapes().takeWork();
}
