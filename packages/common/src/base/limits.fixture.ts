/** Time limits of requests (`AbortSignal.timeout`) that run out when a test says so, and never by the clock. */

import { afterEach, beforeEach, vi } from 'vitest';

export interface Limits {
  /** Of each request of this test so far, milliseconds. */
  readonly asked: number[];
  /** The limit of the newest request runs out. */
  expire(): void;
  /** The head of its answer has come, or it has failed. */
  answered(): Promise<unknown>;
}

/** For all tests of a file. */
export function limitsOfTests(): Limits {
  const asked: number[] = [];
  let newest = new AbortController();
  let restore = () => {};
  let answer: Promise<unknown> = Promise.resolve();
  beforeEach(() => {
    asked.length = 0;
    const { fetch } = globalThis;
    const limit = vi.spyOn(AbortSignal, 'timeout').mockImplementation((milliseconds) => {
      asked.push(milliseconds);
      newest = new AbortController();
      return newest.signal;
    });
    const request = vi.spyOn(globalThis, 'fetch').mockImplementation((...given) => {
      const response = fetch(...given);
      answer = response.catch(() => {}); // whoever asked is told
      return response;
    });
    restore = () => [limit, request].forEach((spy) => void spy.mockRestore());
  });
  afterEach(() => restore());
  return {
    asked,
    expire: () => newest.abort(new DOMException('the limit runs out', 'TimeoutError')),
    answered: () => answer,
  };
}
