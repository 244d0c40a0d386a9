/** How good a clone is (RLDF paper, tables 1 and 2): a classifier trained on it and tested on the real set, and its distance from it. */

import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { makeFolder, replaceFile } from '@rldf/common/base/files';
import type { MeanDifference } from '@rldf/common/base/stats';
import type { FeatureNetwork } from '@rldf/common/instruments/feature-networks';
import { type Device, free } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import type { ImageSource } from '../pictures/image-source.js';
import { type ArmName, trainedArm } from './arms.js';
import { drawByClassName } from './class-names.js';
import type { ClassifierProgress, Recipe } from './classifier.js';
import { distanceOf, featuresOf, type SetDistance } from './distances.js';
import { classesIn, countsIn, type LabelledSet, readSet, splitSet } from './labelled-set.js';
import { type Accuracy, accuracyOf, cloneMinusClassName, evaluationMarkdown } from './results.js';
import { worldSets } from './world-sets.js';

export interface EvaluateCloneOptions {
  /** A folder as `rldf clone` writes it. */
  clone: string;
  /**
   * `world`: scenes of the built-in world, and its shifts; else a folder with `train` and `test` (or `val`), each with a folder
   * or tar a class, or a folder of classes, of which every fifth picture is held out.
   */
  real: string;
  /** Other test sets, by name: folders of the same classes. */
  shifts?: Readonly<Record<string, string>>;
  arms: readonly ArmName[];
  /** The first so many classes of the clone; default: all. */
  classes?: number;
  /** Of each arm, over all classes; default: as many as the clone has of its smallest class. */
  pictures?: number;
  recipe: Recipe;
  seeds: readonly number[];
  /** Where the classifiers train. */
  device?: Device;
  /** Edge at which everything is looked at, pixels. */
  size: number;
  /** Trained classifiers, drawn pictures, results: a stopped evaluation goes on from here. */
  runs: string;
  /** Draws the class-name arm; opened only for it. */
  source: () => ImageSource;
  /** What FID and KID compare. */
  features: FeatureNetwork;
  featuresName: string;
  signal?: AbortSignal;
  onProgress?: (progress: EvaluationProgress) => void;
}

export type EvaluationProgress =
  | { kind: 'drawing'; done: number; pictures: number }
  | ({ kind: 'training'; arm: ArmName; seed: number; done: number; trainings: number } & ClassifierProgress)
  | { kind: 'measuring' };

export interface CloneEvaluation {
  clone: string;
  real: string;
  classes: readonly string[];
  seeds: number[];
  recipe: Recipe;
  size: number;
  /** Of each arm: how many trained the classifier, and how many were its own validation split. */
  pictures: { training: number; validation: number };
  /**
   * By test and arm. `validation/ARM` is that arm's own held-out tenth (of `real`: the paper's random sample of training scenes),
   * `real` the held-out real pictures, the others are shifts.
   */
  accuracy: Record<string, Partial<Record<ArmName, Accuracy>>>;
  /** Accuracy of the clone's classifiers minus that of the class-name arm's, by test, paired by seed. */
  cloneMinusClassName?: Record<string, MeanDifference>;
  /** From each arm's pictures to the held-out real ones and to each shift. */
  distances: { features: string; byArm: Partial<Record<ArmName, Record<string, SetDistance>>> };
}

/** Share of each arm's pictures that does not train. */
const VALIDATION = 10;
const HELD_OUT = 5;
/** Fewer pictures of a class cannot be split. */
export const leastPerClass = 4;

/**
 * Trains one classifier an arm and seed and tests each on all sets. Every arm sees equally many pictures of each class.
 * @throws UserError for sets that do not fit together; the signal's reason when aborted: calling again goes on
 */
