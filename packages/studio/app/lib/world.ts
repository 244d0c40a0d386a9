/** States of a search's world: a grid with an axis for each meaning; a state's index counts with the last axis fastest. */

export interface Axis {
  name: string;
  values: string[];
}

/** @returns a place on each axis */
export function placeOf(state: number, axes: readonly Axis[]): number[] {
  const place = axes.map(() => 0);
  let rest = state;
  for (let i = axes.length - 1; i >= 0; i--) {
    const { length } = axes[i]!.values;
    place[i] = rest % length;
    rest = Math.floor(rest / length);
  }
  return place;
}

export function stateOf(place: readonly number[], axes: readonly Axis[]): number {
  return axes.reduce((state, { values }, i) => state * values.length + place[i]!, 0);
}

/** The states of a plane: rows along one axis, columns along another, all others held where `place` is. */
export function plane(
  place: readonly number[],
  axes: readonly Axis[],
  rows: number,
  columns: number,
): number[][] {
  return axes[rows]!.values.map((_, r) =>
    axes[columns]!.values.map((__, c) =>
      stateOf(
        place.map((at, i) => (i === rows ? r : i === columns ? c : at)),
        axes,
      ),
    ),
  );
}

/** The two longest axes, the longer one for the columns. */
export function longestAxes(axes: readonly Axis[]): { rows: number; columns: number } {
  const order = axes
    .map((_, i) => i)
    .sort((a, b) => axes[b]!.values.length - axes[a]!.values.length || a - b);
  return { columns: order[0] ?? 0, rows: order[1] ?? order[0] ?? 0 };
}
