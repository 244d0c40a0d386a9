/** A chart of curves over steps, on uPlot: bands, marks, one cursor for all charts of a page, keys, and its numbers as a table. */

import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { useDark, useSeen } from '../lib/hooks.js';
import { indexAt, inWords, nearest } from '../lib/series.js';
import { Icon } from './icons.js';

type Value = number | null;

export interface Line {
  label: string;
  /** Variable of the style sheet. */
  colour: string;
  steps: number[];
  values: Value[];
  /** Drawn behind it. */
  low?: Value[] | undefined;
  high?: Value[] | undefined;
  /** The same curve before smoothing, drawn faintly. */
  raw?: Value[] | undefined;
  /** Points as dots: curves of few numbers. */
  dots?: boolean | undefined;
}

export interface Mark {
  step: number;
  label: string;
  kind: 'alarm' | 'best' | 'here';
}

export interface ChartProps {
  title: string;
  note?: string;
  unit?: string;
  lines: Line[];
  /** Whatever changes when the lines do. */
  version: unknown;
  say: (value: Value) => string;
  marks?: Mark[];
  height?: number;
  /** Charts with the same name share their cursor. */
  cursor: string;
  /** What part of the steps is shown; null: all. */
  range: [number, number] | null;
  onRange: (range: [number, number] | null) => void;
  axis?: string;
}

export function Chart(props: ChartProps) {
  const { title, note, lines, say, unit = '' } = props;
  const [reference, seen, near] = useSeen<HTMLElement>();
  const [at, setAt] = useState<number | null>(null);
  const [asTable, setAsTable] = useState(false);
  const heading = useId();
  return (
    <figure class="chart" ref={reference} aria-labelledby={heading}>
      <figcaption>
        <h3 id={heading} title={note}>
          {title}
          {unit !== '' && <span class="muted unit"> {unit}</span>}
        </h3>
        <ul class="readout">
          {lines.map((line) => (
            <li key={line.label}>
              <span class="key" style={{ background: `var(${line.colour})` }} aria-hidden="true" />
              {lines.length > 1 && <span class="muted">{line.label}</span>}
              <b>{say(valueAt(line, at))}</b>
            </li>
          ))}
          {at !== null && <li class="muted">step {at}</li>}
        </ul>
        <button
          type="button"
          class="quiet table-button"
          aria-pressed={asTable}
          aria-label={`${title}: numbers as a table`}
          onClick={() => setAsTable(!asTable)}
        >
          <Icon name="table" />
        </button>
      </figcaption>
      {asTable ? (
        <Numbers {...props} />
      ) : seen ? (
        <Canvas {...props} near={near} onCursor={setAt} />
      ) : (
        <div style={{ height: `${props.height ?? 150}px` }} />
      )}
    </figure>
  );
}

/** The value at a step, of curves of few numbers the last one before it; without a step the newest number. */
function valueAt(line: Line, step: number | null): Value {
  const index =
    step === null ? line.steps.length - 1 : line.dots ? indexAt(line.steps, step) : nearest(line.steps, step);
  for (let i = index; i >= 0; i--) {
    const value = line.values[i];
    if (value !== null && value !== undefined) return value;
    if (step !== null) return null;
  }
  return null;
}

