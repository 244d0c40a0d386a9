/** A table of arms and seeds: what each arm changed, with intervals; its curves; what it cost. */

import { useMemo, useState } from 'preact/hooks';
import type { Estimate, TableDetail } from '../../src/api.js';
import { band } from '../lib/bands.js';
import { curveColour } from '../lib/colours.js';
import { duration, grouped, plural, reward, signed } from '../lib/format.js';
import { listVersion, useAnswer, useStore, useThrottled } from '../lib/hooks.js';
import { address } from '../lib/route.js';
import { Chart, type Line } from '../ui/chart.js';
import { Choice, CopyButton, Loading, Problem, Scroll, Share } from '../ui/parts.js';
import type { Range } from './run/curves.js';
import { WrittenPage } from './written-page.js';

export function TableView({ id }: { id: string }) {
  const version = useThrottled(useStore(listVersion), 500);
  const { data, error, again } = useAnswer<TableDetail>(`/api/tables/${encodeURIComponent(id)}`, version);
  const [range, setRange] = useState<Range>(null);
  const [against, setAgainst] = useState<'change' | 'reference'>('change');
  const lines = useMemo(() => linesOf(data), [data]);
  if (data === undefined)
    return error === undefined ? (
      <Loading what="the table" />
    ) : (
      <Problem error={error} again={again} what={`“${id}” cannot be shown.`} />
    );
  const colours = new Map(data.rows.map(({ arm }, i) => [arm, curveColour(i)]));
  return (
    <>
      <header class="view-head">
        <h1>{data.name}</h1>
        <span class="row muted">
          <Share value={data.done / Math.max(1, data.wanted)} label="Finished" /> {data.done} of {data.wanted}{' '}
          arms and seeds
        </span>
        <span class="grow" />
        <a href={address({ view: 'tables' })} class="small">
          All tables
        </a>
      </header>
      <p class="question">{data.question}</p>
      {data.paper !== '' && <p class="small muted">{data.paper}</p>}
      {data.rows.length > 0 && (
        <section class="chart-group" aria-labelledby="arms-title">
          <div class="row">
            <h2 id="arms-title">Arms</h2>
            <Choice
              label="What is shown"
              value={against}
              onChange={setAgainst}
              options={[
                { value: 'change', label: 'change by training' },
                { value: 'reference', label: 'against the reference' },
              ]}
            />
            <span class="small muted">with 95 % intervals</span>
          </div>
          <Scroll label="Table of arms">
            <table class="plain arms">
              <thead>
                <tr>
                  <th scope="col">Arm</th>
                  <th scope="col" class="number">
                    Seeds
                  </th>
                  {data.scores.map((score) => (
                    <th scope="col" key={score}>
                      {score}
                    </th>
                  ))}
                  <th scope="col" class="number">
                    Pictures
                  </th>
                  <th scope="col" class="number">
                    Time
                  </th>
                </tr>
              </thead>
              <tbody>
                {data.rows.map((row) => {
                  const estimates = against === 'change' ? row.change : row.againstReference;
                  return (
                    <tr key={row.arm}>
                      <th scope="row">
                        <span
                          class="key"
                          style={{ background: `var(${colours.get(row.arm)!})` }}
                          aria-hidden="true"
                        />{' '}
                        {row.arm}
                        {row.sumOf.length > 0 && <span class="small muted"> = {row.sumOf.join(' + ')}</span>}
                      </th>
                      <td class="number">{row.seeds}</td>
                      {data.scores.map((score) => (
                        <td key={score}>
                          {estimates === null ? (
                            <span class="muted small">the reference</span>
                          ) : (
                            <Interval
                              estimate={estimates[score]}
                              all={data.rows.map(
                                (each) =>
                                  (against === 'change' ? each.change : each.againstReference)?.[score],
                              )}
                            />
                          )}
                        </td>
                      ))}
                      <td class="number">{row.cost === null ? '–' : grouped(row.cost.pictures)}</td>
                      <td class="number">{row.cost === null ? '–' : duration(row.cost.seconds)}</td>
                    </tr>
                  );
                })}
              </tbody>
            </table>
          </Scroll>
        </section>
      )}
      {lines.length > 0 && (
        <section class="chart-group" aria-label="Curves">
          <Chart
            title="Validation reward by pictures"
            note="Mean over seeds; the band reaches from the least to the greatest seed"
            lines={lines}
            version={data}
            say={reward}
            cursor={`table ${id}`}
            range={range}
            onRange={setRange}
            height={300}
            axis="pictures"
          />
        </section>
      )}
      {data.missing.length > 0 && (
        <details>
          <summary>{plural(data.missing.length, 'arm and seed', 'arms and seeds')} not there yet</summary>
          <p class="small mono">{data.missing.join(', ')}</p>
        </details>
      )}
      {data.markdown !== '' && (
        <details open={data.rows.length === 0}>
          <summary>The page as it was written</summary>
          <WrittenPage markdown={data.markdown} />
        </details>
      )}
      <p class="small muted row">
        protocol <code class="cut">{data.protocol}</code>
        {data.markdown !== '' && (
          <CopyButton text={data.markdown} what="the page as Markdown" label="Markdown" />
        )}
      </p>
    </>
  );
}

/** Number, interval, and a whisker on a scale that all arms share. */
function Interval({ estimate, all }: { estimate: Estimate | undefined; all: (Estimate | undefined)[] }) {
  if (estimate === undefined) return <span class="muted">–</span>;
  const ends = all.flatMap((each) => (each === undefined ? [] : [each.mean, ...(each.ci95 ?? [])]));
  const [least, greatest] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  const at = (value: number) => (100 * (value - least)) / (greatest - least || 1);
  const { mean, ci95 } = estimate;
  return (
    <span class="interval">
      <span class="number">
        <b>{signed(mean)}</b>{' '}
        <span class="muted small">{ci95 === null ? '' : `[${reward(ci95[0])}, ${reward(ci95[1])}]`}</span>
      </span>
      <svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" focusable="false">
        <line class="zero" x1={at(0)} x2={at(0)} y1="0" y2="10" />
        {ci95 !== null && <line class="whisker" x1={at(ci95[0])} x2={at(ci95[1])} y1="5" y2="5" />}
        <line class="mean" x1={at(mean)} x2={at(mean)} y1="1" y2="9" />
      </svg>
    </span>
  );
}

function linesOf(detail: TableDetail | undefined): Line[] {
  if (detail === undefined) return [];
  return detail.rows.flatMap(({ arm }, i): Line[] => {
    const curves = detail.curves.filter((curve) => curve.arm === arm);
    const made = band(
      curves.map(({ points }) => ({
        at: points.map((point) => point.pictures),
        values: points.map((point) => point.reward),
      })),
    );
    if (made.at.length === 0) return [];
    const several = curves.length > 1;
    return [
      {
        label: arm,
        colour: curveColour(i),
        steps: made.at,
        values: made.mean,
        low: several ? made.low : undefined,
        high: several ? made.high : undefined,
        dots: made.at.length <= 40,
      },
    ];
  });
}
