/** How long to wait before the next try to reach the server: soon at first, never longer than five seconds. In milliseconds. */
export const backoff = (attempt: number): number => Math.min(5000, 250 * 2 ** Math.min(attempt, 10));
