/**
 * Pictures of the untrained model, kept on disk: arms of a table that begin with the same pictures draw them once, and a
 * run is the same with a memory and without. The weights of the autoencoder are not part of a picture's name: keep one
 * folder for one model.
 */

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder } from '@rldf/common/base/files';
import { baseFingerprint } from '@rldf/common/instruments/adapter-base';
import type { Pipeline } from '@rldf/models';
import { readSafetensors, type Tensor, writeSafetensors } from '@rldf/torch';

/** Tensors by name. They belong to the caller. */
export type DrawnTensors = Record<string, Tensor>;

/**
 * Draws, or remembers.
 * @param what all that the drawing depends on besides the model: prompts, seeds, steps, guidance. Plain data
 */
export type Recall = (what: object, draw: () => Promise<DrawnTensors>) => Promise<DrawnTensors>;

/**
 * @param folder made with the first picture; remove it to forget
 * @param pipeline not trained yet
 */
export function pictureMemory(folder: string, pipeline: Pipeline): Recall {
  const { schedulerConfig, promptChunks = 1, size, microConditioning, groundingBeta } = pipeline;
  const base = baseFingerprint(pipeline);
  const types = Object.values(pipeline.parameters).map(({ dtype }) => dtype);
  const precision = types.every((type) => type === 'float32') ? undefined : [pipeline.unet.dtype, ...types];
  const model = { base, schedulerConfig, promptChunks, size, microConditioning, groundingBeta, precision };
  return async (what, draw) => {
    const name = createHash('sha256').update(JSON.stringify({ model, what })).digest('hex').slice(0, 32);
    const file = join(folder, `${name}.safetensors`);
    if (existsSync(file)) return Object.fromEntries(readSafetensors(file).tensors);
    const drawn = await draw();
    makeFolder(folder);
    writeSafetensors(file, new Map(Object.entries(drawn)));
    return drawn;
  };
}
