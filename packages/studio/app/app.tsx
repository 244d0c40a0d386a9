/** The page around the views: bar, connection, announcements. */

import { useEffect, useRef, useState } from 'preact/hooks';
import type { RunsAnswer, StudioInfo } from '../src/api.js';
import { followServer, type ServerState, server } from './lib/client.js';
import { duration } from './lib/format.js';
import { listVersion, useAnswer, useNow, useRoute, useStore } from './lib/hooks.js';
import { address, type Route } from './lib/route.js';
import { Empty } from './ui/parts.js';
import { CompareView } from './views/compare.js';
import { SearchesView, TablesView } from './views/lists.js';
import { RateView } from './views/rate.js';
import { RunView } from './views/run.js';
import { RunsView } from './views/runs.js';
import { SearchView } from './views/search.js';
import { TableView } from './views/table.js';

export function App() {
  const route = useRoute();
  const version = useStore(listVersion);
  const main = useRef<HTMLElement>(null);
  const list = useAnswer<RunsAnswer>('/api/runs', version);
  const { data: info } = useAnswer<StudioInfo>('/api/studio');
  useEffect(() => followServer((next) => listVersion.set(next)), []);

  // Another view: its heading gets the focus, so that keys and screen readers begin there.
  const place = route.view === 'run' ? `run ${route.id}` : JSON.stringify(route);
  const lastPlace = useRef(place);
  useEffect(() => {
    if (lastPlace.current === place) return;
    lastPlace.current = place;
    scrollTo(0, 0);
    main.current?.focus({ preventScroll: true });
  }, [place]);

  const section =
    route.view === 'search' || route.view === 'searches'
      ? 'searches'
      : route.view === 'table' || route.view === 'tables'
        ? 'tables'
        : route.view === 'rate'
          ? 'rate'
          : 'runs';
  const counts = {
    runs: list.data?.runs.length,
    searches: list.data?.searches.length,
    tables: list.data?.tables.length,
  };
  const here = (name: string) => (name === section ? ('page' as const) : undefined);
  return (
    <>
      {/* biome-ignore lint/a11y/useValidAnchor: it leads to the main part; the address is the view's */}
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          main.current?.focus();
        }}
      >
        Skip to the content
      </a>
      <header class="bar">
        <a class="brand" href={address({ view: 'runs' })} aria-label="rldf studio, all runs">
          <Brand />
          <span>
            rldf <span class="muted">studio</span>
          </span>
        </a>
        <nav aria-label="Sections">
          <ul>
            <li>
              <a href={address({ view: 'runs' })} aria-current={here('runs')}>
                Runs <Count value={counts.runs} />
              </a>
            </li>
            <li>
              <a href={address({ view: 'searches' })} aria-current={here('searches')}>
                Searches <Count value={counts.searches} />
              </a>
            </li>
            <li>
              <a href={address({ view: 'tables' })} aria-current={here('tables')}>
                Tables <Count value={counts.tables} />
              </a>
            </li>
            <li>
              <a href={address({ view: 'rate', run: null, kind: 'rollout' })} aria-current={here('rate')}>
                Rate
              </a>
            </li>
          </ul>
        </nav>
        <span class="grow" />
        {info !== undefined && (
          <span class="small muted folder cut" title={`runs folder: ${info.runsFolder}`}>
            {info.runsFolder}
          </span>
        )}
        <Link />
      </header>
      <Connection />
      <Alarms list={list.data} />
      <main id="main" ref={main} tabIndex={-1} data-place={location.hash}>
        <View route={route} list={list} canDraw={info?.canDraw ?? true} />
      </main>
    </>
  );
}

function View({
  route,
  list,
  canDraw,
}: {
  route: Route;
  list: ReturnType<typeof useAnswer<RunsAnswer>>;
  canDraw: boolean;
}) {
  switch (route.view) {
    case 'runs':
      return <RunsView list={list} />;
    case 'run':
      return <RunView key={route.id} id={route.id} tab={route.tab} canDraw={canDraw} />;
    case 'compare':
      return <CompareView runs={route.runs} rows={list.data?.runs ?? []} />;
    case 'searches':
      return <SearchesView list={list} />;
    case 'search':
      return <SearchView key={route.id} id={route.id} />;
    case 'tables':
      return <TablesView list={list} />;
    case 'table':
      return <TableView key={route.id} id={route.id} />;
    case 'rate':
      return <RateView run={route.run} kind={route.kind} rows={list.data?.runs ?? []} />;
    default:
      return (
        <Empty title="There is no such page">
          Nothing lies at “{route.path}”. <a href="#/">All runs</a>
        </Empty>
      );
  }
}

const Count = ({ value }: { value: number | undefined }) =>
  value === undefined ? null : <span class="count">{value}</span>;

function Brand() {
  return (
    <svg viewBox="0 0 24 24" width="22" height="22" aria-hidden="true" focusable="false">
      <rect x="1" y="1" width="22" height="22" rx="6" fill="var(--accent)" />
      <path
        d="M5 16.5 9.5 11l3.5 3 6-7.5"
        fill="none"
        stroke="var(--on-accent)"
        stroke-width="2.2"
        stroke-linecap="round"
        stroke-linejoin="round"
      />
      <circle cx="19" cy="6.5" r="2" fill="var(--on-accent)" />
    </svg>
  );
}

const linkWords: Record<ServerState['state'], string> = {
  connecting: 'connecting',
  up: 'live',
  lost: 'no connection',
  refused: 'not let in',
};

function Link() {
  const { state } = useStore(server);
  return (
    <span class={`link ${state}`}>
      <span class="dot" aria-hidden="true" />
      <span class="small">{linkWords[state]}</span>
    </span>
  );
}

/** What to do when the server is away. Announced at once; gone when it is back. */
function Connection() {
  const { state, since } = useStore(server);
  const now = useNow(1000);
  const patient = state !== 'connecting' || now - since > 4000;
  return (
    <div aria-live="assertive" class="connection">
      {state === 'refused' && (
        <p class="banner bad-banner">
          <strong>The server does not know this page.</strong> It was started with another key. Open the
          address that <code>rldf studio</code> printed.
        </p>
      )}
      {(state === 'lost' || (state === 'connecting' && patient)) && (
        <p class="banner warn-banner">
          <strong>The server does not answer.</strong> What is shown may be old
          {now - since > 3000 && (
            <span aria-hidden="true"> ({duration(Math.round((now - since) / 1000))})</span>
          )}
          . This page goes on by itself once <code>rldf studio</code> runs again at the same address.
        </p>
      )}
    </div>
  );
}

/** Says each new alarm once, wherever one is on the page. */
function Alarms({ list }: { list: RunsAnswer | undefined }) {
  const known = useRef<Set<string> | null>(null);
  const [said, setSaid] = useState('');
  useEffect(() => {
    if (list === undefined) return;
    const now = list.runs.filter(({ alarm }) => alarm !== null);
    const before = known.current;
    known.current = new Set(now.map(({ id }) => id));
    const fresh = before === null ? [] : now.filter(({ id }) => !before.has(id));
    if (fresh.length > 0)
      setSaid(fresh.map(({ name, alarm }) => `Hack watch: ${name}, from step ${alarm!.step} on`).join('. '));
  }, [list]);
  return (
    <p class="hidden" aria-live="assertive">
      {said}
    </p>
  );
}
