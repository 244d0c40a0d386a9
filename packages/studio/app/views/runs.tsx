/** All runs: how each does, and which are to be compared. */

import { useMemo, useRef, useState } from 'preact/hooks';
import type { RunRow, RunsAnswer } from '../../src/api.js';
import { ago, duration, grouped, plural } from '../lib/format.js';
import { type Answer, useNow } from '../lib/hooks.js';
import { keysAreTaken, moved } from '../lib/keyboard.js';
import { address } from '../lib/route.js';
import { found, type SortKey, sorted } from '../lib/rows.js';
import { Icon } from '../ui/icons.js';
import { Delta, Empty, Loading, Problem, Share, StartToNow, StateMark } from '../ui/parts.js';
import { Sparkline } from '../ui/sparkline.js';

const columns: { key: SortKey; label: string; class: string }[] = [
  { key: 'name', label: 'Run', class: 'c-name' },
  { key: 'method', label: 'Method', class: 'c-method' },
  { key: 'model', label: 'Model', class: 'c-model' },
  { key: 'change', label: 'Reward', class: 'c-reward' },
  { key: 'pictures', label: 'Pictures', class: 'c-pictures number' },
  { key: 'progress', label: 'Progress', class: 'c-progress' },
  { key: 'changed', label: 'Changed', class: 'c-changed number' },
];

export function RunsView({ list }: { list: Answer<RunsAnswer> }) {
  const [query, setQuery] = useState('');
  const [sort, setSort] = useState<{ key: SortKey; down: boolean }>({ key: 'changed', down: true });
  const [ticked, setTicked] = useState<ReadonlySet<string>>(new Set());
  const [active, setActive] = useState(0);
  const body = useRef<HTMLTableSectionElement>(null);
  const all = list.data?.runs;
  const rows = useMemo(() => sorted(found(all ?? [], query), sort.key, sort.down), [all, query, sort]);
  const chosen = (all ?? []).filter(({ id }) => ticked.has(id));

  if (all === undefined) {
    return list.error === undefined ? (
      <Loading what="the runs" />
    ) : (
      <Problem error={list.error} again={list.again} what="The runs could not be read." />
    );
  }
  if (all.length === 0) {
    return (
      <Empty title="No runs yet">
        <p>
          Train something, and it appears here while it learns: <code>npm run quickstart</code>, or{' '}
          <code>npx rldf train RECIPE</code>.
        </p>
      </Empty>
    );
  }
  const tick = (id: string) => {
    const next = new Set(ticked);
    if (!next.delete(id)) next.add(id);
    setTicked(next);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const row = (event.target as HTMLElement).closest('tr');
    const at = row === null ? -1 : [...body.current!.rows].indexOf(row);
    if (at < 0) return;
    if (event.key === ' ' && (event.target as HTMLElement).tagName === 'A') {
      event.preventDefault();
      return tick(rows[at]!.id);
    }
    const next = keysAreTaken(event.target as HTMLElement) ? undefined : moved(event.key, at, rows.length);
    if (next === undefined) return;
    event.preventDefault();
    setActive(next);
    body.current!.rows[next]?.querySelector('a')?.focus();
  };
  const running = all.filter(({ state }) => state === 'running').length;
  return (
    <>
      <header class="view-head">
        <h1>Runs</h1>
        <span class="muted">
          {plural(all.length, 'run')}
          {running > 0 && `, ${running} running`}
        </span>
        <span class="grow" />
        <input
          type="search"
          placeholder="Filter"
          aria-label="Filter runs by name, method, model, reward or state"
          value={query}
          onInput={(event) => setQuery(event.currentTarget.value)}
        />
        {chosen.length === 0 ? (
          <button type="button" disabled>
            <Icon name="compare" /> Tick runs to compare
          </button>
        ) : (
          <a class="button primary" href={address({ view: 'compare', runs: chosen.map(({ id }) => id) })}>
            <Icon name="compare" /> Compare {plural(chosen.length, 'run')}
          </a>
        )}
        {chosen.length > 0 && (
          <button type="button" class="quiet" onClick={() => setTicked(new Set())}>
            Untick
          </button>
        )}
      </header>
      <p class="hidden" id="runs-keys">
        Arrows move between the runs, Space ticks one, Enter opens it.
      </p>
      <table class="runs" aria-describedby="runs-keys">
        <caption class="hidden">All runs below the folder</caption>
        <thead>
          <tr>
            <th scope="col" class="c-tick">
              <span class="hidden">Compare</span>
            </th>
            {columns.map(({ key, label, ...column }) => (
              <th
                key={key}
                scope="col"
                class={column.class}
                aria-sort={sort.key !== key ? undefined : sort.down ? 'descending' : 'ascending'}
              >
                <button
                  type="button"
                  class="quiet"
                  onClick={() => setSort({ key, down: sort.key === key ? !sort.down : key !== 'name' })}
                >
                  {label}
                  <span class="sort" aria-hidden="true">
                    {sort.key !== key ? '' : sort.down ? '↓' : '↑'}
                  </span>
                </button>
              </th>
            ))}
          </tr>
        </thead>
        <tbody ref={body} onKeyDown={onKeyDown}>
          {rows.map((row, i) => (
            <Row
              key={row.id}
              row={row}
              ticked={ticked.has(row.id)}
              onTick={() => tick(row.id)}
              focusable={i === Math.min(active, rows.length - 1)}
            />
          ))}
        </tbody>
      </table>
      {rows.length === 0 && (
        <Empty title="Nothing fits">No run has “{query}” in its name, method, model, reward or state.</Empty>
      )}
    </>
  );
}

