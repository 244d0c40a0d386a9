/** Which view the address shows: all behind "#", so that the server needs to know one page only. */

export const runTabs = ['curves', 'pictures', 'time', 'strength', 'findings', 'recipe'] as const;
export type RunTab = (typeof runTabs)[number];

export type Route =
  | { view: 'runs' }
  | { view: 'run'; id: string; tab: RunTab }
  | { view: 'compare'; runs: string[] }
  | { view: 'searches' }
  | { view: 'search'; id: string }
  | { view: 'tables' }
  | { view: 'table'; id: string }
  | { view: 'rate'; run: string | null; kind: string }
  | { view: 'unknown'; path: string };

/** @param hash `location.hash`, such as "#/run/first/pictures" */
export function parseRoute(hash: string): Route {
  const text = hash.replace(/^#\/?/, '');
  const [path = '', query = ''] = text.split('?');
  const parts = path.split('/').filter(Boolean).map(decoded);
  const asked = new URLSearchParams(query);
  const [view, id, tab] = parts;
  if (view === undefined) return { view: 'runs' };
  if (view === 'searches' || view === 'tables') return { view };
  if (view === 'compare') return { view, runs: (asked.get('runs') ?? '').split(',').filter(Boolean) };
  if (view === 'rate') return { view, run: asked.get('run'), kind: asked.get('kind') ?? 'rollout' };
  if (id !== undefined && (view === 'search' || view === 'table')) return { view, id };
  if (id !== undefined && view === 'run')
    return { view, id, tab: (runTabs as readonly string[]).includes(tab ?? '') ? (tab as RunTab) : 'curves' };
  return { view: 'unknown', path };
}

/** The address of a view: what `parseRoute` reads. */
export function address(route: Exclude<Route, { view: 'unknown' }>): string {
  const safe = encodeURIComponent;
  switch (route.view) {
    case 'runs':
      return '#/';
    case 'searches':
    case 'tables':
      return `#/${route.view}`;
    case 'run':
      return `#/run/${safe(route.id)}${route.tab === 'curves' ? '' : `/${route.tab}`}`;
    case 'compare':
      return `#/compare?runs=${route.runs.map(safe).join(',')}`;
    case 'rate':
      return `#/rate?${new URLSearchParams({ ...(route.run === null ? {} : { run: route.run }), kind: route.kind })}`;
    default:
      return `#/${route.view}/${safe(route.id)}`;
  }
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