export async function evaluateClone(options: EvaluateCloneOptions): Promise<CloneEvaluation> {
  const { arms, recipe, seeds, device, size, runs, signal, onProgress } = options;
  const classes = classesIn(options.clone).slice(0, options.classes);
  if (options.classes !== undefined && classes.length < options.classes)
    throw new UserError(
      `--nouns ${options.classes}: ${options.clone} has ${classes.length} classes — ask for fewer`,
    );
  if (classes.length < 2)
    throw new UserError(`${options.clone}: one class — a classifier needs two or more to tell apart`);
  makeFolder(runs);
  const perClass = picturesPerClass(options, classes);
  const real = await realSets(options, classes, perClass);
  const sets = new Map<ArmName, LabelledSet>();
  for (const arm of arms) sets.set(arm, await armPictures(arm, options, classes, perClass, real.train));
  const splits = new Map(
    [...sets].map(([arm, set]) => {
      const every = Math.min(VALIDATION, perClass);
      const [validation, training] = splitSet(set, (place) => place % every === every - 1);
      return [arm, { validation, training }] as const;
    }),
  );
  const tests = new Map<string, LabelledSet>([
    ...[...splits].map(([arm, { validation }]) => [`validation/${arm}`, validation] as const),
    ['real', real.test],
    ...Object.entries(real.shifts),
  ]);

  const trainings = arms.flatMap((arm) => seeds.map((seed) => ({ arm, seed })));
  const trainedArms = [];
  for (const [done, { arm, seed }] of trainings.entries()) {
    const trained = await trainedArm({
      arm,
      seed,
      training: splits.get(arm)!.training,
      tests: [...tests.values()],
      recipe,
      folder: join(runs, `${arm}-seed${seed}`),
      ...(device === undefined ? {} : { device }),
      ...(signal === undefined ? {} : { signal }),
      onProgress: (progress) =>
        onProgress?.({ kind: 'training', arm, seed, done, trainings: trainings.length, ...progress }),
    });
    trainedArms.push(trained);
  }

  onProgress?.({ kind: 'measuring' });
  const accuracy = accuracyOf(trainedArms, tests);
  const [first] = splits.values();
  const difference = cloneMinusClassName(accuracy);
  return {
    clone: basename(resolve(options.clone)),
    real: options.real === 'world' ? 'world' : basename(resolve(options.real)),
    classes,
    seeds: [...seeds],
    recipe,
    size,
    pictures: { training: first!.training.labels.length, validation: first!.validation.labels.length },
    accuracy,
    ...(difference === undefined ? {} : { cloneMinusClassName: difference }),
    distances: {
      features: options.featuresName,
      byArm: armDistances(sets, { real: real.test, ...real.shifts }, options.features),
    },
  };
}

/** The same, with `evaluation.json` and `evaluation.md` in the folder of the runs. */
export async function evaluateAndWrite(
  options: EvaluateCloneOptions,
): Promise<{ evaluation: CloneEvaluation; text: string }> {
  const evaluation = await evaluateClone(options);
  const text = evaluationMarkdown(evaluation);
  replaceFile(join(options.runs, 'evaluation.json'), `${JSON.stringify(evaluation, null, 2)}\n`);
  replaceFile(join(options.runs, 'evaluation.md'), text);
  return { evaluation, text };
}

function picturesPerClass({ clone, pictures }: EvaluateCloneOptions, classes: readonly string[]): number {
  const counts = countsIn(clone, classes);
  const perClass = pictures === undefined ? Math.min(...counts) : Math.floor(pictures / classes.length);
  const short = counts.findIndex((count) => count < Math.max(perClass, leastPerClass));
  if (short >= 0)
    throw new UserError(
      `${join(clone, classes[short]!)}: ${counts[short]} pictures — each class needs ${Math.max(perClass, leastPerClass)}. Draw more with rldf clone --per-class, or ask for fewer with --pictures`,
    );
  if (perClass < leastPerClass)
    throw new UserError(
      `--pictures ${pictures}: ${perClass} of each of ${classes.length} classes — at least ${leastPerClass} are needed. Ask for more`,
    );
  return perClass;
}

