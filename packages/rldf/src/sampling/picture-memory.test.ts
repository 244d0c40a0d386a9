import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Pipeline, tinyPipeline } from '@rldf/models';
import { tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { pictureMemory } from './picture-memory.js';

test('a picture is remembered for its model, schedule and prompt pieces alone', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'rldf-memory-'));
  let drawn = 0;
  const recall = async (pipeline: Pipeline, what: object) => {
    const { images } = await pictureMemory(folder, pipeline)(what, async () => ({
      images: tensor([++drawn]),
    }));
    const [value] = images!.toNumbers();
    images!.free();
    return value;
  };
  const pipeline = tinyPipeline(1);
  const schedulerConfig = { ...pipeline.schedulerConfig, clip_sample: !pipeline.schedulerConfig.clip_sample };
  expect(await recall(pipeline, { seed: 1 })).toBe(1);
  expect(await recall(tinyPipeline(1), { seed: 1 })).toBe(1);
  expect(await recall(pipeline, { seed: 2 })).toBe(2);
  expect(await recall({ ...pipeline, promptChunks: 2 }, { seed: 1 })).toBe(3);
  expect(await recall({ ...pipeline, schedulerConfig }, { seed: 1 })).toBe(4);
  expect(await recall(tinyPipeline(2), { seed: 1 })).toBe(5);
});
