/** Several curves of one thing, such as seeds of an arm, as their mean and their range. */

export interface Points {
  at: number[];
  values: (number | null)[];
}

export interface Band {
  at: number[];
  mean: number[];
  low: number[];
  high: number[];
  /** Curves behind each place. */
  curves: number[];
}

/**
 * Mean, least and greatest of the curves at every place that all of them reach: between two of its points a curve is a straight line,
 * and beyond its ends it is unknown. So no curve that begins late or ends early moves the mean by its absence.
 */
export function band(curves: readonly Points[]): Band {
  const known = curves
    .map(({ at, values }) =>
      at.flatMap((x, i) => (values[i] === null ? [] : [{ x, y: values[i] as number }])),
    )
    .filter((points) => points.length > 0);
  const result: Band = { at: [], mean: [], low: [], high: [], curves: [] };
  if (known.length === 0) return result;
  const from = Math.max(...known.map((points) => points[0]!.x));
  const to = Math.min(...known.map((points) => points.at(-1)!.x));
  const places = [...new Set(known.flatMap((points) => points.map(({ x }) => x)))]
    .filter((x) => x >= from && x <= to)
    .sort((a, b) => a - b);
  const next = known.map(() => 0);
  for (const x of places) {
    const values = known.map((points, i) => {
      while (points[next[i]!]!.x < x) next[i]!++;
      const [b, a] = [points[next[i]!]!, points[next[i]! - 1]];
      return b.x === x || a === undefined ? b.y : a.y + ((b.y - a.y) * (x - a.x)) / (b.x - a.x);
    });
    result.at.push(x);
    result.mean.push(values.reduce((sum, value) => sum + value, 0) / values.length);
    result.low.push(Math.min(...values));
    result.high.push(Math.max(...values));
    result.curves.push(values.length);
  }
  return result;
}
