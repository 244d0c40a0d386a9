/** From classifiers and distances to tables. */

import { type MeanDifference, mean, meanDifference, seedInterval } from '@rldf/common/base/stats';
import { noiseKey, Random } from '@rldf/torch';
import { type ArmName, armNames, type TrainedArm } from './arms.js';
import type { CloneEvaluation } from './evaluate.js';
import { hashOf, type LabelledSet } from './labelled-set.js';

/** Top-1 accuracy, share of pictures in [0, 1]. */
export interface Accuracy {
  mean: number;
  /** 95 %, over seeds; null with one seed. */
  ci95: [low: number, high: number] | null;
  bySeed: number[];
  /** Pictures that were tested. */
  pictures: number;
}

export type AccuracyTable = Record<string, Partial<Record<ArmName, Accuracy>>>;

/** By test and arm. */
export function accuracyOf(
  trainedArms: readonly TrainedArm[],
  tests: ReadonlyMap<string, LabelledSet>,
): AccuracyTable {
  const table: AccuracyTable = {};
  for (const [name, set] of tests) {
    const hash = hashOf(set);
    const pictures = set.labels.length;
    table[name] = {};
    for (const arm of armNames) {
      const bySeed = trainedArms
        .filter((trained) => trained.arm === arm)
        .map(({ correct }) => correct[hash]! / pictures);
      if (bySeed.length === 0) continue;
      const random = new Random(noiseKey(0, `clone-bootstrap/${arm}/${name}`));
      const ci95 = bySeed.length < 2 ? null : seedInterval(bySeed, { random }).interval;
      table[name][arm] = { mean: mean(bySeed), ci95, bySeed, pictures };
    }
  }
  return table;
}

/** Paired by seed; undefined unless both arms are there. */
export function cloneMinusClassName(table: AccuracyTable): Record<string, MeanDifference> | undefined {
  const entries = Object.entries(table).flatMap(([name, arms]): [string, MeanDifference][] => {
    const [clone, baseline] = [arms.clone, arms['class-name']];
    if (clone === undefined || baseline === undefined) return [];
    const random = new Random(noiseKey(0, `clone-bootstrap/${name}`));
    return [[name, meanDifference(baseline.bySeed, clone.bySeed, random)]];
  });
  return entries.length === 0 ? undefined : Object.fromEntries(entries);
}

const armTitles: Record<ArmName, string> = {
  clone: 'clone',
  'class-name': 'class name',
  real: 'real (ceiling)',
};

/** Both tables as Markdown. */
export function evaluationMarkdown(evaluation: CloneEvaluation): string {
  const { accuracy, distances, cloneMinusClassName: differences, pictures, classes, seeds } = evaluation;
  const arms = armNames.filter((arm) => distances.byArm[arm] !== undefined);
  const titles = arms.map((arm) => armTitles[arm]);
  const top1 = Object.entries(accuracy).map(([test, of]) => [
    testTitle(test),
    ...arms.map((arm) => accuracyWords(of[arm]!)),
    ...(differences === undefined ? [] : [differenceWords(differences[test]!)]),
  ]);
  const targets = Object.keys(distances.byArm[arms[0]!]!);
  const far = targets.map((target) => [
    target === 'real' ? 'real, held out' : target,
    ...arms.map((arm) => {
      const { fid, kid, kidDeviation } = distances.byArm[arm]![target]!;
      const spread = kidDeviation === null ? '' : ` ± ${kidDeviation.toFixed(2)}`;
      return `${fid.toFixed(2)}; ${kid.toFixed(2)}${spread}`;
    }),
  ]);
  const { pictures: compared, subsets } = distances.byArm[arms[0]!]![targets[0]!]!;
  const { epochs, batchSize, precision } = evaluation.recipe;
  return [
    `ResNet-18, top 1 in %: ${classes.length} classes, ${pictures.training} training pictures an arm, ${epochs} epochs of batches of ${batchSize} (${precision}), ` +
      `${seeds.length} ${seeds.length === 1 ? 'seed' : 'seeds'}${seeds.length === 1 ? '' : '; [95 % interval over seeds]'}.`,
    '',
    table(['tested on', ...titles, ...(differences === undefined ? [] : ['clone − class name'])], top1),
    '',
    `FID; KID x 1000 ± its deviation over ${subsets} subsets, in the features of \`${distances.features}\`, ${compared} pictures of each set.`,
    '',
    table(['distance to', ...titles], far),
    '',
  ].join('\n');
}

function testTitle(test: string): string {
  if (test === 'real') return 'real, held out';
  const arm = test.replace(/^validation\//, '') as ArmName;
  if (arm === test) return test;
  return arm === 'real' ? 'real, sample of its training set' : `${armTitles[arm]}, its validation split`;
}

const percent = (share: number) => (100 * share).toFixed(1);

function accuracyWords({ mean: centre, ci95 }: Accuracy): string {
  return ci95 === null ? percent(centre) : `${percent(centre)} [${ci95.map(percent).join(', ')}]`;
}

function differenceWords({ difference, ci95 }: MeanDifference): string {
  const signed = (share: number) => `${share < 0 ? '−' : '+'}${percent(Math.abs(share))}`;
  if (ci95[0] === ci95[1]) return signed(difference);
  return `${signed(difference)} [${ci95.map(signed).join(', ')}]`;
}

function table(head: readonly string[], lines: readonly (readonly string[])[]): string {
  return [head, head.map(() => '---'), ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}
