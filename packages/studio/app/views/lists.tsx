/** Searches and tables that lie below the runs folder. */

import type { RunsAnswer } from '../../src/api.js';
import { ago, grouped, percent } from '../lib/format.js';
import { type Answer, useNow } from '../lib/hooks.js';
import { address } from '../lib/route.js';
import { Empty, Loading, Problem, Share, StateMark } from '../ui/parts.js';

export function SearchesView({ list }: { list: Answer<RunsAnswer> }) {
  const now = useNow(15_000);
  const searches = list.data?.searches;
  if (searches === undefined)
    return list.error === undefined ? (
      <Loading what="the searches" />
    ) : (
      <Problem error={list.error} again={list.again} what="The searches could not be read." />
    );
  if (searches.length === 0) {
    return (
      <Empty title="No searches yet">
        What <code>npx rldf search --image PICTURE --output RUNS/NAME</code> writes below the runs folder
        appears here.
      </Empty>
    );
  }
  return (
    <>
      <header class="view-head">
        <h1>Searches</h1>
      </header>
      <ul class="cards">
        {searches.map((search) => (
          <li key={search.id} class="card">
            <h2>
              <StateMark state={search.state} bare />{' '}
              <a href={address({ view: 'search', id: search.id })}>{search.name}</a>
            </h2>
            <p>{search.found === '' ? <span class="muted">nothing found yet</span> : `“${search.found}”`}</p>
            <p class="small muted">
              {search.isGoal ? <span class="good">the goal</span> : 'not the goal'} · {search.agent} ·{' '}
              {grouped(search.steps)} steps · {ago(search.changedAt, now)}
            </p>
          </li>
        ))}
      </ul>
    </>
  );
}

export function TablesView({ list }: { list: Answer<RunsAnswer> }) {
  const now = useNow(15_000);
  const tables = list.data?.tables;
  if (tables === undefined)
    return list.error === undefined ? (
      <Loading what="the tables" />
    ) : (
      <Problem error={list.error} again={list.again} what="The tables could not be read." />
    );
  if (tables.length === 0) {
    return (
      <Empty title="No tables yet">
        What <code>npx rldf reproduce TABLE</code> makes of its arms and seeds appears here.
      </Empty>
    );
  }
  return (
    <>
      <header class="view-head">
        <h1>Tables</h1>
      </header>
      <ul class="cards">
        {tables.map((table) => (
          <li key={table.id} class="card">
            <h2>
              <a href={address({ view: 'table', id: table.id })}>{table.name}</a>
            </h2>
            <p>{table.question}</p>
            <p class="row small muted">
              <Share value={table.done / Math.max(1, table.wanted)} label={`${table.name}: done`} />{' '}
              {table.done} of {table.wanted} ({percent(table.done / Math.max(1, table.wanted))}) ·{' '}
              {ago(table.changedAt, now)}
            </p>
          </li>
        ))}
      </ul>
    </>
  );
}
