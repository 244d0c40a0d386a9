/** An answer that is an error. */
export class Problem extends Error {
  constructor(
    readonly status: 400 | 401 | 403 | 404 | 409 | 410 | 413 | 415 | 500 | 503,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

export const badRequest = (message: string) => new Problem(400, 'bad-request', message);
export const notFound = (message: string) => new Problem(404, 'not-found', message);
export const gone = (message: string) => new Problem(410, 'gone', message);
export const conflict = (message: string) => new Problem(409, 'conflict', message);
export const unavailable = (message: string) => new Problem(503, 'unavailable', message);

export const codeOf = (error: unknown) => (error as NodeJS.ErrnoException | null)?.code;
export const isMissing = (error: unknown) => ['ENOENT', 'ENOTDIR'].includes(codeOf(error) ?? '');