/** Real pictures: as many as an arm has for training, at least a fifth of them held out, and the shifts. */
async function realSets(
  options: EvaluateCloneOptions,
  classes: readonly string[],
  perClass: number,
): Promise<{ train: LabelledSet | undefined; test: LabelledSet; shifts: Record<string, LabelledSet> }> {
  const { real, arms, size } = options;
  const read = { size, classes, others: options.classes !== undefined };
  const shifts: Record<string, LabelledSet> = {};
  for (const [name, folder] of Object.entries(options.shifts ?? {}))
    shifts[name] = await readSet(folder, read);
  if (real === 'world') {
    const testPerClass = Math.ceil(perClass / HELD_OUT);
    const world = await worldSets(classes, { perClass, testPerClass });
    return { ...world, shifts: { ...world.shifts, ...shifts } };
  }
  const parts = ['test', 'val'].map((name) => join(real, name)).filter(isFolder);
  const heldOut = (place: number) => place % HELD_OUT === HELD_OUT - 1;
  const split = parts[0] !== undefined && isFolder(join(real, 'train'));
  if (!split) requireHeldOut(real, classes);
  const [training, test] = split
    ? [{ folder: join(real, 'train') }, { folder: parts[0]! }]
    : [
        { folder: real, wanted: (place: number) => !heldOut(place) },
        { folder: real, wanted: heldOut },
      ];
  return {
    train: arms.includes('real')
      ? await readSet(training.folder, { ...read, ...training, perClass })
      : undefined,
    test: await readSet(test.folder, { ...read, ...test }),
    shifts,
  };
}

/** @throws UserError for a class with too few pictures to hold one out; classes that are not there are told when they are read */
function requireHeldOut(real: string, wanted: readonly string[]): void {
  const there = classesIn(real);
  const classes = wanted.filter((name) => there.includes(name));
  const counts = countsIn(real, classes);
  const short = counts.findIndex((count) => count < HELD_OUT);
  if (short >= 0)
    throw new UserError(
      `--real ${real}: ${counts[short]} pictures of ${classes[short]} — without train/ and test/ every fifth picture of a class is held out, so each needs ${HELD_OUT} or more. Add pictures, or make train/ and test/ with a folder a class`,
    );
}

const isFolder = (path: string) => existsSync(path) && statSync(path).isDirectory();

/** An arm's pictures: equally many of each class. */
async function armPictures(
  arm: ArmName,
  options: EvaluateCloneOptions,
  classes: readonly string[],
  perClass: number,
  real: LabelledSet | undefined,
): Promise<LabelledSet> {
  const { clone, size, runs, signal, onProgress } = options;
  if (arm === 'real') return real!;
  const read = { size, classes, perClass, others: true };
  if (arm === 'clone') return readSet(clone, read);
  const source = options.source();
  // pictures of another model are other pictures
  const key = createHash('sha256').update(source.name).digest('hex').slice(0, 8);
  const folder = join(runs, `class-name-${key}`);
  await drawByClassName({
    classes,
    perClass,
    source,
    seed: 0,
    folder,
    ...(signal === undefined ? {} : { signal }),
    onProgress: (done, pictures) => onProgress?.({ kind: 'drawing', done, pictures }),
  });
  return readSet(folder, read);
}

/** Between equally many pictures, the fewest of any set: the Fréchet distance of few is biased upwards. */
function armDistances(
  arms: ReadonlyMap<ArmName, LabelledSet>,
  to: Readonly<Record<string, LabelledSet>>,
  network: FeatureNetwork,
): Partial<Record<ArmName, Record<string, SetDistance>>> {
  const all = [...arms.values(), ...Object.values(to)];
  const count = Math.min(...all.map(({ labels }) => labels.length));
  const targets = Object.entries(to).map(([name, set]) => [name, featuresOf(set, count, network)] as const);
  const byArm: Partial<Record<ArmName, Record<string, SetDistance>>> = {};
  for (const [arm, set] of arms) {
    const features = featuresOf(set, count, network);
    byArm[arm] = Object.fromEntries(targets.map(([name, other]) => [name, distanceOf(features, other)]));
    features.free();
  }
  free(targets.map(([, features]) => features));
  return byArm;
}
