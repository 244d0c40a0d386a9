/** Finding and ordering runs. */

import type { RunRow } from '../../src/api.js';

export type SortKey = 'name' | 'method' | 'model' | 'change' | 'pictures' | 'progress' | 'changed';

/** Runs with every word of the query in name, method, model, reward, seed or state. */
export function found(rows: readonly RunRow[], query: string): RunRow[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  return rows.filter((row) => {
    const alarm = row.alarm === null ? '' : 'alarm hack watch';
    const text =
      `${row.name} ${row.method} ${row.model} ${row.reward} seed ${row.seed ?? ''} ${row.state} ${alarm}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

/** Ordered by a column; what is not known comes last in either direction, equal ones by name. */
export function sorted(rows: readonly RunRow[], key: SortKey, down: boolean): RunRow[] {
  const cell = (row: RunRow): string | number | null => {
    switch (key) {
      case 'name':
        return row.name;
      case 'method':
        return row.method === '' ? null : row.method;
      case 'model':
        return row.model === '' ? null : row.model;
      case 'change':
        return row.rewardNow === null || row.rewardStart === null ? null : row.rewardNow - row.rewardStart;
      case 'pictures':
        return row.pictures;
      case 'progress':
        return row.steps === null || row.steps === 0 ? null : row.step / row.steps;
      case 'changed':
        return row.changedAt;
    }
  };
  const sign = down ? -1 : 1;
  return [...rows].sort((a, b) => {
    const [x, y] = [cell(a), cell(b)];
    if (x === null || y === null) return x === y ? natural(a.name, b.name) : x === null ? 1 : -1;
    const order = typeof x === 'string' ? natural(x, String(y)) : x - (y as number);
    return sign * order || natural(a.name, b.name);
  });
}

const collator = new Intl.Collator('en', { numeric: true });
const natural = (a: string, b: string): number => collator.compare(a, b);
