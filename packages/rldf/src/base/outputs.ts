/** What a command writes is never what it reads. */

import { realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { UserError } from '@rldf/torch/errors';

/** What an adapter is called in its folder, which may be a link. */
const adapterNames = ['pytorch_lora_weights.safetensors', 'adapter_model.safetensors'];

/**
 * @param output the file to be written
 * @param inputs what is read: files, or folders with an adapter, of which no file is overwritten
 * @throws UserError when one of them would be overwritten, by whatever name (links) it is given
 */
export function refuseOverwriting(option: string, output: string, inputs: readonly string[]): void {
  const target = identity(output);
  if (target === undefined) return;
  const folder = identity(dirname(realpathSync(output)));
  const hit = inputs.find(
    (input) =>
      [target, folder].includes(identity(input)) ||
      adapterNames.some((name) => identity(join(input, name)) === target),
  );
  if (hit === undefined) return;
  throw new UserError(
    `${option} ${output}: is the input ${hit} — it would be overwritten by what is made of it. Choose another name`,
  );
}

/** The same for all names of a file; nothing where there is none. */
function identity(path: string): string | undefined {
  try {
    const { dev, ino } = statSync(path, { bigint: true });
    return `${dev} ${ino}`;
  } catch {
    return undefined;
  }
}
