/** The world of a search as a plane of two meanings, the others held by sliders; cells show pictures, Q or visits. */

import { useMemo, useRef, useState } from 'preact/hooks';
import type { SearchDetail } from '../../src/api.js';
import { grouped, short } from '../lib/format.js';
import { moved } from '../lib/keyboard.js';
import { extent } from '../lib/series.js';
import { longestAxes, placeOf, plane, stateOf } from '../lib/world.js';
import { Choice, Slider } from '../ui/parts.js';
import { Image } from '../ui/picture.js';

type Shown = 'pictures' | 'q' | 'visits';

export function World({ detail }: { detail: SearchDetail }) {
  const { axes, q, visits, pictures } = detail;
  const [shown, setShown] = useState<Shown>(q.length > 0 ? 'q' : 'pictures');
  const [chosen, setChosen] = useState(() => longestAxes(axes));
  const last = detail.trace.at(-1)?.state ?? detail.start;
  const [place, setPlace] = useState(() => placeOf(detail.isGoal ? (detail.goalState ?? last) : last, axes));
  const table = useRef<HTMLTableElement>(null);
  const first = useMemo(() => {
    const order = new Map<number, number>();
    for (const { state } of detail.trace) if (!order.has(state)) order.set(state, order.size + 1);
    return order;
  }, [detail.trace]);
  if (axes.length === 0) return null;
  const { rows, columns } = chosen;
  const cells =
    rows === columns
      ? [plane(place, axes, rows, columns).map((row, i) => row[i]!)]
      : plane(place, axes, rows, columns);
  const range = extent(shown === 'visits' ? visits : q) ?? [0, 1];
  const state = stateOf(place, axes);
  const share = (value: number | null | undefined) =>
    value === null || value === undefined ? null : (value - range[0]) / (range[1] - range[0] || 1);

  const onKeyDown = (event: KeyboardEvent) => {
    const buttons = [...(table.current?.querySelectorAll<HTMLElement>('button.cell') ?? [])];
    const next = moved(
      event.key,
      buttons.indexOf(event.target as HTMLElement),
      buttons.length,
      Math.max(2, cells[0]?.length ?? 2),
    );
    if (next === undefined) return;
    event.preventDefault();
    buttons[next]?.focus();
    buttons[next]?.click();
  };
  const words = (at: number) =>
    placeOf(at, axes)
      .map((value, i) => axes[i]!.values[value])
      .filter(Boolean)
      .join(' ');
  const focused = cells.some((row) => row.includes(state)) ? state : cells[0]![0]!;
  return (
    <section class="chart-group" aria-labelledby="world-title">
      <div class="row">
        <h2 id="world-title">The world</h2>
        <Choice
          label="Cells show"
          value={shown}
          onChange={setShown}
          options={[
            { value: 'q', label: 'Q', disabled: q.length === 0 },
            { value: 'visits', label: 'visits' },
            { value: 'pictures', label: 'pictures' },
          ]}
        />
        {(['rows', 'columns'] as const).map((direction) => (
          <label key={direction} class="row small">
            {direction}
            <select
              value={chosen[direction]}
              onChange={(event) => setChosen(other(chosen, direction, Number(event.currentTarget.value)))}
            >
              {axes.map(({ name }, i) => (
                <option key={name} value={i}>
                  {name}
                </option>
              ))}
            </select>
          </label>
        ))}
        {shown !== 'pictures' && (
          <span class="legend small muted">
            {short(range[0])} <span class="ramp" aria-hidden="true" /> {short(range[1])}
          </span>
        )}
      </div>
      <div class="world">
        <div class="scroll">
          <table class={`plane ${shown}`} ref={table} onKeyDown={onKeyDown}>
            <caption class="hidden">
              {axes[rows]!.name} by {axes[columns]!.name}, showing {shown}
            </caption>
            <thead>
              <tr>
                <td />
                {axes[columns]!.values.map((value) => (
                  <th scope="col" key={value} class="small">
                    <span>{value || '–'}</span>
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {cells.map((row, r) => (
                <tr key={axes[rows]!.values[r]}>
                  <th scope="row" class="small">
                    {rows === columns ? '' : axes[rows]!.values[r] || '–'}
                  </th>
                  {row.map((at) => {
                    const value = shown === 'visits' ? visits[at] : q[at];
                    const part = shown === 'pictures' ? null : share(value);
                    const order = first.get(at);
                    return (
                      <td key={at}>
                        <button
                          type="button"
                          class={`cell ${at === detail.goalState ? 'goal' : ''} ${at === state ? 'chosen' : ''} ${part === null ? 'unknown' : ''}`}
                          style={
                            part === null
                              ? {}
                              : {
                                  background: `color-mix(in oklab, var(--heat-high) ${Math.round(100 * part)}%, var(--heat-low))`,
                                }
                          }
                          tabIndex={at === focused ? 0 : -1}
                          aria-pressed={at === state}
                          aria-label={`${words(at)}: ${shown === 'pictures' ? (at in pictures ? 'drawn' : 'never drawn') : `${shown} ${short(value)}`}${at === detail.goalState ? ', the goal' : ''}${order === undefined ? '' : `, seen as number ${order}`}`}
                          onClick={() => setPlace(placeOf(at, axes))}
                        >
                          {shown === 'pictures' && at in pictures && (
                            <Image file={pictures[at]!.file} alt="" />
                          )}
                          {at === detail.start && <span class="flag">start</span>}
                          {at === detail.goalState && <span class="flag">goal</span>}
                        </button>
                      </td>
                    );
                  })}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
        <aside class="stack" aria-label="The chosen state">
          <Image file={pictures[state]?.file} alt={words(state)} class="chosen-picture" />
          <p>{pictures[state]?.sentence ?? words(state)}</p>
          <p class="small muted">
            {q.length > 0 && `Q ${short(q[state])} · `}
            {grouped(visits[state] ?? 0)} visits
            {first.has(state) && ` · seen as number ${first.get(state)}`}
          </p>
          {axes.map((axis, i) => (
            <Slider
              key={axis.name}
              label={axis.name}
              say={axis.values[place[i]!] || '(nothing)'}
              value={place[i]!}
              min={0}
              max={Math.max(0, axis.values.length - 1)}
              step={1}
              onInput={(value) => setPlace(place.map((old, k) => (k === i ? value : old)))}
            />
          ))}
        </aside>
      </div>
    </section>
  );
}

/** Another axis for one direction; the directions change places rather than be the same. */
function other(chosen: { rows: number; columns: number }, direction: 'rows' | 'columns', axis: number) {
  const opposite = direction === 'rows' ? 'columns' : 'rows';
  return chosen[opposite] === axis
    ? { rows: chosen.columns, columns: chosen.rows }
    : { ...chosen, [direction]: axis };
}
