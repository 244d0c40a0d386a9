/** Rewards of single pictures over time: a column of shades a step, and the counts of the one that is pointed at. */

import { useEffect, useRef, useState } from 'preact/hooks';
import type { HistogramAnswer } from '../../src/api.js';
import { rgb, shade } from '../lib/colours.js';
import { plural, reward } from '../lib/format.js';
import { useDark } from '../lib/hooks.js';
import { turned } from '../lib/keyboard.js';

export function Histogram({ answer, height = 150 }: { answer: HistogramAnswer; height?: number }) {
  const { columns, edges } = answer;
  const canvas = useRef<HTMLCanvasElement>(null);
  const dark = useDark();
  const [chosen, setChosen] = useState<number | null>(null);
  const at = Math.min(columns.length - 1, chosen ?? columns.length - 1);
  const column = columns[at];

  useEffect(() => {
    const element = canvas.current;
    const context = element?.getContext('2d');
    if (element === null || context === null || context === undefined || columns.length === 0) return;
    const style = getComputedStyle(element);
    const [from, to] = ['--heat-low', '--heat-high'].map((name) => rgb(style.getPropertyValue(name))) as [
      ReturnType<typeof rgb>,
      ReturnType<typeof rgb>,
    ];
    const bins = edges.length - 1;
    element.width = columns.length;
    element.height = bins;
    const image = context.createImageData(columns.length, bins);
    columns.forEach(({ counts, pictures }, x) => {
      const most = Math.max(1, pictures / 4);
      counts.forEach((count, bin) => {
        const colour = shade(Math.sqrt(count / most), from, to);
        image.data.set([...colour, 255], 4 * ((bins - 1 - bin) * columns.length + x));
      });
    });
    context.putImageData(image, 0, 0);
  }, [columns, edges, dark]);

  if (column === undefined || edges.length < 2) return <p class="muted small">No picture was scored yet.</p>;
  const pick = (event: PointerEvent) => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    setChosen(
      Math.min(
        columns.length - 1,
        Math.max(0, Math.floor(((event.clientX - box.left) / box.width) * columns.length)),
      ),
    );
  };
  const most = Math.max(...column.counts, 1);
  return (
    <div class="histogram">
      <div class="histogram-heat">
        <span class="small muted top">{reward(edges.at(-1))}</span>
        <span class="small muted bottom">{reward(edges[0])}</span>
        <div
          role="slider"
          tabIndex={0}
          class="heat-holder"
          style={{ height: `${height}px` }}
          aria-label="Step whose rewards are shown"
          aria-valuemin={columns[0]!.step}
          aria-valuemax={columns.at(-1)!.step}
          aria-valuenow={column.step}
          aria-valuetext={`step ${column.step}: ${plural(column.pictures, 'picture')}, mean ${reward(column.mean)}`}
          onPointerMove={pick}
          onPointerLeave={() => setChosen(null)}
          onKeyDown={(event) => {
            const next = turned(
              event.key,
              at,
              { least: 0, greatest: columns.length - 1, step: 1 },
              event.shiftKey,
            );
            if (next === undefined) return;
            event.preventDefault();
            setChosen(next);
          }}
        >
          <canvas ref={canvas} />
          <span
            class="heat-cursor"
            style={{ left: `${(100 * (at + 0.5)) / columns.length}%` }}
            aria-hidden="true"
          />
        </div>
        <span class="small muted first">{columns[0]!.step}</span>
        <span class="small muted last">{columns.at(-1)!.step}</span>
      </div>
      <div class="histogram-bars" style={{ height: `${height}px` }} aria-hidden="true">
        {[...column.counts].reverse().map((count, i) => (
          <span key={i} style={{ width: `${(100 * count) / most}%` }} />
        ))}
      </div>
      <p class="small muted histogram-note">
        step {column.step}: {plural(column.pictures, 'picture')}, mean {reward(column.mean)}
      </p>
    </div>
  );
}
