/** A search in pictures: its way as a strip, its Q values as a map, its finals as a sheet. */

import type { Picture } from '@rldf/common/base/picture';
import { contactSheet, type GridCell } from '@rldf/common/drawing/grid';
import { escapeXml, fontFamily, renderSvg } from '@rldf/common/drawing/svg';
import { greedyAction } from '../agents/tabular.js';
import type { GridWorld } from '../pictures/grid-world.js';
import type { Meanings } from '../world/encoding.js';

/** Long ways are shown by at most this many pictures, evenly chosen; both ends are among them. */
const longestStrip = 24;

export interface StripStep {
  picture: Picture;
  /** What this step changed, such as "Scene: grass". */
  label: string;
  reward: number;
  distance: number;
}

/** Indices of the pictures of a way that its strip shows. */
export function shownSteps(length: number): number[] {
  if (length <= longestStrip) return Array.from({ length }, (_, i) => i);
  return Array.from({ length: longestStrip }, (_, i) => Math.round((i * (length - 1)) / (longestStrip - 1)));
}

/** The axes in which a state differs from the one shown before it, with their new meanings. */
export function changeLabel(before: Meanings | undefined, after: Meanings): string {
  const changed = Object.entries(after).filter(([axis, meaning]) => before?.[axis] !== meaning);
  return before === undefined || changed.length === 0
    ? 'the start'
    : changed.map(([axis, meaning]) => `${axis}: ${meaning}`).join(', ');
}

/** The input picture, then each step with its reward and its distance to the goal. */
export async function trajectoryStrip(
  input: Picture,
  steps: readonly StripStep[],
  title: string,
): Promise<Buffer> {
  const cells: GridCell[] = [
    { pictures: [input], label: 'the input picture', detail: 'the goal' },
    ...steps.map(({ picture, label, reward, distance }) => ({
      pictures: [picture],
      label,
      detail: `reward ${reward.toFixed(2)}, ${distance} from goal`,
    })),
  ];
  return contactSheet(cells, { title, columns: Math.min(cells.length, 6), pictureSize: 192 });
}

const cell = 46;
const colours = ['#f7fbff', '#c6dbef', '#6baed6', '#2171b5', '#08306b'] as const;

/**
 * max_a Q(v, a) over the two longest axes, the others held at the goal's values, with the greedy action of each state:
 * an arrow along the two axes, a dot for a move along another.
 * @param q [states x actions]; -Infinity where an action leaves the grid
 */
export async function valueMap(world: GridWorld, q: readonly number[], title: string): Promise<Buffer> {
  const { encoding } = world;
  const goal = encoding.stateOf(world.goal);
  const byLength = encoding.axes.map((_, i) => i).sort((a, b) => lengthOf(b) - lengthOf(a) || a - b);
  function lengthOf(axis: number): number {
    return encoding.axes[axis]!.order.length;
  }
  const [across, down = across] = byLength as [number, number?];
  const rows = down === across ? 1 : lengthOf(down);
  const stateAt = (x: number, y: number) => {
    const state = [...goal];
    if (down !== across) state[down] = y;
    state[across] = x;
    return encoding.indexOf(state);
  };
  const cells = Array.from({ length: rows }, (_, y) =>
    Array.from({ length: lengthOf(across) }, (__, x) => {
      const state = stateAt(x, y);
      const action = greedyAction(world, q, state);
      return { x, y, state, action, value: q[state * world.actions + action]! };
    }),
  ).flat();
  const values = cells.filter(({ state }) => state !== world.goal).map(({ value }) => value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const ranks = [...new Set(values)].sort((a, b) => a - b); // near the goal values are many times those elsewhere
  const [left, top] = [150, 96];
  const width = left + lengthOf(across) * cell + 30;
  const height = top + rows * cell + 56;
  const text = (x: number, y: number, size: number, content: string, more = '') =>
    `<text x="${x}" y="${y}" font-size="${size}" ${more}>${escapeXml(content)}</text>`;
  const squares = cells.map(({ x, y, state, action, value }) => {
    const share = ranks.length < 2 ? 0.5 : ranks.indexOf(value) / (ranks.length - 1);
    const step = Math.min(colours.length - 1, Math.floor(share * colours.length));
    const [px, py] = [left + x * cell, top + y * cell];
    const isGoal = state === world.goal;
    const ink = step >= 3 && !isGoal ? '#fff' : '#222';
    const axis = action >> 1;
    const up = action % 2 === 1;
    const arrow = axis === across ? (up ? '→' : '←') : axis === down ? (up ? '↓' : '↑') : '•';
    return [
      `<rect x="${px}" y="${py}" width="${cell - 2}" height="${cell - 2}" fill="${isGoal ? '#fde68a' : colours[step]}" stroke="#ccc"/>`,
      isGoal
        ? text(px + cell / 2, py + 28, 12, 'goal', 'text-anchor="middle"')
        : text(px + cell / 2, py + 20, 14, arrow, `text-anchor="middle" fill="${ink}"`) +
          text(px + cell / 2, py + 37, 10, value.toFixed(1), `text-anchor="middle" fill="${ink}"`),
    ].join('');
  });
  const named = (axis: number) =>
    encoding.axes[axis]!.order.map((one) => encoding.axes[axis]!.meanings[one]!);
  const columns = named(across).map((name, x) =>
    text(left + x * cell + cell / 2, top - 8, 11, name.slice(0, 8), 'text-anchor="middle"'),
  );
  const lines = (down === across ? [] : named(down)).map((name, y) =>
    text(left - 8, top + y * cell + 27, 11, name.slice(0, 16), 'text-anchor="end"'),
  );
  const held = encoding.axes
    .filter((_, i) => i !== across && i !== down)
    .map(({ name }) => `${name} ${encoding.meaningsOf(goal)[name]}`);
  const svg = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${Math.max(width, 460)}" height="${height}" font-family="${fontFamily}" fill="#222">`,
    '<rect width="100%" height="100%" fill="#fff"/>',
    text(16, 28, 16, title),
    text(
      16,
      50,
      11,
      `largest Q of each state and its action; ${held.length === 0 ? 'all axes shown' : `held: ${held.join(', ')}`}`,
    ),
    ...columns,
    ...lines,
    ...squares,
    text(left, height - 22, 11, `${low.toFixed(1)} (light) to ${high.toFixed(1)} (dark), coloured by rank`),
    '</svg>',
  ];
  return renderSvg(svg.join(''));
}
