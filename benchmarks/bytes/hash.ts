import { createHash } from 'node:crypto';

/** What is compared of one case: a short hash for each kind of output. */
export type Hashes = Record<string, string>;

export function hashOf(...parts: (string | ArrayBufferView | Buffer)[]): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part as string);
  return hash.digest('hex').slice(0, 16);
}
