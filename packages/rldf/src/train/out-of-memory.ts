/** What a run does when memory runs out: fewer pictures at once, from the newest checkpoint on. */

import { isOutOfMemory, UserError } from '@rldf/torch/errors';

/** How many pictures are worked on at once. The fields of the recipe that a training reads, so that it follows a change. */
export interface BatchSizes {
  sample: { batchSize: number };
  train: { batchSize: number };
}

/**
 * Halves what the phase depends on, and tells so.
 * @param phase what was being done, as progress names it
 * @param workers that share the run: what one of them halves alone, the others do not know of, and would wait for
 * @returns nothing for errors of other kinds
 * @throws UserError when there is nothing left to halve, or nobody who may
 */
export function halveAfter(
  error: unknown,
  sizes: BatchSizes | undefined,
  phase: string,
  workers = 1,
): string | undefined {
  if (sizes === undefined || !isOutOfMemory(error)) return undefined;
  const { sample, train } = sizes;
  const [words] = (error as Error).message.split('\n');
  if (workers > 1) {
    throw new UserError(
      `train: memory ran out ${phase} (${words}) in one of ${workers} workers — only a run of one worker halves its batches by itself; the last checkpoint is whole. Set sample.batchSize below ${sample.batchSize} and train.batchSize below ${train.batchSize}, or take fewer workers on this machine (\`rldf plan --workers\` says what fits), and start a new run; or go on with one worker: rldf resume`,
    );
  }
  const learning = phase === 'learning' && train.batchSize > 1;
  const changed = (learning ? [train] : [sample, train]).filter(({ batchSize }) => batchSize > 1);
  if (changed.length === 0) {
    throw new UserError(
      `train: memory ran out ${phase} with one picture at once (${words}) — nothing smaller is left to try; the last checkpoint is whole. Set train.checkpointing: true, precision: bfloat16 or, on a GPU, offload: true (\`rldf plan\` says what fits), and start a new run`,
    );
  }
  for (const one of changed) one.batchSize >>= 1;
  return `memory ran out ${phase} (${words}): from the newest checkpoint on ${sample.batchSize} ${sample.batchSize === 1 ? 'picture is' : 'pictures are'} drawn and the gradient of ${train.batchSize} computed at once. The same pictures stand behind each update: what is learned stays the same up to rounding`;
}
