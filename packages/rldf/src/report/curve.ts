/** Reward curves as SVG. */

import { fontFamily } from './svg.js';

export interface CurvePoint {
  step: number;
  value: number;
  /** Name of the line, such as "validation". */
  series: string;
}

export interface CurveOptions {
  title: string;
  xTitle: string;
  yTitle: string;
  width?: number;
  height?: number;
}

/** Draws one line a series, with its points. */
export async function curveSvg(points: readonly CurvePoint[], options: CurveOptions): Promise<string> {
  const [{ compile }, vega] = await Promise.all([import('vega-lite'), import('vega')]);
  const finite = points.filter(({ step, value }) => Number.isFinite(step) && Number.isFinite(value));
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
      legend: { labelFontSize: 12, title: null, orient: 'top-left', offset: 8 },
    },
    data: { values: finite },
    mark: { type: 'line', point: { size: 30, filled: true }, strokeWidth: 2 },
    encoding: {
      x: { field: 'step', type: 'quantitative', title: options.xTitle, axis: { tickMinStep: 1 } },
      y: { field: 'value', type: 'quantitative', title: options.yTitle, scale: { zero: false } },
      color: {
        field: 'series',
        type: 'nominal',
        scale: { range: ['#c2410c', '#1d4ed8', '#15803d', '#7e22ce'] },
      },
    },
  });
  const view = new vega.View(vega.parse(spec), { renderer: 'none' });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}
