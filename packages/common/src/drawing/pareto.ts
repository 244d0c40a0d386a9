/** Several rewards against each other, as SVG: where a training went in the plane of each pair, and what nothing else is better than. */

import { fontFamily } from './svg.js';

/** Where a training was: the mean of each reward. */
export interface ParetoPoint {
  step: number;
  values: readonly number[];
}

export interface ParetoAxis {
  name: string;
  /** Less of it is better. */
  less?: boolean;
}

/**
 * The points that no other is better than: at least as good in all of the axes, and better in one (Pareto 1896).
 * @param axes which of the values count
 */
export function paretoFront(
  points: readonly ParetoPoint[],
  axes: readonly ParetoAxis[],
  which: readonly number[] = axes.map((_, i) => i),
): ParetoPoint[] {
  const good = ({ values }: ParetoPoint) => which.map((i) => (axes[i]!.less ? -values[i]! : values[i]!));
  return points.filter((point) => {
    const own = good(point);
    return !points.some((other) => {
      const theirs = good(other);
      return theirs.every((value, i) => value >= own[i]!) && theirs.some((value, i) => value > own[i]!);
    });
  });
}

/** All pairs of axes, at most so many. */
export function pairsOf(count: number, most = 6): [number, number][] {
  const all = Array.from({ length: count }, (_, b) =>
    Array.from({ length: b }, (_, a): [number, number] => [a, b]),
  ).flat();
  return all.slice(0, most);
}

/** One panel a pair: the way of the training as a line, points by step from light to dark, those of the front ringed. */
export async function paretoSvg(
  points: readonly ParetoPoint[],
  axes: readonly ParetoAxis[],
  title: string,
): Promise<string> {
  const [{ compile }, vega] = await Promise.all([import('vega-lite'), import('vega')]);
  const panels = pairsOf(axes.length).map(([a, b]) => {
    const front = new Set(paretoFront(points, axes, [a, b]).map(({ step }) => step));
    const rows = points.map(({ step, values }) => ({
      step,
      x: values[a]!,
      y: values[b]!,
      front: front.has(step),
      label: step === points[0]!.step ? 'before' : step === points.at(-1)!.step ? 'end' : '',
    }));
    const axisTitle = ({ name, less }: ParetoAxis) => `mean ${name}${less ? ' (less is better)' : ''}`;
    const x = {
      field: 'x',
      type: 'quantitative',
      title: axisTitle(axes[a]!),
      scale: { zero: false },
    } as const;
    const y = {
      field: 'y',
      type: 'quantitative',
      title: axisTitle(axes[b]!),
      scale: { zero: false },
    } as const;
    return {
      width: 320,
      height: 280,
      data: { values: rows },
      layer: [
        {
          mark: { type: 'line', strokeWidth: 1, color: '#9ca3af' },
          encoding: { x, y, order: { field: 'step', type: 'quantitative' } },
        },
        {
          mark: { type: 'point', filled: true, size: 50, opacity: 1 },
          encoding: {
            x,
            y,
            color: {
              field: 'step',
              type: 'quantitative',
              scale: { range: ['#bfdbfe', '#1d4ed8'] },
              legend: { title: 'step' },
            },
          },
        },
        {
          transform: [{ filter: 'datum.front' }],
          mark: { type: 'point', filled: false, size: 160, stroke: '#c2410c', strokeWidth: 2, opacity: 1 },
          encoding: { x, y },
        },
        {
          mark: { type: 'text', dy: -12, fontSize: 11, color: '#111827' },
          encoding: { x, y, text: { field: 'label', type: 'nominal' } },
        },
      ],
    } as const;
  });
  const { spec } = compile({
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    background: 'white',
    padding: 12,
    title: { text: title, anchor: 'start' },
    config: {
      font: fontFamily,
      title: { fontSize: 16, fontWeight: 'normal' },
      axis: { labelFontSize: 12, titleFontSize: 13, titleFontWeight: 'normal', gridColor: '#e6e6e6' },
    },
    concat: panels as never,
    columns: 2,
  } as never);
  const view = new vega.View(vega.parse(spec), { renderer: 'none' });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}
