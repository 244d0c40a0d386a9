/** Every number of a run by steps. */

import { useState } from 'preact/hooks';
import type { HistogramAnswer, MetricInfo, PromptsAnswer, RunDetail, RunRow } from '../../../src/api.js';
import { measured, reward } from '../../lib/format.js';
import { useAnswer, useKept, useStore, useThrottled } from '../../lib/hooks.js';
import type { LiveMetrics } from '../../lib/live-metrics.js';
import { type Curve, smooth } from '../../lib/series.js';
import { Chart, type Line, type Mark } from '../../ui/chart.js';
import { Histogram } from '../../ui/histogram.js';
import { Empty, Loading, Problem, Slider } from '../../ui/parts.js';
import { Prompts } from './prompts.js';

const groups: { name: MetricInfo['group']; title: string }[] = [
  { name: 'rewards', title: 'Rewards' },
  { name: 'policy', title: 'Policy' },
  { name: 'optimiser', title: 'Optimiser' },
  { name: 'watch', title: 'Hack watch' },
  { name: 'speed', title: 'Speed' },
  { name: 'memory', title: 'Memory' },
  { name: 'other', title: 'Other' },
];

/** Both are in the first chart. */
const inFront = new Set(['reward/mean', 'validation/reward']);

export type Range = [number, number] | null;

export function CurvesTab({ live, detail, row }: { live: LiveMetrics; detail: RunDetail; row: RunRow }) {
  const { curves, version, loaded, badLines, error } = useStore(live.state);
  const [range, setRange] = useState<Range>(null);
  const [weight, setWeight] = useKept('smoothing', 0);
  const settled = useThrottled(`${row.step} ${row.state}`, 1000);
  const path = `/api/runs/${encodeURIComponent(detail.id)}`;
  const prompts = useAnswer<PromptsAnswer>(`${path}/prompts`, settled);
  const histogram = useAnswer<HistogramAnswer>(`${path}/histogram?kind=rollout`, settled);
  if (!loaded)
    return error === null ? (
      <Loading what="the curves" />
    ) : (
      <Problem error={new Error(error)} what="The curves could not be read." />
    );
  if (curves.size === 0)
    return (
      <Empty title="No numbers yet">
        The first line of metrics.jsonl is written after the first evaluation.
      </Empty>
    );

  const marks: Mark[] = [];
  if (row.alarm !== null) marks.push({ step: row.alarm.step, label: 'hack watch', kind: 'alarm' });
  if (row.bestStep !== null && row.state !== 'running')
    marks.push({ step: row.bestStep, label: 'best', kind: 'best' });
  const shared = { cursor: detail.id, range, onRange: setRange };
  const known = new Map(detail.metrics.map((metric) => [metric.name, metric]));
  const others = [...curves.keys()]
    .filter((name) => !known.has(name))
    .map((name): MetricInfo => ({ name, label: name, group: 'other', unit: '', explanation: '' }));
  const front = [
    lineOf('training', '--c1', curves.get('reward/mean'), weight),
    lineOf('validation', '--c2', curves.get('validation/reward'), 0),
  ].filter((line) => line !== undefined);
  const chartVersion = `${version} ${weight}`;
  return (
    <div class="curves">
      <div class="row tools">
        <div class="tool">
          <Slider
            label="Smoothing"
            say={weight === 0 ? 'off' : weight.toFixed(2)}
            value={weight}
            min={0}
            max={0.98}
            step={0.02}
            onInput={setWeight}
          />
        </div>
        {range !== null && (
          <button type="button" onClick={() => setRange(null)}>
            Show all steps
          </button>
        )}
        <span class="small muted">Drag across a chart to look closer.</span>
        {badLines > 0 && (
          <span class="small bad">{badLines} lines of metrics.jsonl could not be read and are left out.</span>
        )}
      </div>
      <div class="front">
        <Chart
          {...shared}
          title="Reward"
          unit={row.unit}
          lines={front}
          version={chartVersion}
          say={reward}
          marks={marks}
          height={280}
          note={known.get('reward/mean')?.explanation ?? ''}
        />
        <figure class="chart" aria-label="Rewards of single pictures">
          <figcaption>
            <h3>Rewards of single pictures</h3>
          </figcaption>
          {histogram.data === undefined ? (
            histogram.error !== undefined && <p class="small muted">{histogram.error.message}</p>
          ) : (
            <Histogram answer={histogram.data} height={236} />
          )}
        </figure>
      </div>
      {prompts.data !== undefined && prompts.data.prompts.length > 0 && <Prompts answer={prompts.data} />}
      {groups.map(({ name, title }) => {
        const metrics = [...detail.metrics, ...others].filter(
          (metric) => metric.group === name && !inFront.has(metric.name) && curves.has(metric.name),
        );
        return (
          metrics.length > 0 && (
            <section key={name} class="chart-group" aria-labelledby={`group-${name}`}>
              <h2 id={`group-${name}`}>{title}</h2>
              <div class="charts">
                {metrics.map((metric) => (
                  <Chart
                    {...shared}
                    key={metric.name}
                    title={metric.label}
                    note={metric.explanation === '' ? metric.name : `${metric.name}: ${metric.explanation}`}
                    unit={metric.unit === 'B' || metric.unit === 's' ? '' : metric.unit}
                    lines={[lineOf(metric.label, colourOf(metric), curves.get(metric.name), weight)].filter(
                      (line) => line !== undefined,
                    )}
                    version={chartVersion}
                    say={(value) =>
                      measured(value, metric.unit === 'B' || metric.unit === 's' ? metric.unit : '')
                    }
                    marks={name === 'watch' ? marks : []}
                  />
                ))}
              </div>
            </section>
          )
        );
      })}
    </div>
  );
}

const colourOf = ({ group, name }: MetricInfo): string =>
  ({
    rewards: name.startsWith('validation/') ? '--c2' : '--c1',
    policy: '--c4',
    optimiser: '--c5',
    watch: '--c6',
    speed: '--c3',
    memory: '--c7',
    other: '--c8',
  })[group];

/**
 * A curve to be drawn. Behind a smoothed one stays what it was: its range where neighbours were merged, else its raw form. The same parts
 * with and without smoothing, so that the chart need not be made anew. Curves of few numbers have dots.
 */
export function lineOf(
  label: string,
  colour: string,
  curve: Curve | undefined,
  weight: number,
): Line | undefined {
  if (curve === undefined || curve.steps.length === 0) return undefined;
  const merged = curve.counts.some((count) => count > 1);
  return {
    label,
    colour,
    steps: curve.steps,
    values: smooth(curve.values, weight),
    raw: merged ? undefined : curve.values,
    low: merged ? curve.low : undefined,
    high: merged ? curve.high : undefined,
    dots: curve.steps.length <= 40,
  };
}
