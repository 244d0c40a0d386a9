/** One trained classifier an (arm, seed): trained, tested and kept, so that a stopped evaluation goes on and a finished one is repeated for nothing. */

import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { makeFolder, readTextIfThere, remove, replaceFile } from '@rldf/common/base/files';
import type { Device } from '@rldf/torch';
import { type ClassifierProgress, type Recipe, trainClassifier } from './classifier.js';
import { hashOf, type LabelledSet } from './labelled-set.js';

/** What a classifier is trained on: the clone, pictures drawn by the class name alone, the real set (the ceiling). */
export const armNames = ['clone', 'class-name', 'real'] as const;
export type ArmName = (typeof armNames)[number];

/** What is kept of one trained classifier, beside its weights. */
export interface TrainedArm {
  arm: ArmName;
  seed: number;
  /** Names training pictures, recipe and seed. */
  key: string;
  recipe: Recipe;
  pictures: number;
  /** Of the last update; null if it was not this call that trained. */
  loss: number | null;
  /** Training by the call that finished it. */
  seconds: number | null;
  /** Pictures given their own class, by the test set's hash. */
  correct: Record<string, number>;
}

export interface ArmOptions {
  arm: ArmName;
  seed: number;
  training: LabelledSet;
  tests: readonly LabelledSet[];
  recipe: Recipe;
  folder: string;
  device?: Device;
  signal?: AbortSignal;
  onProgress?: (progress: ClassifierProgress) => void;
}

/** Trains what is not trained, tests what is not tested. Other pictures, recipe or seed in the folder are replaced. */
export async function trainedArm(options: ArmOptions): Promise<TrainedArm> {
  const { arm, seed, training, tests, recipe, folder, device, signal, onProgress } = options;
  const key = createHash('sha256')
    .update(JSON.stringify([hashOf(training), recipe, seed]))
    .digest('hex')
    .slice(0, 24);
  const file = join(folder, 'trained.json');
  let trained = readTrainedArm(file) ?? readTrainedArm(join(folder, formerName));
  if (trained?.key !== key) {
    remove(folder);
    makeFolder(folder);
    const pictures = training.labels.length;
    trained = { arm, seed, key, recipe, pictures, loss: null, seconds: null, correct: {} };
    writeTrainedArm(file, trained);
  }
  const hashes = tests.map(hashOf);
  const untested = hashes.some((hash) => trained.correct[hash] === undefined);
  if (!untested) return trained;
  const begun = performance.now();
  const { classifier, loss } = await trainClassifier(training, {
    recipe,
    seed,
    folder,
    ...(device === undefined ? {} : { device }),
    ...(signal === undefined ? {} : { signal }),
    ...(onProgress === undefined ? {} : { onProgress }),
  });
  if (loss !== null) Object.assign(trained, { loss, seconds: (performance.now() - begun) / 1000 });
  try {
    for (const [i, test] of tests.entries()) trained.correct[hashes[i]!] ??= classifier.correct(test);
  } finally {
    classifier.free();
  }
  writeTrainedArm(file, trained);
  return trained;
}

function writeTrainedArm(file: string, trained: TrainedArm): void {
  replaceFile(file, `${JSON.stringify(trained, null, 2)}\n`);
}

/** The file's name up to version 0.1.0. */
const formerName = 'capsule.json';

/** One that cannot be read is none. */
function readTrainedArm(file: string): TrainedArm | undefined {
  try {
    return JSON.parse(readTextIfThere(file) ?? '') as TrainedArm;
  } catch {
    return undefined;
  }
}
