import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { savePipeline, tinyPipeline } from '@rldf/models';
import { UserError } from '@rldf/torch';
import { expect, test } from 'vitest';
import { checkDrawing } from './drawing.js';

const folder = join(mkdtempSync(join(tmpdir(), 'rldf-drawing-')), 'model');
const pipeline = tinyPipeline();
savePipeline(pipeline, folder);
const drawing = { folder, device: 'cpu', pictures: 6, steps: 2, batchSize: 6, guided: true } as const;

test('what every machine can draw is not asked about', async () => {
  expect(await checkDrawing(pipeline, drawing, 1)).toBeUndefined();
});

test('beyond the memory it is refused with the batch that fits, and a picture alone with its size', async () => {
  const large = { ...drawing, width: 32 * pipeline.vae.downFactor, height: 64 * pipeline.vae.downFactor };
  const words = (memory: number) => checkDrawing(pipeline, large, memory).then(String, (error) => error);
  const none = (await words(501e6)).message;
  expect(none).toContain('6 pictures of ');
  expect(none).toContain(
    'this machine has 501.0 MB — what does not fit is killed. Draw smaller pictures with --width',
  );
  const tensors = 1e6 * Number(/about ([\d.]+) MB/.exec(none)?.[1]) - 500e6;
  const tight = await words(500e6 + tensors / 2);
  expect(tight).toBeInstanceOf(UserError);
  expect(tight.message).toMatch(/Use --batch-size [23]; the pictures stay the same$/);
});

test('a batch of any size is reckoned, not tried', async () => {
  const many = { ...drawing, pictures: 1e6, batchSize: 1e6 };
  const error = await checkDrawing(pipeline, many, 8e9).then(String, (one) => one);
  expect(error).toBeInstanceOf(UserError);
  const [, needed, fitting] = /about ([\d.]+) GB of memory.*--batch-size (\d+);/.exec(error.message) ?? [];
  // what fits by the words is what the memory allows
  expect(Number(fitting) / 1e6).toBeCloseTo((8 - 0.5) / (Number(needed) - 0.5), 2);
});
