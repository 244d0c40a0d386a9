/** A curve as big as a word. */

import { reward } from '../lib/format.js';

export interface Spark {
  step: number;
  value: number;
}

export function Sparkline({
  points,
  width = 96,
  height = 22,
}: {
  points: Spark[];
  width?: number;
  height?: number;
}) {
  const finite = points.filter(({ value }) => Number.isFinite(value));
  if (finite.length < 2) return <span class="spark" style={{ width: `${width}px`, height: `${height}px` }} />;
  const values = finite.map(({ value }) => value);
  const [least, greatest] = [Math.min(...values), Math.max(...values)];
  const [first, last] = [finite[0]!, finite.at(-1)!];
  const x = (step: number) => 2 + ((width - 5) * (step - first.step)) / Math.max(1, last.step - first.step);
  const y = (value: number) =>
    greatest === least ? height / 2 : height - 3 - ((height - 6) * (value - least)) / (greatest - least);
  const line = finite.map(({ step, value }) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`).join(' ');
  return (
    <svg
      class="spark"
      width={width}
      height={height}
      viewBox={`0 0 ${width} ${height}`}
      role="img"
      aria-label={`from ${reward(first.value)} to ${reward(last.value)}`}
    >
      <polyline points={line} fill="none" stroke="currentColor" stroke-width="1.5" stroke-linejoin="round" />
      <circle cx={x(last.step)} cy={y(last.value)} r="2.2" fill="currentColor" />
    </svg>
  );
}
