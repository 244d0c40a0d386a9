/** The server's answers, and whether it is there. */

import type { ApiError } from '../../src/api.js';
import { backoff } from './backoff.js';
import { Store } from './store.js';

/** What the server refused, or that it was not there (`code: 'unreachable'`), in words for people. */
export class StudioError extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/**
 * `up`: it answers. `lost`: it did, and does not. `refused`: it does not know this page's key.
 * `generation` grows whenever it comes back: file ids of before are void then.
 */
export interface ServerState {
  state: 'connecting' | 'up' | 'lost' | 'refused';
  generation: number;
  since: number;
}

export const server = new Store<ServerState>({ state: 'connecting', generation: 0, since: Date.now() });

function serverIs(state: ServerState['state']): void {
  const { state: before, generation } = server.value;
  if (before === state) return;
  const back = state === 'up' && before !== 'connecting';
  server.set({ state, generation: generation + (back ? 1 : 0), since: Date.now() });
}

export const get = <T>(path: string, signal?: AbortSignal): Promise<T> =>
  ask(path, { signal: signal ?? null });

export const post = <T>(path: string, body: unknown = {}): Promise<T> =>
  ask(path, { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' } });

export const remove = (path: string): Promise<unknown> =>
  ask(path, { method: 'DELETE', headers: { 'content-type': 'application/json' } });

async function ask<T>(path: string, init: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, { ...init, credentials: 'same-origin' });
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw new StudioError('unreachable', 'The server does not answer.');
  }
  if (response.ok) return (await response.json()) as T;
  if (response.status === 401) serverIs('refused');
  const told = (await response.json().catch(() => null)) as ApiError | null;
  throw new StudioError(
    told?.error?.code ?? 'internal',
    told?.error?.message ?? `The server answered with status ${response.status} and said no more.`,
  );
}

/** Whether the error only says that nobody waits for the answer any more. */
export const wasAborted = (error: unknown): boolean =>
  error instanceof DOMException && error.name === 'AbortError';

/**
 * Server-sent events that come back after the server was away, for as long as `close` was not called.
 * @param address asked for anew at each try, so that it can say where to go on
 */
export class Stream<Events extends object> {
  #source: EventSource | undefined;
  #attempt = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(
    readonly address: () => string,
    readonly handlers: { [Name in keyof Events]?: (data: Events[Name]) => void },
    readonly linked: (open: boolean) => void = () => undefined,
  ) {
    this.#open();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#source?.close();
  }

  #open(): void {
    const source = new EventSource(this.address());
    this.#source = source;
    source.onopen = () => {
      this.#attempt = 0;
      this.linked(true);
    };
    source.onerror = () => {
      source.close();
      if (this.#closed) return;
      this.linked(false);
      this.#timer = setTimeout(() => this.#open(), backoff(this.#attempt++));
    };
    for (const name of Object.keys(this.handlers) as (keyof Events & string)[]) {
      source.addEventListener(name, (event) => {
        if (!this.#closed) this.handlers[name]?.(JSON.parse((event as MessageEvent<string>).data) as never);
      });
    }
  }
}

/** Follows the list of runs for as long as the page lives; says whether the server is there. */
export function followServer(changed: (version: string) => void): void {
  new Stream<{ changed: { version: string } }>(
    () => '/api/events',
    { changed: ({ version }) => changed(version) },
    (open) => {
      if (open) return serverIs('up');
      if (server.value.state === 'connecting' || server.value.state === 'up') serverIs('lost');
      // An event source does not tell a server that is away from one that refuses.
      get('/api/studio').catch(() => undefined);
    },
  );
}
