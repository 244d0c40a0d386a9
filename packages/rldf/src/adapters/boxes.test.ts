import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tinyGligenPipeline, tinyPipeline } from '@rldf/models';
import { setThreads } from '@rldf/torch';
import { expect, test } from 'vitest';
import { generateFiles, parseBox } from './generate-files.js';

setThreads(1);

test('a box of the command line, and what is none', () => {
  expect(parseBox('a cat@0,0.3, 0.45,1')).toEqual({ phrase: 'a cat', box: [0, 0.3, 0.45, 1] });
  for (const wrong of ['a cat', 'a cat@1,2,3', 'a cat@0,0,,1', '@0,0,1,1', 'a cat@0,0,one,1'])
    expect(() => parseBox(wrong)).toThrow(/expected PHRASE@left,top,right,bottom/);
});

test('pictures are drawn with their boxes, which are written into them', async () => {
  const cat = { phrase: 'a cat', box: [0, 0.25, 0.5, 1] as const };
  const draw = async (boxes?: (typeof cat)[], pipeline = tinyGligenPipeline()) => {
    const output = mkdtempSync(join(tmpdir(), 'boxes-'));
    const { fileOf } = await generateFiles(pipeline, {
      model: 'tiny',
      pictures: { length: 1, at: () => ({ prompt: 'a cat', seed: 1 }) },
      output,
      batchSize: 1,
      groundingBeta: 0.5,
      ...(boxes && { objectsOf: () => boxes }),
    });
    return readFileSync(fileOf(0));
  };
  const [told, none] = [await draw([cat]), await draw()];
  expect(told.equals(none)).toBe(false);
  expect(told.toString('latin1')).toContain('groundedSteps');
  expect((await draw(undefined, tinyPipeline())).toString('latin1')).not.toContain('groundedSteps');
  await expect(draw([cat], tinyPipeline())).rejects.toThrow(/cannot be told boxes/);
});
