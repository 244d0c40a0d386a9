/** Several runs in one report: curves over each other, with bands where runs differ in nothing but their seed. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { jsonText, parseYaml } from '@rldf/common/base/exact';
import { makeFolder, replaceFile } from '@rldf/common/base/files';
import { type Interval, mean, seedInterval } from '@rldf/common/base/stats';
import { type CurvePoint, curveSvg } from '@rldf/common/drawing/curve';
import { htmlFigures, htmlPage, htmlTable } from '@rldf/common/drawing/html';
import { escapeXml, renderSvg } from '@rldf/common/drawing/svg';
import { noiseKey, Random, type Seed } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { type MetricsRow, readMetrics } from '../run/metrics.js';
import type { Run } from '../run/run.js';
import { curveMetrics, type ReportNumbers } from './report.js';

/** A run as it is compared. */
export interface OverlaidRun {
  name: string;
  /** The resolved recipe. */
  recipe: unknown;
  rows: readonly MetricsRow[];
  /** There once the run has finished. */
  report?: ReportNumbers;
}

/** Runs of one recipe with different seeds. */
export interface RunGroup {
  /** In what its recipe differs from the other groups', or the run's name. */
  label: string;
  runs: OverlaidRun[];
  /** Difference of the final comparison over training seeds; none with fewer than two finished runs. */
  difference?: Interval;
}

export interface OverlayNumbers {
  groups: {
    label: string;
    runs: {
      name: string;
      seed: Seed | null;
      before: number | null;
      after: number | null;
      difference: number | null;
    }[];
    /** Over training seeds. */
    difference: { mean: number; ci95: [number, number]; seeds: number } | null;
  }[];
}

const bandNote =
  'A line is the mean over training seeds. Its band is the 95 % interval over seeds (Student’s t below five, else bootstrap); of two runs it is what lies between them.';

/** @throws UserError when fewer than two runs are given */
export async function writeOverlay(runs: readonly Run[], folder: string): Promise<OverlayNumbers> {
  if (runs.length < 2) throw new UserError(`report: ${runs.length} runs to be overlaid — give two or more`);
  const groups = groupRuns(runs.map(readRun));
  const numbers = overlayNumbers(groups);
  makeFolder(folder);
  const write = (name: string, data: string | Uint8Array) => replaceFile(join(folder, name), data);
  const figures = [];
  for (const [name, metric] of Object.entries(curveMetrics)) {
    const byPictures = groups.every((group) =>
      group.runs.every(({ rows }) => rows.every(({ pictures }) => typeof pictures === 'number')),
    );
    const points = groups.flatMap((group) => groupCurve(group, metric, byPictures ? 'pictures' : 'step'));
    if (points.length === 0) continue;
    const svg = await curveSvg(points, {
      title: metric,
      xTitle: byPictures ? 'pictures drawn for training' : 'epoch',
      yTitle: 'reward',
    });
    write(`${name}.svg`, svg);
    write(`${name}.png`, await renderSvg(svg, 1280));
    figures.push({ file: `${name}.svg`, caption: `${metric}. ${bandNote}` });
  }
  write('overlay.json', `${jsonText(numbers, 2)}\n`);
  write('index.html', pageOf(numbers, figures));
  return numbers;
}

function readRun(run: Run): OverlaidRun {
  const file = join(run.reportFolder, 'report.json');
  return {
    name: run.name,
    recipe: parseYaml(readFileSync(run.recipePath, 'utf8')),
    rows: readMetrics(run.metricsPath),
    ...(existsSync(file) ? { report: JSON.parse(readFileSync(file, 'utf8')) as ReportNumbers } : {}),
  };
}

