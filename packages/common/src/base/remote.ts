/** Requests to servers that may stall, drop, answer too much or be busy: a time limit, further tries, the reason in words. */

import { setTimeout as sleep } from 'node:timers/promises';
import { UserError } from '@rldf/torch/errors';

export interface Patience {
  /** Seconds for one whole answer. */
  timeoutSeconds: number;
  /** Further tries after the first, where another may help. */
  retries: number;
  /** Seconds before the first of them; doubles with each, up to a minute, unless the server says when. */
  waitSeconds: number;
}

/** Why a request failed, in words that follow its address. */
export class Failure extends Error {
  constructor(
    message: string,
    /** Whether another try may help. */
    readonly again: boolean,
    /** Seconds that the server asks to wait. */
    readonly after?: number,
  ) {
    super(message);
  }
}

const longestWaitSeconds = 60;

/** Whether a server that answers so may answer otherwise later. */
export const retryable = (status: number): boolean =>
  status === 408 || status === 425 || status === 429 || status >= 500;

/**
 * Asks until there is an answer.
 * @param ask one try; a `UserError` that it throws ends all, what else it throws besides a `Failure` is a broken connection
 * @param failed the error to throw at last, from the reason in words
 * @throws what `failed` gives, or the signal's reason
 */
export async function patiently<T>(
  ask: (signal: AbortSignal) => Promise<T>,
  { timeoutSeconds, retries, waitSeconds }: Patience,
  failed: (reason: string, cause: unknown) => Error,
  signal?: AbortSignal,
): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    signal?.throwIfAborted();
    const limit = AbortSignal.timeout(timeoutSeconds * 1000);
    try {
      return await ask(signal === undefined ? limit : AbortSignal.any([limit, signal]));
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof UserError) throw error;
      const failure = failureOf(error, limit, timeoutSeconds);
      if (!failure.again || attempt >= retries)
        throw failed(`${failure.message}${attempt === 0 ? '' : `, ${attempt + 1} times`}`, error);
      const seconds = Math.min(longestWaitSeconds, failure.after ?? waitSeconds * 2 ** attempt);
      try {
        await sleep(seconds * 1000, undefined, signal && { signal });
      } catch {
        signal?.throwIfAborted(); // with its own reason
      }
    }
  }
}

function failureOf(error: unknown, limit: AbortSignal, timeoutSeconds: number): Failure {
  if (error instanceof Failure) return error;
  const reason = limit.aborted
    ? `gave no answer within ${timeoutSeconds} s`
    : `cannot be reached (${reasonOf(error)})`;
  return new Failure(reason, true);
}

function reasonOf(error: unknown): string {
  const { cause, message } = error as { cause?: { code?: string; message?: string }; message?: string };
  return cause?.code ?? cause?.message ?? message ?? String(error);
}

/** Largest answer that is read, bytes. */
const longestAnswer = 64 * 2 ** 20;

/**
 * The text of an answer.
 * @throws Failure with the server's own words when its status says so, or when the answer does not end
 */
export async function textOf(response: Response, most = longestAnswer): Promise<string> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    length += piece.length;
    if (length > most) throw new Failure(`answered with more than ${most} bytes`, false);
    pieces.push(piece);
  }
  const text = Buffer.concat(pieces).toString('utf8');
  if (response.ok) return text;
  const moved = response.headers.get('location');
  if (response.status >= 300 && response.status < 400 && moved !== null)
    throw new Failure(`answered ${response.status}: it has moved to ${moved}`, false);
  const after = Number(response.headers.get('retry-after'));
  const again = retryable(response.status);
  throw new Failure(`answered ${response.status}${wordsOf(text)}`, again, after > 0 ? after : undefined);
}

/** @throws Failure */
export function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    const beginning = JSON.stringify(text.slice(0, 60));
    const number = /[[:,]\s*(NaN|-?Infinity)\b/.exec(text)?.[1];
    throw new Failure(
      number === undefined
        ? `answered something that is not JSON (${beginning})`
        : `answered ${number} where a number belongs (${beginning}), which JSON does not know`,
      false,
    );
  }
}

/** The server's own words, if it has any: `{ error: { message } }`, `{ error }`, `{ message }` or `{ detail }`. */
function wordsOf(text: string): string {
  try {
    const { error, message, detail } = JSON.parse(text) as Record<string, unknown>;
    const words = [(error as { message?: unknown } | undefined)?.message, error, message, detail];
    const found = words.find((one) => typeof one === 'string') as string | undefined;
    return found === undefined ? '' : ` (${found.slice(0, 200)})`;
  } catch {
    return '';
  }
}

/** Runs at most so many at once, the others in their order. */
export function lanes(most: number): <T>(work: () => Promise<T>) => Promise<T> {
  let free = most;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (free === 0) await new Promise<void>((resolve) => waiting.push(resolve));
    else free--;
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next === undefined) free++;
      else next();
    }
  };
}

/** What was begun comes in the order in which it was begun, however long each takes; a failure holds nobody up. */
export function inTurn(): <T>(work: Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const before = last;
    const mine = work.then((value) => before.then(() => value));
    last = mine.catch(() => before);
    return mine;
  };
}
