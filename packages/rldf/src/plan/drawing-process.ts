/** A process with `RLDF_TORCH=shapes`: draws one step of one batch, and says what that took. As shapes-process.ts. */

import { readFileSync } from 'node:fs';
import { decodeImages, generate, loadPipeline } from '@rldf/models';
import { free, noGrad, peakBytes, resetPeakBytes, shapes } from '@rldf/torch';
import type { DrawingAnswer, DrawingQuestion } from './drawing.js';

try {
  const { folder, dtype, batchSizes, width, height, guided } = JSON.parse(
    readFileSync(0, 'utf8'),
  ) as DrawingQuestion;
  shapes.setKernels('cpu');
  const pipeline = loadPipeline(folder, dtype === undefined ? {} : { dtype });
  const size = { ...(width === undefined ? {} : { width }), ...(height === undefined ? {} : { height }) };
  const answers: DrawingAnswer[] = [];
  for (const batchSize of batchSizes) {
    resetPeakBytes();
    shapes.takeWork();
    const prompts = Array<string>(batchSize).fill('');
    const { images, latents } = await generate(pipeline, {
      prompts,
      seeds: prompts.map(() => 0),
      steps: 1,
      guidanceScale: guided ? 2 : 1,
      ...size,
    });
    images.free();
    const drawing = shapes.takeWork();
    free([noGrad(() => decodeImages(pipeline, latents)), latents]);
    answers.push({ peak: peakBytes(), drawing, decoding: shapes.takeWork() });
  }
  process.stdout.write(JSON.stringify(answers));
} catch (error) {
  const { name, message, stack } = error as Error;
  const user = name === 'UserError';
  process.stdout.write(JSON.stringify({ error: user ? message : (stack ?? message), user }));
}