/** Runs whose recipes differ in `seed` and `name` only belong together. */
export function groupRuns(runs: readonly OverlaidRun[]): RunGroup[] {
  const groups = new Map<string, { fields: Map<string, string>; runs: OverlaidRun[] }>();
  for (const run of runs) {
    const fields = fieldsOf(run.recipe);
    for (const path of ['seed', 'name', 'threads']) fields.delete(path);
    const key = JSON.stringify([...fields].sort());
    const group = groups.get(key) ?? { fields, runs: [] };
    group.runs.push(run);
    groups.set(key, group);
  }
  const all = [...groups.values()];
  const paths = new Set(all.flatMap(({ fields }) => [...fields.keys()]));
  const differing = [...paths].filter((path) => new Set(all.map(({ fields }) => fields.get(path))).size > 1);
  const labels = all.map(({ fields, runs: [first] }) => {
    const parts = differing.map((path) => `${path} ${fields.get(path) ?? '-'}`);
    return parts.length > 0 && parts.length <= 3 ? parts.join(', ') : first!.name;
  });
  return all.map(({ runs: own }, index) => {
    const differences = own.flatMap(({ report }) => (report === undefined ? [] : [report.reward.difference]));
    const label =
      labels.indexOf(labels[index]!) === index ? labels[index]! : `${labels[index]} (${own[0]!.name})`;
    if (differences.length < 2) return { label, runs: own };
    const random = new Random(noiseKey(0, 'overlay-bootstrap'));
    return { label, runs: own, difference: seedInterval(differences, { random }) };
  });
}

/** The leaves of a recipe by dotted path. */
function fieldsOf(value: unknown, path = ''): Map<string, string> {
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    return new Map([[path, jsonText(value)]]);
  return new Map(
    Object.entries(value).flatMap(([key, inner]) => [
      ...fieldsOf(inner, path === '' ? key : `${path}.${key}`),
    ]),
  );
}

/** One line of a group: the mean over its runs wherever all of them have a value. */
export function groupCurve({ label, runs }: RunGroup, metric: string, x: 'step' | 'pictures'): CurvePoint[] {
  const byPlace = new Map<number, number[]>();
  for (const { rows } of runs) {
    for (const row of rows) {
      const [place, value] = [row[x], row[metric]];
      if (typeof place === 'number' && typeof value === 'number')
        byPlace.set(place, [...(byPlace.get(place) ?? []), value]);
    }
  }
  return [...byPlace]
    .filter(([, values]) => values.length === runs.length)
    .sort(([a], [b]) => a - b)
    .map(([step, values]): CurvePoint => {
      const band = bandOf(values);
      return { step, value: mean(values), series: label, ...(band === undefined ? {} : { band }) };
    });
}

function bandOf(values: readonly number[]): [number, number] | undefined {
  if (values.length < 2) return undefined;
  if (values.length === 2) return [Math.min(...values), Math.max(...values)];
  return seedInterval(values, { random: new Random(noiseKey(0, 'band-bootstrap')), resamples: 2000 })
    .interval;
}

function overlayNumbers(groups: readonly RunGroup[]): OverlayNumbers {
  return {
    groups: groups.map(({ label, runs, difference }) => ({
      label,
      runs: runs.map(({ name, recipe, report }) => ({
        name,
        seed: (recipe as { seed?: Seed } | null)?.seed ?? null,
        before: report?.reward.before ?? null,
        after: report?.reward.after ?? null,
        difference: report?.reward.difference ?? null,
      })),
      difference:
        difference === undefined
          ? null
          : { mean: difference.mean, ci95: difference.interval, seeds: difference.count },
    })),
  };
}

function pageOf({ groups }: OverlayNumbers, figures: { file: string; caption: string }[]): string {
  const number = (value: number | null) => (value === null ? '-' : value.toFixed(3));
  const rows = groups.flatMap(({ label, runs, difference }) => [
    ...runs.map(({ name, seed, before, after, difference: own }) => [
      name,
      label,
      seed === null ? '-' : String(seed),
      number(before),
      number(after),
      number(own),
    ]),
    ...(difference === null
      ? []
      : [
          [
            `over ${difference.seeds} seeds`,
            label,
            '',
            '',
            '',
            `${number(difference.mean)} [${difference.ci95.map(number).join(', ')}]`,
          ],
        ]),
  ]);
  const title = `${groups.reduce((sum, { runs }) => sum + runs.length, 0)} runs`;
  return htmlPage(
    title,
    `<h1>${escapeXml(title)}</h1>
${htmlFigures(figures)}
<h2>Final comparisons</h2>
${htmlTable(['run', 'recipe', 'seed', 'before', 'after', 'difference'], rows)}`,
  );
}