function Row({
  row,
  ticked,
  onTick,
  focusable,
}: {
  row: RunRow;
  ticked: boolean;
  onTick: () => void;
  focusable: boolean;
}) {
  const now = useNow(15_000);
  const tabIndex = focusable ? 0 : -1;
  const change = row.rewardNow === null || row.rewardStart === null ? null : row.rewardNow - row.rewardStart;
  return (
    <tr class={ticked ? 'ticked' : ''}>
      <td class="c-tick">
        <input
          type="checkbox"
          checked={ticked}
          onChange={onTick}
          tabIndex={tabIndex}
          aria-label={`Compare ${row.name}`}
        />
      </td>
      <th scope="row" class="c-name">
        <StateMark state={row.state} bare />
        <a href={address({ view: 'run', id: row.id, tab: 'curves' })} tabIndex={tabIndex} class="cut">
          {row.name}
        </a>
        {row.alarm !== null && (
          <span class="chip warn" title={row.alarm.symptoms.map(({ meaning }) => meaning).join('; ')}>
            <Icon name="alarm" />
            hack watch <span class="hidden">alarm from step {row.alarm.step} on</span>
          </span>
        )}
        {row.state === 'damaged' && <span class="chip bad-chip">{row.problem ?? 'damaged'}</span>}
      </th>
      <td class="c-method">
        {row.method === '' ? <span class="muted">–</span> : row.method}
        {row.seed !== null && <span class="muted small"> seed {row.seed}</span>}
      </td>
      <td class="c-model cut">{row.model === '' ? <span class="muted">–</span> : row.model}</td>
      <td class="c-reward">
        <span class="reward-cell">
          <Sparkline points={row.spark} />
          <StartToNow
            start={row.rewardStart}
            now={row.state === 'damaged' ? null : (row.rewardNow ?? row.trainingReward)}
          />
          <Delta value={change} />
          <span class="muted small cut reward-name" title={row.reward}>
            {row.reward}
          </span>
        </span>
      </td>
      <td class="c-pictures number">
        {grouped(row.pictures)}
        <span class="only-narrow"> pictures</span>
      </td>
      <td class="c-progress">
        <span class="progress-cell">
          <Share
            value={row.steps === null ? 0 : row.step / row.steps}
            label={`${row.name}: step ${row.step}${row.steps === null ? '' : ` of ${row.steps}`}`}
          />
          <span class="small muted">
            {grouped(row.step)}
            {row.steps !== null && `/${grouped(row.steps)}`}
            {row.state === 'running'
              ? row.etaSeconds !== null && ` · ${duration(row.etaSeconds)} left`
              : row.state !== 'finished' && ` · ${row.state}`}
          </span>
        </span>
      </td>
      <td class="c-changed number small muted">{ago(row.changedAt, now)}</td>
    </tr>
  );
}
