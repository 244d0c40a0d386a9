/** Whether a run of before runs named their base model (run/inputs.ts) goes on with the one that it began on. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readTextIfThere } from '@rldf/common/base/files';
import { picturesOf } from '@rldf/common/base/picture';
import { UserError } from '@rldf/torch/errors';
import { firstSeed } from '../base/seeds.js';
import type { Prompt } from '../prompts/prompts.js';
import type { Run } from '../run/run.js';
import type { Training } from '../run/training.js';

/** Another processor moves a byte by one or two; another model moves the mean by tens. */
const mostApart = 8;

/**
 * Draws the first test picture again and compares it with the one that was kept of before the training.
 * @param training with nothing loaded into it yet
 * @throws UserError when it is another picture
 */
export async function checkDrawsAsBefore(
  run: Run,
  training: Pick<Training, 'draw'>,
  testSet: readonly Prompt[],
): Promise<void> {
  const stored = readTextIfThere(join(run.samplesFolder, 'test-before.json'));
  if (stored === undefined) return; // the report will miss it
  const { width, height } = JSON.parse(stored) as { width: number; height: number };
  const images = await training.draw([{ prompt: testSet[0]!.text, seed: firstSeed.test }]);
  const [picture] = picturesOf(images);
  images.free();
  const { data } = picture!;
  const kept = readFileSync(join(run.samplesFolder, 'test-before.rgb'));
  const apart = data.reduce((sum, byte, i) => sum + Math.abs(byte - kept[i]!), 0) / data.length;
  if (picture!.width === width && picture!.height === height && apart <= mostApart) return;
  throw new UserError(
    `${run.folder}: the model draws another picture than when the run began — it has other weights, and what was trained belongs to the former ones. Put them back where recipe.yaml names them, or start a new run`,
  );
}
