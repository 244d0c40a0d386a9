/** A server that scores: how it is asked, and what is said when it does not answer as it should. */

import { Failure, jsonOf, lanes, type Patience, patiently, textOf } from '@rldf/common/base/remote';
import { howToResume } from '@rldf/common/base/underway';
import { UserError } from '@rldf/torch/errors';

/** A server failed for good: the training behind it is whole, and its last finished step can be saved. */
export class RewardUnavailable extends UserError {}

export interface ConnectionOptions extends Partial<Patience> {
  /** Begins messages, such as `reward redness`. */
  where: string;
  /** Where requests go, for messages and for all but their bodies. */
  url: URL;
  /** Requests under way at once. Default 2. */
  parallel?: number;
  /** Name of the environment variable whose value is sent as a bearer token. */
  key?: string | undefined;
  /** Aborted, requests under way end with its reason. */
  signal?: AbortSignal | undefined;
}

export interface Connection {
  /**
   * Asks once more and again until there is an answer that `read` takes.
   * @param of what was asked about, in words that follow "for"
   * @param read throws a `Failure` for an answer that is none
   * @param before is called before each try
   */
  post<T>(body: string, of: string, read: (answer: unknown) => T, before?: () => void): Promise<T>;
  /** What the server says to a GET, once; undefined if it answers none, or with something that is not JSON. */
  describe(): Promise<unknown>;
}

/** Bytes of an answer: numbers and a few words. */
const longestAnswer = 4e6;

export function connect(options: ConnectionOptions): Connection {
  const {
    where,
    url,
    key,
    signal,
    parallel = 2,
    timeoutSeconds = 60,
    retries = 6,
    waitSeconds = 1,
  } = options;
  const patience = { timeoutSeconds, retries, waitSeconds };
  const lane = lanes(parallel);
  const authorization = (): Record<string, string> => {
    if (key === undefined) return {};
    const value = process.env[key];
    if (value === undefined || value === '')
      throw new UserError(`${where}: key: the environment variable ${key} is not set — its value is sent to ${url.host}. Set it`); // biome-ignore format: one thought
    return { authorization: `Bearer ${value}` };
  };
  const unavailable = (reason: string, cause: unknown, of: string) =>
    new RewardUnavailable(
      `${where}: ${url.origin}${url.pathname} ${reason}${of === '' ? '' : `, for ${of}`} — a score is needed for every picture. Look at the server, then ${howToResume() || 'run the command again'}`,
      { cause },
    );
  return {
    post: (body, of, read, before) =>
      lane(() =>
        patiently(
          async (limited) => {
            before?.();
            const response = await fetch(url, {
              method: 'POST',
              redirect: 'manual', // a redirected POST may arrive as a GET, and the key would go elsewhere
              headers: { 'content-type': 'application/json', accept: 'application/json', ...authorization() },
              body,
              signal: limited,
            });
            return read(jsonOf(await textOf(response, longestAnswer)));
          },
          patience,
          (reason, cause) => unavailable(reason, cause, of),
          signal,
        ),
      ),
    async describe() {
      const once = {
        ...patience,
        retries: Math.min(retries, 1),
        timeoutSeconds: Math.min(timeoutSeconds, 20),
      };
      const text = await patiently(
        async (limited) => {
          const response = await fetch(url, {
            redirect: 'manual',
            headers: { accept: 'application/json', ...authorization() },
            signal: limited,
          });
          const refused = response.status === 401 || response.status === 403;
          return response.ok || refused ? await textOf(response, 1e6) : '';
        },
        once,
        (reason, cause) => unavailable(reason, cause, ''),
        signal,
      );
      try {
        return jsonOf(text);
      } catch {
        return undefined;
      }
    },
  };
}

/** An object, whatever was answered. */
export function objectOf(answer: unknown, wanted: string): Record<string, unknown> {
  if (typeof answer === 'object' && answer !== null && !Array.isArray(answer))
    return answer as Record<string, unknown>;
  throw new Failure(
    `answered ${Array.isArray(answer) ? 'a list' : String(answer)} — expected ${wanted}`,
    false,
  );
}
