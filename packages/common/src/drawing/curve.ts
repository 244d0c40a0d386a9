/** Reward curves as SVG. */

import { fontFamily } from './svg.js';

export interface CurvePoint {
  step: number;
  value: number;
  /** Name of the line, such as "validation". */
  series: string;
  /** Ends of a band around the line, if it has one. */
  band?: readonly [low: number, high: number];
}

const palette = ['#c2410c', '#1d4ed8', '#15803d', '#7e22ce', '#0e7490', '#a16207', '#be185d', '#4d7c0f'];

export interface CurveOptions {
  title: string;
  xTitle: string;
  yTitle: string;
  width?: number;
  height?: number;
}

/** Draws one line a series, with its points, and a band where they have one. */
export async function curveSvg(points: readonly CurvePoint[], options: CurveOptions): Promise<string> {
  const [{ compile }, vega] = await Promise.all([import('vega-lite'), import('vega')]);
  const finite = points.filter(({ step, value }) => Number.isFinite(step) && Number.isFinite(value));
  const values = finite.map(({ band, ...point }) =>
    band === undefined ? point : { ...point, low: band[0], high: band[1] },
  );
  const x = { field: 'step', type: 'quantitative', title: options.xTitle, axis: { tickMinStep: 1 } } as const;
  const y = { type: 'quantitative', title: options.yTitle, scale: { zero: false } } as const;
  const color = { field: 'series', type: 'nominal', scale: { range: palette } } as const;
  const line = {
    mark: { type: 'line', point: { size: 30, filled: true }, strokeWidth: 2 },
    encoding: { x, y: { ...y, field: 'value' }, color },
  } as const;
  const area = {
    transform: [{ filter: 'isValid(datum.low)' }] as { filter: string }[],
    mark: { type: 'area', opacity: 0.15 },
    encoding: { x, y: { ...y, field: 'low' }, y2: { field: 'high' }, color },
  } as const;
  const { spec } = compile({
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    width: options.width ?? 640,
    height: options.height ?? 320,
    background: 'white',
    padding: 12,
    title: { text: options.title, anchor: 'start' },
    config: {
      font: fontFamily,
      title: { fontSize: 16, fontWeight: 'normal' },
      axis: { labelFontSize: 12, titleFontSize: 13, titleFontWeight: 'normal', gridColor: '#e6e6e6' },
      legend: { labelFontSize: 12, title: null, orient: 'top-left', offset: 8, symbolOpacity: 1 },
    },
    data: { values },
    layer: finite.some(({ band }) => band !== undefined) ? [area, line] : [line],
  });
  const view = new vega.View(vega.parse(spec), { renderer: 'none' });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}
