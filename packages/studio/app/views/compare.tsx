/** Several runs side by side: curves with bands over seeds, where recipes differ, the newest pictures. */

import { useMemo, useState } from 'preact/hooks';
import type { CompareAnswer, RunRow } from '../../src/api.js';
import { curveColour } from '../lib/colours.js';
import { field, plural, reward, short } from '../lib/format.js';
import { useAnswer, useKept, useThrottled } from '../lib/hooks.js';
import { address } from '../lib/route.js';
import { smooth } from '../lib/series.js';
import { Chart, type Line } from '../ui/chart.js';
import { Delta, Empty, Loading, Problem, Scroll, Slider, StartToNow, StateMark } from '../ui/parts.js';
import { PictureRow } from '../ui/picture-row.js';
import type { Range } from './run/curves.js';

const charts: { name: string; title: string }[] = [
  { name: 'validation/reward', title: 'Validation reward' },
  { name: 'reward/mean', title: 'Training reward' },
  { name: 'reward/std', title: 'Spread of rewards' },
  { name: 'policy/approxKl', title: 'KL, approximate' },
  { name: 'policy/clipFraction', title: 'Clip fraction' },
  { name: 'gradient/norm', title: 'Gradient norm' },
  { name: 'loss/denoising', title: 'Denoising loss' },
  { name: 'time/step', title: 'Seconds a step' },
];

export function CompareView({ runs, rows }: { runs: string[]; rows: RunRow[] }) {
  const chosen = rows.filter(({ id }) => runs.includes(id));
  const version = useThrottled(chosen.map(({ step, state }) => `${step}${state}`).join(), 800);
  const names = charts.map(({ name }) => name).join(',');
  const { data, error, again } = useAnswer<CompareAnswer>(
    runs.length === 0
      ? null
      : `/api/compare?runs=${runs.map(encodeURIComponent).join(',')}&names=${encodeURIComponent(names)}&points=500`,
    version,
  );
  const [range, setRange] = useState<Range>(null);
  const [weight, setWeight] = useKept('smoothing', 0);
  if (runs.length === 0)
    return (
      <Empty title="Nothing to compare">
        Tick runs in <a href={address({ view: 'runs' })}>the list</a>.
      </Empty>
    );
  if (data === undefined)
    return error === undefined ? (
      <Loading what="the runs" />
    ) : (
      <Problem error={error} again={again} what="These runs could not be compared." />
    );
  return (
    <>
      <header class="view-head">
        <h1>Compared</h1>
        <span class="muted">
          {plural(runs.length, 'run')}
          {data.groups.length < runs.length &&
            ` in ${plural(data.groups.length, 'group')} of equal recipes; bands reach from the least to the greatest seed`}
        </span>
        <span class="grow" />
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
      </header>
      <Groups answer={data} rows={chosen} />
      {[charts.slice(0, 2), charts.slice(2)].map((some, row) => (
        <div class={row === 0 ? 'compared-front' : 'charts wide'} key={row === 0 ? 'front' : 'others'}>
          {some.map(({ name, title }) => {
            const lines = data.groups.flatMap((group, i) => lineOf(group, i, name, weight));
            return (
              lines.length > 0 && (
                <Chart
                  key={name}
                  title={title}
                  lines={lines}
                  version={`${version} ${weight} ${data.groups.length}`}
                  say={name.includes('reward') ? reward : short}
                  cursor="compare"
                  range={range}
                  onRange={setRange}
                  height={row === 0 ? 260 : 150}
                />
              )
            );
          })}
        </div>
      ))}
      <Differences answer={data} runs={runs} rows={chosen} />
      <section class="chart-group" aria-label="Newest evaluations">
        <h2>Newest evaluations</h2>
        {chosen.map(({ id, name, step }) => (
          <LastPictures key={id} id={id} name={name} version={step} />
        ))}
      </section>
    </>
  );
}

function lineOf(group: CompareAnswer['groups'][number], i: number, name: string, weight: number): Line[] {
  const series = group.series[name];
  if (series === undefined || series.steps.length === 0) return [];
  const several = group.runs.length > 1;
  return [
    {
      label: group.label,
      colour: curveColour(i),
      steps: series.steps,
      values: smooth(series.mean, weight),
      low: several ? smooth(series.low, weight) : undefined,
      high: several ? smooth(series.high, weight) : undefined,
      raw: weight > 0 && !several ? series.mean : undefined,
      dots: series.steps.length <= 40 && weight === 0,
    },
  ];
}

function Groups({ answer, rows }: { answer: CompareAnswer; rows: RunRow[] }) {
  return (
    <ul class="groups">
      {answer.groups.map((group, i) => (
        <li key={group.group}>
          <span class="key" style={{ background: `var(${curveColour(i)})` }} aria-hidden="true" />
          <b>{group.label}</b>
          <ul>
            {group.runs.map((id) => {
              const row = rows.find((each) => each.id === id);
              return (
                <li key={id}>
                  {row !== undefined && <StateMark state={row.state} bare />}
                  <a href={address({ view: 'run', id, tab: 'curves' })} class="cut">
                    {row?.name ?? id}
                  </a>
                  {row !== undefined && (
                    <>
                      <StartToNow start={row.rewardStart} now={row.rewardNow} />
                      <Delta
                        value={
                          row.rewardNow === null || row.rewardStart === null
                            ? null
                            : row.rewardNow - row.rewardStart
                        }
                      />
                    </>
                  )}
                </li>
              );
            })}
          </ul>
        </li>
      ))}
    </ul>
  );
}

function Differences({ answer, runs, rows }: { answer: CompareAnswer; runs: string[]; rows: RunRow[] }) {
  const nameOf = useMemo(() => new Map(rows.map(({ id, name }) => [id, name])), [rows]);
  if (runs.length < 2) return null;
  return (
    <section class="chart-group" aria-label="Where the recipes differ">
      <h2>Where the recipes differ</h2>
      {answer.differences.length === 0 ? (
        <p class="muted">In nothing.</p>
      ) : (
        <Scroll label="Table of differences">
          <table class="plain">
            <thead>
              <tr>
                <th scope="col">Field</th>
                {runs.map((id) => (
                  <th scope="col" key={id}>
                    {nameOf.get(id) ?? id}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {answer.differences.map(({ path, values }) => (
                <tr key={path}>
                  <th scope="row">
                    <code>{path}</code>
                  </th>
                  {runs.map((id) => (
                    <td key={id}>{field(values[id])}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
    </section>
  );
}

function LastPictures({ id, name, version }: { id: string; name: string; version: number }) {
  const { data } = useAnswer<{ pictureSteps: { validation: number[] } }>(
    `/api/runs/${encodeURIComponent(id)}`,
    version,
  );
  const step = data?.pictureSteps.validation.at(-1);
  if (step === undefined) return null;
  return <PictureRow run={id} kind="validation" step={step} title={`${name}, step ${step}`} order="drawn" />;
}
