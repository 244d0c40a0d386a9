/** A mistake of the user's: wrong input, impossible request. The command line exits with code 2. */
export class UserError extends Error {
  override name = 'UserError';
}

/** A value from a file as messages show it: short, and never an error of its own, whatever the value is. */
export function shown(value: unknown): string {
  if (typeof value === 'number' || typeof value === 'bigint') return String(value);
  let text: string | undefined;
  try {
    text = JSON.stringify(value, (_, item) => (isJson(item) ? item : String(item)));
  } catch {
    text = 'a deeply nested value'; // JSON.stringify overflows the stack where JSON.parse does not
  }
  if (text === undefined) return value === undefined ? 'nothing' : String(value);
  return text.length > 100 ? `${text.slice(0, 97)}...` : text;
}

/** JSON knows no NaN, infinity and BigInt. */
const isJson = (item: unknown) =>
  typeof item !== 'bigint' && (typeof item !== 'number' || Number.isFinite(item));

/** Whether memory ran out: on a GPU, in the heap, or by a tensor that is larger than the machine. */
export function isOutOfMemory(error: unknown): boolean {
  const words =
    /out of memory|not enough memory|can't allocate memory|bad_alloc|bytes was asked for, but this machine has/i;
  return error instanceof Error && !(error instanceof UserError) && words.test(error.message);
}

/** A fault of ours. The command line exits with code 1. */
export class InternalError extends Error {
  override name = 'InternalError';
  constructor(message: string) {
    super(`internal: ${message}`);
  }
}
