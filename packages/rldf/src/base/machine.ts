/** What this machine has. */

import { totalmem } from 'node:os';

export { byteWords } from '@rldf/common/base/byte-words';

/** Bytes of memory that this process may use: the machine's, or less in a container. */
export function machineMemory(): number {
  const constrained = process.constrainedMemory?.() ?? 0;
  return constrained > 0 ? Math.min(totalmem(), constrained) : totalmem();
}
