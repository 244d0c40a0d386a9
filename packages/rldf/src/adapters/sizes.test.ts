import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type MicroConditioning, tinyPipeline, tinyXlPipeline } from '@rldf/models';
import { setThreads } from '@rldf/torch';
import { expect, test } from 'vitest';
import { generateFiles, parseSizes } from './generate-files.js';

setThreads(1);

test('sizes of the command line, and what are none', () => {
  expect(parseSizes({})).toBeUndefined();
  expect(parseSizes({ originalSize: '1024, 768', crop: '0,128' })).toEqual({ originalSize: [1024, 768], crop: [0, 128] }); // biome-ignore format: one thought
  expect(parseSizes({ targetSize: '512,640' })).toEqual({ targetSize: [512, 640] });
  for (const wrong of ['1024', '1024x768', '1,2,3', '0,64', '-1,64', '1.5,64', ''])
    expect(() => parseSizes({ originalSize: wrong })).toThrow(
      /--original-size .*expected height,width in whole pixels from 1/,
    );
  expect(() => parseSizes({ targetSize: '0,1' })).toThrow('--target-size 0,1: expected height,width');
  expect(() => parseSizes({ crop: '0' })).toThrow('--crop 0: expected top,left in whole pixels from 0');
});

test('a model of XL’s kind is told them, and they are written into the picture; others refuse them', async () => {
  const draw = async (microConditioning?: MicroConditioning, pipeline = tinyXlPipeline()) => {
    const { fileOf } = await generateFiles(pipeline, {
      model: 'tiny',
      pictures: { length: 1, at: () => ({ prompt: 'a cat', seed: 1 }) },
      output: mkdtempSync(join(tmpdir(), 'sizes-')),
      batchSize: 1,
      ...(microConditioning && { microConditioning }),
    });
    return readFileSync(fileOf(0));
  };
  const own = tinyXlPipeline();
  const size = [8, 8] as const; // what it draws, and so what it is told by default
  const [plain, same, other] = [await draw(), await draw({ originalSize: size, crop: [0, 0], targetSize: size }, own), await draw({ originalSize: [900, 30], crop: [7, 0] })]; // biome-ignore format: one thought
  expect(own.microConditioning).toEqual({ originalSize: size, crop: [0, 0], targetSize: size });
  const pixels = (png: Buffer) => png.subarray(png.indexOf('IDAT'), png.indexOf('IEND'));
  expect(pixels(same).equals(pixels(plain))).toBe(true);
  expect(pixels(other).equals(pixels(plain))).toBe(false);
  expect(other.toString('latin1')).toContain('microConditioning');
  await expect(draw({ crop: [0, 0] }, tinyPipeline())).rejects.toThrow(
    /--original-size, --crop, --target-size: this model is told no sizes/,
  );
});
