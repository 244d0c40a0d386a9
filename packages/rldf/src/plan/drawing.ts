/** What drawing will need, before it begins: the memory is checked, and the time is told. Small drawings just begin. */

import { latentShape, type Pipeline } from '@rldf/models';
import type { Device, shapes } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { byteWords, machineMemory } from '../base/machine.js';
import { askShapes } from './ask-shapes.js';
import { calibrate } from './calibration.js';
import { processBytes } from './plan.js';

export interface DrawingQuestion {
  folder: string;
  batchSize: number;
  width?: number;
  height?: number;
  /** Whether the unguided half is drawn too. */
  guided: boolean;
}

export interface DrawingAnswer {
  /** The most bytes in tensors. */
  peak: number;
  /** Of one denoising step of the batch, and its decoding. */
  drawing: shapes.Work[];
  decoding: shapes.Work[];
}

export interface Drawing extends DrawingQuestion {
  device: Device;
  pictures: number;
  steps: number;
}

/** Below so many places of latents at once every machine draws every model that it can load. */
const always = 8192;
/** Seconds for trying this machine. */
const budget = 1;

/**
 * The estimated seconds of a large drawing; nothing for a small one, or on a GPU.
 * @param memory bytes that there are
 * @throws UserError when it needs more memory than there is, with what would fit
 */
export async function checkDrawing(
  pipeline: Pipeline,
  { device, pictures, steps, ...asked }: Drawing,
  memory = machineMemory(),
): Promise<number | undefined> {
  const { folder, width, height, guided } = asked;
  const size = { ...(width === undefined ? {} : { width }), ...(height === undefined ? {} : { height }) };
  const [, rows, columns] = latentShape(pipeline, size);
  const batchSize = Math.min(asked.batchSize, pictures);
  if (device !== 'cpu' || batchSize * rows * columns <= always) return undefined;
  const ask = (batch: number) =>
    askShapes<DrawingQuestion, DrawingAnswer>('drawing-process', {
      ...{ folder, guided, batchSize: batch, ...size },
    });
  const answer = await ask(batchSize);
  const limit = memory - processBytes;
  if (answer.peak > limit) {
    const { downFactor } = pipeline.vae;
    const one = batchSize === 1 ? answer.peak : (await ask(1)).peak;
    const each = (answer.peak - one) / Math.max(1, batchSize - 1);
    const fix =
      one > limit
        ? 'Draw smaller pictures with --width and --height'
        : `Use --batch-size ${Math.floor(1 + (limit - one) / each)}; the pictures stay the same`;
    throw new UserError(
      `${batchSize} picture${batchSize === 1 ? '' : 's'} of ${columns * downFactor} x ${rows * downFactor} pixels at once: about ${byteWords(answer.peak + processBytes)} of memory are needed, and this machine has ${byteWords(memory)} — what does not fit is killed. ${fix}`,
    );
  }
  const work = { drawnSteps: batchSize, pictures: batchSize, learning: [], learnedSteps: 1 };
  const { drawing, decoding } = calibrate({ ...answer, ...work }, budget, device);
  return pictures * (steps * drawing + decoding);
}
