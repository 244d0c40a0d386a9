/** Several runs in one picture: bands over those that differ in their seed alone, and in what the others differ. */

import type { CompareAnswer } from './api.js';
import type { Catalogue } from './catalogue.js';
import { thinned } from './series.js';

export async function compare(
  catalogue: Catalogue,
  ids: readonly string[],
  names: readonly string[],
  points: number,
): Promise<CompareAnswer> {
  const runs = await Promise.all(
    ids.map(async (id) => ({
      row: await catalogue.row(id),
      recipe: await catalogue.recipe(id),
      columns: await catalogue.columns(id),
    })),
  );
  const groups = new Map<string, typeof runs>();
  for (const run of runs) groups.set(run.row.group, [...(groups.get(run.row.group) ?? []), run]);
  return {
    groups: [...groups].map(([group, members]) => ({
      group,
      label:
        members.length === 1
          ? (members[0] as (typeof runs)[number]).row.name
          : labelOf(members.map(({ row }) => row.name)),
      runs: members.map(({ row }) => row.id),
      series: Object.fromEntries(
        names.flatMap((name) => {
          const found = members.flatMap(({ columns }) => columns.column(name) ?? []);
          return found.length === 0 ? [] : [[name, band(found, points)]];
        }),
      ),
    })),
    differences: differences(runs.map(({ row, recipe }) => ({ id: row.id, recipe: recipe.value }))),
  };
}

/** What the names begin with alike, or the first with how many more there are. */
function labelOf(names: readonly string[]): string {
  const [first = '', ...others] = names;
  let length = first.length;
  for (const other of others) while (length > 0 && !other.startsWith(first.slice(0, length))) length--;
  const common = first.slice(0, length).replace(/[-_.~ ]+$/, '');
  return common.length >= 3 ? `${common} (${names.length} runs)` : `${first} and ${others.length} more`;
}

/** Mean, least and greatest over runs at the steps that any of them has. */
export function band(
  columns: readonly { steps: readonly number[]; values: readonly number[] }[],
  points: number,
): CompareAnswer['groups'][number]['series'][string] {
  const byStep = new Map<number, number[]>();
  for (const { steps, values } of columns) {
    const { steps: few, values: thin } = thinned({ steps: [...steps], values: [...values] }, points);
    few.forEach((step, i) => {
      const value = thin[i];
      const here = byStep.get(step) ?? [];
      if (value !== null && value !== undefined) here.push(value);
      byStep.set(step, here);
    });
  }
  const steps = [...byStep.keys()].sort((a, b) => a - b);
  const of = (fold: (values: number[]) => number) =>
    steps.map((step) => {
      const values = byStep.get(step) as number[];
      return values.length === 0 ? null : fold(values);
    });
  return {
    steps,
    mean: of((values) => values.reduce((sum, value) => sum + value, 0) / values.length),
    low: of((values) => Math.min(...values)),
    high: of((values) => Math.max(...values)),
    runs: steps.map((step) => (byStep.get(step) as number[]).length),
  };
}

/** Fields in which recipes are not all alike, by dotted path. */
export function differences(
  recipes: readonly { id: string; recipe: Record<string, unknown> }[],
): CompareAnswer['differences'] {
  const flat = recipes.map(({ id, recipe }) => ({ id, fields: new Map(leaves(recipe)) }));
  const paths = [...new Set(flat.flatMap(({ fields }) => [...fields.keys()]))];
  return paths.flatMap((path) => {
    const shown = flat.map(({ fields }) => JSON.stringify(fields.get(path)));
    if (shown.every((one) => one === shown[0])) return [];
    const values = flat.flatMap(({ id, fields }) => (fields.has(path) ? [[id, fields.get(path)]] : []));
    return [{ path, values: Object.fromEntries(values) as Record<string, unknown> }];
  });
}

/** Leaves of a recipe: plain values and lists, by dotted path. */
export function leaves(value: unknown, path: readonly string[] = []): [string, unknown][] {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return [[path.join('.'), value]];
  return Object.entries(value).flatMap(([key, inner]) => leaves(inner, [...path, key]));
}
