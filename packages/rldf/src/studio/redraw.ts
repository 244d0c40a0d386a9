/** A picture of a run drawn again: from the checkpoint that drew it, and the same noise. */

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { parseYaml } from '@rldf/common/base/exact';
import { makeFolder, replaceFile } from '@rldf/common/base/files';
import { type Picture, picturesOf } from '@rldf/common/base/picture';
import { encodePng, settingsTexts } from '@rldf/common/drawing/png';
import { bestCheckpoint } from '@rldf/common/storage/checkpoint';
import type { Behaviour } from '@rldf/models';
import { free } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { rolloutBatches } from '../methods/learner.js';
import { readPicture } from '../report/report.js';
import { type PictureLine, pictureFile, pictureLogPath } from '../run/picture-log.js';
import type { Run } from '../run/run.js';
import { RunModel } from './run-model.js';

export interface Redrawn {
  file: string;
  prompt: string;
  seed: number | string;
  /** Step whose weights drew it, and of the checkpoint that was taken. */
  step: number;
  checkpoint: number;
  /** Largest difference of a pixel from the kept picture, of 255; null when it was not kept. */
  largest: number | null;
}

/** What is drawn, by which weights, and the kept picture. */
interface Wanted {
  prompt: string;
  seed: number | string;
  behaviour?: Behaviour;
  step: number;
  kept: string;
}

/**
 * @param id `validation-STEP-INDEX`, `rollout-STEP-INDEX` or `test-INDEX`
 * @throws UserError for an id that the run does not have
 */
export async function redraw(run: Run, id: string, output: string): Promise<Redrawn> {
  const wanted = wantedOf(run, id);
  const steps = run.checkpoints().map(({ step }) => step);
  const checkpoint = steps.filter((step) => step <= wanted.step).at(-1) ?? steps[0];
  if (checkpoint === undefined)
    throw new UserError(
      `${run.folder}: no checkpoint is kept — a picture is drawn again from its weights. Train again`,
    );
  const model = new RunModel(run);
  let picture: Picture;
  try {
    model.load(checkpoint);
    picture = await draw(model, wanted);
  } finally {
    model.free();
  }
  makeFolder(dirname(output));
  const { prompt, seed, step } = wanted;
  const texts = settingsTexts({ prompt, seed, run: run.name, picture: id, checkpoint });
  replaceFile(output, await encodePng(picture, texts));
  const largest = existsSync(wanted.kept) ? largestDifference(picture, await readPicture(wanted.kept)) : null;
  return { file: output, prompt, seed, step, checkpoint, largest };
}

async function draw(
  { training, pipeline, recipe }: RunModel,
  { prompt, seed, behaviour }: Wanted,
): Promise<Picture> {
  if (behaviour === undefined) {
    const images = await training.draw([{ prompt, seed: seed as number }]);
    try {
      return picturesOf(images)[0] as Picture;
    } finally {
      images.free();
    }
  }
  const { sample, negativePrompt } = recipe;
  const eta = (sample as { eta?: number }).eta ?? 1;
  const drawing = rolloutBatches(pipeline, {
    ...sample,
    eta,
    prompts: [prompt],
    behaviours: [behaviour],
    negativePrompt,
  });
  for (;;) {
    const { done, value } = await drawing.next();
    if (!done) continue;
    try {
      return picturesOf((value[0] as (typeof value)[number]).images)[0] as Picture;
    } finally {
      free(value);
    }
  }
}

function wantedOf(run: Run, id: string): Wanted {
  const [, kind, first, second] = /^(rollout|validation)-(\d+)-(\d+)$|^test-(\d+)$/.exec(id) ?? [];
  const test = /^test-(\d+)$/.exec(id)?.[1];
  if (test !== undefined) return testPicture(run, id, Number(test));
  if (kind === undefined)
    throw new UserError(
      `${id}: names no picture — expected validation-STEP-INDEX, rollout-STEP-INDEX or test-INDEX, such as validation-0-003`,
    );
  const [step, index] = [Number(first), Number(second)];
  const path = pictureLogPath(run);
  const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n') : [];
  const line = lines.map(lineOf).findLast((one) => one?.kind === kind && one.step === step);
  const prompt = line?.prompts[index];
  if (line === undefined || prompt === undefined)
    throw new UserError(
      `${id}: ${run.name} has no such picture — \`rldf studio\` lists them, and so does ${path}`,
    );
  const kept = pictureFile(run, line.kind, step, index);
  if (line.kind === 'validation') return { prompt, seed: Number(line.seeds?.[index]), step, kept };
  const noise = line.paths?.[index];
  if (noise === undefined || line.seed === undefined)
    throw new UserError(
      `${id}: how it was drawn was not noted — this method's training pictures cannot be drawn again. Validation pictures can`,
    );
  const guidance = line.guidance ?? [];
  const own = (Array.isArray(guidance[0]) ? guidance[index] : guidance) as number[];
  const words = line.words?.[index];
  const seed = typeof line.seed === 'string' ? BigInt(line.seed) : line.seed;
  const behaviour = {
    seed,
    path: noise,
    guidance: own,
    ...(words === undefined ? {} : { wordWeights: words }),
    ...(line.grounded !== undefined && { grounding: { objects: [], steps: line.grounded } }),
  };
  return { prompt, seed: `${line.seed}:${noise.join('.')}`, behaviour, step: step - 1, kept };
}

function testPicture(run: Run, id: string, index: number): Wanted {
  const path = join(run.reportFolder, 'evaluation.json');
  const stored = existsSync(path)
    ? (JSON.parse(readFileSync(path, 'utf8')) as { pairs: { prompt: string; seed: number; after: string }[] })
    : undefined;
  const pair = stored?.pairs[index];
  const { report } = parseYaml(readFileSync(run.recipePath, 'utf8')) as { report?: { checkpoint?: string } };
  const best =
    report?.checkpoint === 'last' ? run.checkpoints().at(-1) : bestCheckpoint(run.checkpointsFolder);
  if (pair === undefined || best === undefined)
    throw new UserError(
      `${id}: ${run.name} has no such picture — test pictures are drawn at the end of a training`,
    );
  return { prompt: pair.prompt, seed: pair.seed, step: best.step, kept: join(run.reportFolder, pair.after) };
}

function lineOf(text: string): PictureLine | undefined {
  try {
    return JSON.parse(text) as PictureLine;
  } catch {
    return undefined;
  }
}

function largestDifference(a: Picture, b: Picture): number {
  if (a.width !== b.width || a.height !== b.height) return 255;
  return a.data.reduce((most, value, i) => Math.max(most, Math.abs(value - (b.data[i] as number))), 0);
}
