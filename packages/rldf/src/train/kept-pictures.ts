// Pictures of before the training, kept for the comparison at its end.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { replaceFile } from '@rldf/common/base/files';
import type { Picture } from '@rldf/common/base/picture';
import { UserError } from '@rldf/torch/errors';
import type { Prompt } from '../prompts/prompts.js';
import type { Run } from '../run/run.js';
import type { DrawnAndScored } from './train.js';

interface StoredPictures {
  width: number;
  height: number;
  scores: number[];
}

/** Keeps pictures of before the training as raw bytes beside their scores: a PNG each is written with the report. */
export function keepPictures(run: Run, name: string, { pictures, scores }: DrawnAndScored): void {
  const { width, height } = pictures[0]!;
  replaceFile(join(run.samplesFolder, `${name}.rgb`), Buffer.concat(pictures.map(({ data }) => data)));
  const stored: StoredPictures = { width, height, scores };
  replaceFile(join(run.samplesFolder, `${name}.json`), `${JSON.stringify(stored)}\n`);
}

export function keptPictures(run: Run, name: string, prompts: readonly Prompt[]): DrawnAndScored {
  const path = join(run.samplesFolder, `${name}.rgb`);
  if (!existsSync(path) || !existsSync(join(run.samplesFolder, `${name}.json`))) {
    throw new UserError(
      `${path}: missing — the pictures of before the training are needed for the report. Train again under a new name`,
    );
  }
  const { width, height, scores } = JSON.parse(
    readFileSync(join(run.samplesFolder, `${name}.json`), 'utf8'),
  ) as StoredPictures;
  const bytes = readFileSync(path);
  const size = width * height * 3;
  if (bytes.length !== size * prompts.length) {
    throw new UserError(
      `${path}: holds ${bytes.length / size} pictures, the recipe asks for ${prompts.length} — it was changed since the run began. Train again under a new name`,
    );
  }
  const pictures = prompts.map(
    (_, index): Picture => ({
      width,
      height,
      channels: 3,
      data: bytes.subarray(index * size, (index + 1) * size),
    }),
  );
  return { pictures, scores };
}
