/** What the views share: answers of the server, stores, the media's wishes. */

import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { get, StudioError, server, wasAborted } from './client.js';
import { parseRoute, type Route } from './route.js';
import { Store } from './store.js';

/** Version of the list of runs: grows by the server's events. */
export const listVersion = new Store('');

export function useStore<T>(store: Store<T>): T {
  const [value, setValue] = useState(store.value);
  useEffect(() => {
    setValue(store.value);
    return store.listen(setValue);
  }, [store]);
  return value;
}

export interface Answer<T> {
  data: T | undefined;
  error: StudioError | undefined;
  /** Whether another answer is under way. */
  loading: boolean;
  again: () => void;
}

/**
 * The server's answer to a path; asked for again when the path or `version` changes, and when the server was away. The last answer stays
 * until the next one is there; an answer to another `subject` does not.
 */
export function useAnswer<T>(
  path: string | null,
  version: unknown = 0,
  subject: string | null = path,
): Answer<T> {
  const { generation } = useStore(server);
  const [state, setState] = useState<{
    subject: string | null;
    data?: T | undefined;
    error?: StudioError | undefined;
  }>({ subject });
  const [loading, setLoading] = useState(path !== null);
  const [tries, setTries] = useState(0);
  useEffect(() => {
    if (path === null) return;
    const asking = new AbortController();
    setLoading(true);
    get<T>(path, asking.signal).then(
      (data) => {
        setState({ subject, data });
        setLoading(false);
      },
      (error: unknown) => {
        if (wasAborted(error) || asking.signal.aborted) return;
        const told = error instanceof StudioError ? error : new StudioError('internal', String(error));
        setState((last) => ({
          subject,
          data: last.subject === subject ? last.data : undefined,
          error: told,
        }));
        setLoading(false);
      },
    );
    return () => asking.abort();
  }, [path, subject, version, generation, tries]);
  const again = useCallback(() => setTries((count) => count + 1), []);
  const mine = state.subject === subject;
  return { data: mine ? state.data : undefined, error: mine ? state.error : undefined, loading, again };
}

function useMedia(query: string): boolean {
  const [matches, setMatches] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const media = matchMedia(query);
    const listen = () => setMatches(media.matches);
    listen();
    media.addEventListener('change', listen);
    return () => media.removeEventListener('change', listen);
  }, [query]);
  return matches;
}

export const useReducedMotion = () => useMedia('(prefers-reduced-motion: reduce)');
export const useDark = () => useMedia('(prefers-color-scheme: dark)');
export const useNarrow = () => useMedia('(max-width: 720px)');

export function useRoute(): Route {
  const [route, setRoute] = useState(() => parseRoute(location.hash));
  useEffect(() => {
    const listen = () => setRoute(parseRoute(location.hash));
    addEventListener('hashchange', listen);
    return () => removeEventListener('hashchange', listen);
  }, []);
  return route;
}

/** The time, anew every so often. */
export function useNow(everyMilliseconds = 5000): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), everyMilliseconds);
    return () => clearInterval(timer);
  }, [everyMilliseconds]);
  return now;
}

/** A choice that outlives the page. */
export function useKept<T>(name: string, initial: T): [T, (value: T) => void] {
  const key = `rldf-studio.${name}`;
  const [value, setValue] = useState<T>(() => {
    try {
      const kept = localStorage.getItem(key);
      return kept === null ? initial : (JSON.parse(kept) as T);
    } catch {
      return initial;
    }
  });
  const keep = useCallback(
    (next: T) => {
      setValue(next);
      try {
        localStorage.setItem(key, JSON.stringify(next));
      } catch {
        // A browser that keeps nothing: the choice lasts as long as the page.
      }
    },
    [key],
  );
  return [value, keep];
}

/** Whether an element is near the window, and whether it was once. */
export function useSeen<E extends Element>(): [{ current: E | null }, boolean, boolean] {
  const reference = useRef<E>(null);
  const [seen, setSeen] = useState(false);
  const [near, setNear] = useState(false);
  useEffect(() => {
    const element = reference.current;
    if (element === null) return;
    const watch = new IntersectionObserver(
      (entries) => {
        const there = entries.at(-1)!.isIntersecting;
        setNear(there);
        if (there) setSeen(true);
      },
      { rootMargin: '300px' },
    );
    watch.observe(element);
    return () => watch.disconnect();
  }, []);
  return [reference, seen, near];
}

/** Calls `then` once `value` has not changed for a while. */
export function useSettled<T>(value: T, milliseconds: number): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), milliseconds);
    return () => clearTimeout(timer);
  }, [value, milliseconds]);
  return settled;
}

/** The value, but another one at most every so often, and the last one in the end. */
export function useThrottled<T>(value: T, milliseconds: number): T {
  const [told, setTold] = useState(value);
  const last = useRef(0);
  useEffect(() => {
    const wait = Math.max(0, last.current + milliseconds - Date.now());
    const timer = setTimeout(() => {
      last.current = Date.now();
      setTold(value);
    }, wait);
    return () => clearTimeout(timer);
  }, [value, milliseconds]);
  return told;
}
