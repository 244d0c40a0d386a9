// How far two lists of numbers are apart.

/** Largest difference of two lists; infinite when their lengths differ, NaN when a number is. */
export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length || a.length === 0) return Number.POSITIVE_INFINITY;
  let largest = 0;
  for (let i = 0; i < a.length; i++) largest = Math.max(largest, Math.abs(a[i]! - b[i]!));
  return largest;
}

/** Largest difference as a share of the largest number of the reference. */
export function relativeDifference(ours: ArrayLike<number>, reference: ArrayLike<number>): number {
  let largest = 0;
  for (let i = 0; i < reference.length; i++) largest = Math.max(largest, Math.abs(reference[i]!));
  return largestDifference(ours, reference) / largest;
}