function Numbers({ lines, say, title, height = 150 }: ChartProps) {
  const steps = [...new Set(lines.flatMap((line) => thinned(line.steps)))].sort((a, b) => a - b);
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls must be reachable by keyboard
    <section class="numbers" style={{ height: `${height}px` }} tabIndex={0} aria-label={`${title}, numbers`}>
      <table>
        <thead>
          <tr>
            <th scope="col">step</th>
            {lines.map(({ label }) => (
              <th scope="col" key={label} class="number">
                {label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {steps.map((step) => (
            <tr key={step}>
              <th scope="row">{step}</th>
              {lines.map((line) => {
                const index = indexAt(line.steps, step);
                return (
                  <td key={line.label} class="number">
                    {line.steps[index] === step ? say(line.values[index] ?? null) : ''}
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** At most 200 steps, evenly, the last among them. */
function thinned(steps: number[]): number[] {
  const every = Math.ceil(steps.length / 200);
  return steps.filter((_, i) => (steps.length - 1 - i) % every === 0);
}

function Canvas(props: ChartProps & { near: boolean; onCursor: (step: number | null) => void }) {
  const { lines, version, marks, height = 150, cursor, range, title, say, near, axis = 'step' } = props;
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(null);
  const dark = useDark();
  const current = useRef(props);
  current.current = props;
  const shape = lines.map(({ label, colour, low, raw, dots }) => [
    label,
    colour,
    low !== undefined,
    raw !== undefined,
    dots,
  ]);
  const shapeKey = JSON.stringify(shape);
  const [said, setSaid] = useState('');
  const words = useMemo(
    () => lines.map((line) => `${line.label} ${inWords(line, say)}`).join('; '),
    [lines, say],
  );

  // Made anew for another shape or scheme; charts that cannot be seen wait with that, and with their data, until they can.
  const made = useRef('');
  useLayoutEffect(() => {
    const key = `${shapeKey} ${dark} ${height} ${cursor}`;
    if (!near || made.current === key) return;
    made.current = key;
    plot.current?.destroy();
    plot.current = new uPlot(
      options(current, host.current!, height, cursor),
      columns(current.current.lines),
      host.current!,
    );
  }, [shapeKey, dark, height, cursor, near]);
  useEffect(() => {
    const element = host.current!;
    const watch = new ResizeObserver(() => {
      const width = Math.floor(element.clientWidth);
      if (width > 0 && width !== plot.current?.width)
        plot.current?.setSize({ width, height: plot.current.height });
    });
    watch.observe(element);
    return () => {
      watch.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, []);

  useEffect(() => {
    if (!near) return;
    plot.current?.setData(columns(current.current.lines), false);
    show(plot.current, current.current);
  }, [version, shapeKey, dark, marks, range, near]);

  const onKeyDown = (event: KeyboardEvent) => {
    const made = plot.current;
    if (made === null) return;
    const steps = made.data[0];
    const there = made.cursor.idx ?? steps.length - 1;
    const by = event.shiftKey ? Math.max(1, Math.round(steps.length / 20)) : 1;
    const to = { ArrowLeft: there - by, ArrowRight: there + by, Home: 0, End: steps.length - 1 }[event.key];
    if (event.key === 'Escape') current.current.onRange(null);
    else if (event.key === '+' || event.key === '=' || event.key === '-')
      zoomBy(made, event.key === '-' ? 2 : 0.5, current.current);
    else if (to === undefined) return;
    else {
      const index = Math.min(steps.length - 1, Math.max(0, to));
      const step = steps[index]!;
      made.setCursor({ left: made.valToPos(step, 'x'), top: made.bbox.height / devicePixelRatio / 2 });
      setSaid(
        `step ${step}: ${current.current.lines.map((line) => `${line.label} ${say(valueAt(line, step))}`).join(', ')}`,
      );
    }
    event.preventDefault();
  };

  return (
    <div class="plot">
      <div
        ref={host}
        role="application"
        aria-roledescription="chart"
        // biome-ignore lint/a11y/noNoninteractiveTabindex: arrows move its cursor
        tabIndex={0}
        aria-label={`${title} by ${axis}. ${words}. Arrows move the cursor, plus and minus zoom, Escape shows all.`}
        onKeyDown={onKeyDown}
      />
      <span class="hidden" aria-live="polite">
        {said}
      </span>
    </div>
  );
}

function zoomBy(plot: uPlot, factor: number, { onRange }: ChartProps): void {
  const { min, max } = plot.scales.x as { min?: number; max?: number };
  if (min === undefined || max === undefined) return;
  const middle =
    plot.cursor.idx === null || plot.cursor.idx === undefined
      ? (min + max) / 2
      : plot.data[0][plot.cursor.idx]!;
  const half = ((max - min) * factor) / 2;
  const all = plot.data[0];
  const [first, last] = [all[0] ?? 0, all.at(-1) ?? 1];
  if (half * 2 >= last - first) onRange(null);
  else if (half >= 1) onRange([Math.max(first, middle - half), Math.min(last, middle + half)]);
}

function show(plot: uPlot | null, { range, lines }: ChartProps): void {
  if (plot === null) return;
  const firsts = lines.flatMap(({ steps }) => (steps.length === 0 ? [] : [steps[0]!]));
  const lasts = lines.flatMap(({ steps }) => (steps.length === 0 ? [] : [steps.at(-1)!]));
  const [min, max] = range ?? [Math.min(...firsts, 0), Math.max(...lasts, 1)];
  plot.setScale('x', { min, max });
}

/** Columns for uPlot: of each line low, high, raw (each if there) and the values, over all steps that occur. */
function columns(lines: Line[]): uPlot.AlignedData {
  const tables = lines.map(({ steps, values, low, high, raw }) => {
    const table: (number[] | Value[])[] = [steps];
    if (low !== undefined && high !== undefined) table.push(low, high);
    if (raw !== undefined) table.push(raw);
    table.push(values);
    return table as uPlot.AlignedData;
  });
  return tables.length === 0 ? [[]] : tables.length === 1 ? tables[0]! : uPlot.join(tables);
}

function options(
  current: { current: ChartProps & { near: boolean; onCursor: (step: number | null) => void } },
  element: HTMLElement,
  height: number,
  cursor: string,
): uPlot.Options {
  const style = getComputedStyle(element);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const faint = (name: string, share: number) => `color-mix(in srgb, ${colour(name)} ${share}%, transparent)`;
  const series: uPlot.Series[] = [{}];
  const bands: uPlot.Band[] = [];
  for (const line of current.current.lines) {
    if (line.low !== undefined && line.high !== undefined) {
      bands.push({ series: [series.length + 1, series.length], fill: faint(line.colour, 20) });
      series.push({ points: { show: false } }, { points: { show: false } });
    }
    if (line.raw !== undefined)
      series.push({ stroke: faint(line.colour, 32), width: 1, points: { show: false } });
    series.push({
      stroke: colour(line.colour),
      width: 1.75,
      points: line.dots ? { show: true, size: 5.5, fill: colour(line.colour), width: 0 } : { show: false },
    });
  }
  const font = `11px ${style.fontFamily}`;
  const axis = {
    stroke: colour('--muted'),
    font,
    ticks: { show: false },
    grid: { stroke: colour('--line'), width: 1 },
  };
  return {
    width: Math.max(120, Math.floor(element.clientWidth)),
    height,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    scales: {
      x: { time: false, auto: false, range: (_, min, max) => [min, max === min ? min + 1 : max] },
      y: { range: (_, min, max) => yRange(min, max) },
    },
    axes: [
      {
        ...axis,
        size: 22,
        gap: 3,
        space: 60,
        grid: { show: false },
        values: (_, at) => at.map((step) => (Number.isInteger(step) ? compact(step) : '')),
      },
      {
        ...axis,
        size: 44,
        gap: 4,
        space: 32,
        values: (_, at) => at.map((value) => current.current.say(value)),
      },
    ],
    series,
    bands,
    cursor: {
      y: false,
      points: { size: 6 },
      drag: { x: true, y: false, setScale: false },
      sync: { key: cursor, setSeries: false, scales: ['x', null] },
    },
    hooks: {
      setCursor: [
        (plot) => {
          if (!current.current.near) return; // nobody sees it
          const { idx } = plot.cursor;
          current.current.onCursor(idx === null || idx === undefined ? null : (plot.data[0][idx] ?? null));
        },
      ],
      setSelect: [
        (plot) => {
          const { left, width } = plot.select;
          if (width < 6) return;
          current.current.onRange([plot.posToVal(left, 'x'), plot.posToVal(left + width, 'x')]);
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
      ready: [(plot) => plot.over.addEventListener('dblclick', () => current.current.onRange(null))],
      draw: [(plot) => drawMarks(plot, current.current.marks ?? [], colour, font)],
    },
  };
}

function yRange(min: number | null, max: number | null): [number, number] {
  if (min === null || max === null) return [0, 1];
  if (min === max) return min === 0 ? [-1, 1] : [min - Math.abs(min) * 0.1, max + Math.abs(max) * 0.1];
  const margin = (max - min) * 0.06;
  return [min >= 0 && min - margin < 0 ? 0 : min - margin, max + margin];
}

const compact = (step: number): string => (step >= 10_000 ? `${step / 1000}k` : String(step));

function drawMarks(plot: uPlot, marks: Mark[], colour: (name: string) => string, font: string): void {
  const { ctx, bbox } = plot;
  for (const { step, label, kind } of marks) {
    const x = Math.round(plot.valToPos(step, 'x', true));
    if (x < bbox.left - 1 || x > bbox.left + bbox.width + 1) continue;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour({ alarm: '--bad', best: '--good', here: '--ink' }[kind]);
    ctx.lineWidth = devicePixelRatio;
    ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.font = font.replace(/^\d+px/, `${11 * devicePixelRatio}px`);
    const toLeft = x > bbox.left + bbox.width * 0.7;
    ctx.textAlign = toLeft ? 'right' : 'left';
    const line = kind === 'alarm' ? 0 : 1;
    ctx.fillText(
      label,
      x + (toLeft ? -5 : 5) * devicePixelRatio,
      bbox.top + (11 + 14 * line) * devicePixelRatio,
    );
    ctx.restore();
  }
}
