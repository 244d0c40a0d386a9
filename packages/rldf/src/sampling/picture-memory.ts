/**
 * Pictures of the untrained model, kept on disk: arms of a table that begin with the same pictures draw them once. A
 * picture depends on nothing but what names it here, so a run is the same with a memory and without.
 */

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder } from '@rldf/common/base/files';
import { readSafetensors, type Tensor, writeSafetensors } from '@rldf/torch';

/** Tensors by name. They belong to the caller. */
export type DrawnTensors = Record<string, Tensor>;

/**
 * Draws, or remembers.
 * @param what all that the drawing depends on: model, prompts, seeds, sampler. Plain data
 */
export type Recall = (what: object, draw: () => Promise<DrawnTensors>) => Promise<DrawnTensors>;

/** @param folder made with the first picture; remove it to forget */
export function pictureMemory(folder: string): Recall {
  return async (what, draw) => {
    const name = createHash('sha256').update(JSON.stringify(what)).digest('hex').slice(0, 32);
    const file = join(folder, `${name}.safetensors`);
    if (existsSync(file)) return Object.fromEntries(readSafetensors(file).tensors);
    const drawn = await draw();
    makeFolder(folder);
    writeSafetensors(file, new Map(Object.entries(drawn)));
    return drawn;
  };
}
