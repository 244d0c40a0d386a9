/** Requests to a hub: with token, patience and an answer in plain words when it says no. */

import { UserError } from '@rldf/torch/errors';
import { version } from '../base/version.js';
import { type HubId, hubName } from './id.js';
import type { HubSettings } from './settings.js';

export interface HubOptions {
  settings: HubSettings;
  /** Aborting ends what is under way; files go on where they stopped. */
  signal?: AbortSignal | undefined;
  /** Told while a hub keeps us waiting. */
  onNotice?: ((text: string) => void) | undefined;
}

/** Requests that are made again after no answer, or the answer that the hub is busy. */
const tries = 6;
/** A name or a port that is not there rarely comes to be. */
const fewTries = 2;
const absent = ['ENOTFOUND', 'ECONNREFUSED', 'ERR_INVALID_URL'];
/** A hub that asks for more patience is left. */
const longestWait = 300;
const busy = [408, 429, 500, 502, 503, 504];

/** The connection broke, or the server ignored where the file should go on: worth another try. */
export class Interrupted extends Error {}

export class Connection {
  readonly #id: HubId;
  readonly #options: HubOptions;
  /** What `fetch` last threw: libraries between it and us pass on no more than its text. */
  #failure: unknown;

  constructor(id: HubId, options: HubOptions) {
    this.#id = id;
    this.#options = options;
  }

  get settings(): HubSettings {
    return this.#options.settings;
  }

  /** What a library should have thrown: our own error if a request of ours failed, else its own. */
  cause(error: unknown): unknown {
    const failure = this.#failure ?? error;
    this.#failure = undefined;
    return failure;
  }

  /** As the global `fetch`, for libraries that take one. */
  readonly fetch: typeof fetch = async (input, init) => {
    try {
      return await this.#patiently(String(input instanceof Request ? input.url : input), init ?? {});
    } catch (error) {
      this.#failure = error;
      throw error;
    }
  };

  async #patiently(url: string, init: RequestInit): Promise<Response> {
    const { settings, signal, onNotice } = this.#options;
    const headers = new Headers(init.headers);
    headers.set('User-Agent', `rldf/${version}`);
    // never to another host: files lie behind links that carry their own permission
    if (settings.token && new URL(url).origin === new URL(settings.endpoint).origin)
      headers.set('Authorization', `Bearer ${settings.token.value}`);
    for (let attempt = 1; ; attempt++) {
      let response: Response;
      try {
        response = await fetch(url, { ...init, headers, ...(signal && { signal }) });
      } catch (error) {
        signal?.throwIfAborted();
        const { cause } = error as { cause?: { code?: string } };
        const most = absent.includes(cause?.code ?? '') ? fewTries : tries;
        if (attempt === most) throw unreachable(this.#id, settings, error);
        await settings.wait(2 ** (attempt - 1), signal);
        continue;
      }
      if (response.ok) return this.#checked(response, headers);
      await response.body?.cancel();
      if (!busy.includes(response.status)) throw refusal(this.#id, settings, response);
      const asked = patienceOf(response);
      if (attempt === tries || (asked ?? 0) > longestWait) throw tooBusy(this.#id, settings, response, asked);
      const seconds = asked ?? 2 ** (attempt - 1);
      onNotice?.(`${settings.endpoint} answers ${response.status}; asking again in ${seconds} s`);
      await settings.wait(seconds, signal);
    }
  }

  /** A server that does not know ranges would send the file from its start, to be put behind what is there. */
  #checked(response: Response, headers: Headers): Response {
    const start = Number(/^bytes=(\d+)-/.exec(headers.get('Range') ?? '')?.[1] ?? 0);
    if (start === 0 || response.status === 206) return response;
    throw new Interrupted(`${response.url}: does not continue at byte ${start}`);
  }
}

/** Seconds that a busy hub asks to wait: a number, or a date. */
function patienceOf(response: Response): number | undefined {
  const after = response.headers.get('Retry-After');
  if (after === null) return undefined;
  const seconds = /^\d+$/.test(after.trim())
    ? Number(after)
    : Math.ceil((Date.parse(after) - Date.now()) / 1000);
  return Number.isFinite(seconds) ? Math.max(0, seconds) : undefined;
}

function unreachable(id: HubId, { endpoint, cache }: HubSettings, error: unknown): UserError {
  const { message, cause } = error as Error & { cause?: { code?: string; message?: string } };
  return new UserError(
    `${hubName(id)}: ${endpoint} cannot be reached (${cause?.code ?? cause?.message ?? message}) — the model is not in ${cache}, and must be downloaded once. Check the connection (HTTPS_PROXY is used with NODE_USE_ENV_PROXY=1), or set HF_ENDPOINT to a mirror; what has come is kept`,
    { cause: error },
  );
}

function tooBusy(id: HubId, { endpoint }: HubSettings, response: Response, asked?: number): UserError {
  const { status } = response;
  const why =
    status === 429
      ? `has had too many requests from this address (429)${asked === undefined ? '' : ` and asks to wait ${asked} s`}`
      : `is out of order (${status})`;
  return new UserError(
    `${hubName(id)}: ${endpoint} ${why} — it was asked ${tries} times at most. Run the command again later${status === 429 ? ', or with a token (HF_TOKEN), which may ask more often' : ''}; what has come is kept`,
  );
}

/** What an answer of 400 to 499 means, by the hub's own code where it gives one. */
function refusal(id: HubId, { endpoint, token }: HubSettings, response: Response): UserError {
  const { status } = response;
  const name = hubName(id);
  const page = `${endpoint}/${id.repo}`;
  const code = response.headers.get('X-Error-Code');
  const says = response.headers.get('X-Error-Message');
  const user = token === undefined ? undefined : `the token of ${token.from}`;
  if (code === 'GatedRepo')
    return new UserError(
      user === undefined
        ? `${name}: is gated (${status}) — its conditions must be accepted by an account first. Accept them on ${page}, make a token in that account's settings, and set HF_TOKEN to it`
        : `${name}: is gated, and ${user} may not read it (${status}) — its account has not been let in, or the token may not read gated models. Accept the conditions on ${page} with that account, wait where its owner decides, and check the token's permissions`,
    );
  if (code === 'RevisionNotFound')
    return new UserError(
      `${name}: there is no revision ${id.revision} of ${id.repo} (${status}) — a branch, a tag or a commit must be named after the @. Look on ${page}/tree/main`,
    );
  if (code === 'EntryNotFound')
    return new UserError(
      `${name}: there is no such file (${status}) — the repository does not hold ${id.file ?? response.url}. Look on ${page}/tree/${id.revision}`,
    );
  if (code === 'DisabledRepo' || status === 451)
    return new UserError(
      `${name}: is closed (${status}${says ? `: ${says}` : ''}) — nobody can download it. Use another model`,
    );
  if (status === 401 && user !== undefined && code !== 'RepoNotFound')
    return new UserError(
      `${name}: ${endpoint} does not accept ${user} (401) — it is mistyped, expired or withdrawn. Renew it, or unset it for what is public`,
    );
  if (status === 401 || status === 404)
    return new UserError(
      `${name}: there is no such model on ${endpoint} (${status}), or it is private${user === undefined ? ' and no token was given' : ` and ${user} may not see it`} — ids are owner/name, with upper and lower case as on its page. Check the id${user === undefined ? ', or set HF_TOKEN' : ''}`,
    );
  return new UserError(
    `${name}: ${endpoint} refuses it (${status}${says ? `: ${says}` : ''})${user === undefined ? '' : ` to ${user}`} — the repository may be closed to it. Look on ${page}`,
  );
}
