/** What drawing will need, before it begins: the memory is checked, and the time is told. Small drawings just begin. */

import { latentShape, type Pipeline } from '@rldf/models';
import type { Device, DType, shapes } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { duration } from '../base/duration.js';
import { byteWords, machineMemory } from '../base/machine.js';
import { askShapes } from './ask-shapes.js';
import { calibrate } from './calibration.js';
import { processBytes } from './plan.js';

export interface DrawingQuestion {
  folder: string;
  /** float32 by default. */
  dtype?: DType;
  /** Each is answered. */
  batchSizes: number[];
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

export interface Drawing extends Omit<DrawingQuestion, 'batchSizes'> {
  device: Device;
  batchSize: number;
  pictures: number;
  steps: number;
  /** Told how long it will take, where that is long. */
  onNotice?: ((line: string) => void) | undefined;
}

/** Below so many places of latents at once every machine draws every model that it can load. */
const always = 8192;
/** Of a larger batch, the memory is reckoned: each picture takes as much. */
const mostTried = 64;
/** Seconds for trying this machine. */
const budget = 1;
/** Seconds from which the estimate is told before the work. */
const longWait = 30;

/** The most bytes of tensors that a batch of pictures takes. */
export async function drawingMemory({
  batchSize,
  ...asked
}: Omit<DrawingQuestion, 'batchSizes'> & { batchSize: number }): Promise<number> {
  const question = { ...asked, batchSizes: [batchSize] };
  const [{ peak }] = await askShapes<DrawingQuestion, [DrawingAnswer]>('drawing-process', question);
  return peak;
}

/**
 * Looks at a large drawing before it begins; not at a small one, nor on a GPU.
 * @param memory bytes that there are
 * @throws UserError when it needs more memory than there is, with what would fit
 */
export async function checkDrawing(
  pipeline: Pipeline,
  { device, pictures, steps, onNotice, ...asked }: Drawing,
  memory = machineMemory(),
): Promise<void> {
  const { folder, width, height, guided } = asked;
  const size = { ...(width === undefined ? {} : { width }), ...(height === undefined ? {} : { height }) };
  const [, rows, columns] = latentShape(pipeline, size);
  const batchSize = Math.min(asked.batchSize, pictures);
  if (device !== 'cpu' || batchSize * rows * columns <= always) return;
  const tried = Math.min(batchSize, mostTried);
  const [{ peak: one }, answer] = await askShapes<DrawingQuestion, [DrawingAnswer, DrawingAnswer]>(
    'drawing-process',
    { folder, guided, batchSizes: [1, tried], ...size },
  );
  const each = (answer.peak - one) / Math.max(1, tried - 1);
  const peak = one + each * (batchSize - 1);
  const limit = memory - processBytes;
  if (peak > limit) {
    const { downFactor } = pipeline.vae;
    const fix =
      one > limit
        ? 'Draw smaller pictures with --width and --height, or with a smaller model'
        : `Use --batch-size ${Math.floor(1 + (limit - one) / each)}; the pictures stay the same`;
    throw new UserError(
      `${batchSize} picture${batchSize === 1 ? '' : 's'} of ${columns * downFactor} x ${rows * downFactor} pixels at once: about ${byteWords(peak + processBytes)} of memory are needed, and this machine has ${byteWords(memory)} — what does not fit is killed. ${fix}`,
    );
  }
  const work = { drawnSteps: tried, pictures: tried, learning: [], learnedSteps: 1 };
  const { drawing, decoding } = calibrate({ ...answer, ...work }, budget, device);
  const seconds = pictures * (steps * drawing + decoding);
  if (seconds > longWait)
    onNotice?.(
      `${pictures} picture${pictures === 1 ? '' : 's'} will take about ${duration(seconds)}; Ctrl-C ends it`,
    );
}
