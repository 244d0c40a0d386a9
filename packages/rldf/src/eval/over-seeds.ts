/** Two arms, each trained with several seeds: evaluated pair by pair, their differences pooled. */

import { join } from 'node:path';
import { replaceFile } from '@rldf/common/base/files';
import { tInterval } from '@rldf/common/base/stats';
import { noiseKey, Random } from '@rldf/torch';
import { InternalError, UserError } from '@rldf/torch/errors';
import { type Arm, type EvaluateOptions, type Evaluation, evaluate } from './evaluate.js';
import { armsDifference, type Ends, type MeanMeasure, type MetricDifference } from './measures.js';
import { writeEvaluation } from './page.js';

/** What `arms.json` holds. */
export interface ArmsNumbers {
  /** Pairs of training seeds behind every difference. */
  seeds: number;
  /** Each metric of the first arm minus the second. */
  differences: Record<string, MetricDifference>;
  /** What the suite `pairs` says of the first arm beside the second; the interval is over seeds, as those above. */
  pairs?: Record<string, { value: number | null; ci95: Ends }>;
}

/**
 * Evaluates every pair into `folder/seed-I`, and writes the differences over all of them to `folder/arms.json`. Their
 * intervals draw seeds with replacement, then prompts within each; below five seeds, where that is too narrow, and for FID
 * and KID they are Student's over seeds.
 * @param pairs one a training seed: the arm and what it is compared with
 * @throws UserError for fewer than two pairs
 */
export async function evaluateOverSeeds(
  folder: string,
  pairs: readonly (readonly [Arm, Arm])[],
  options: Omit<EvaluateOptions, 'arms'>,
): Promise<ArmsNumbers> {
  if (pairs.length < 2) {
    throw new UserError(
      `eval: ${pairs.length} training seed of the arm — an interval over seeds needs at least two. Give the adapters of all seeds`,
    );
  }
  const evaluations: Evaluation[] = [];
  for (const [i, arms] of pairs.entries()) {
    const { onProgress } = options;
    const evaluation = await evaluate({
      ...options,
      arms,
      ...(onProgress === undefined
        ? {}
        : { onProgress: (done, total) => onProgress(i * total + done, pairs.length * total) }),
    });
    await writeEvaluation(join(folder, `seed-${i}`), evaluation);
    evaluations.push(evaluation);
  }
  const compared = pairsOverSeeds(evaluations);
  const numbers: ArmsNumbers = {
    seeds: pairs.length,
    differences: differencesOverSeeds(evaluations),
    ...(Object.keys(compared).length > 0 && { pairs: compared }),
  };
  replaceFile(join(folder, 'arms.json'), `${JSON.stringify(numbers, null, 2)}\n`);
  return numbers;
}

/** Means over seeds of what two arms are side by side, with Student's interval over them. */
export function pairsOverSeeds(
  evaluations: readonly Pick<Evaluation, 'suites'>[],
): NonNullable<ArmsNumbers['pairs']> {
  const [first] = evaluations as [Pick<Evaluation, 'suites'>];
  const entries = Object.entries(first.suites).flatMap(([suite, { differences, metrics }]) =>
    (differences === undefined ? Object.keys(metrics) : []).map((metric) => {
      const values = evaluations
        .map(({ suites }) => suites[suite]!.metrics[metric]!.value)
        .filter((value) => value !== null);
      if (values.length < 2) return [metric, { value: values[0] ?? null, ci95: null }] as const;
      const { mean, interval } = tInterval(values);
      return [metric, { value: mean, ci95: interval }] as const;
    }),
  );
  return Object.fromEntries(entries);
}

/** @param evaluations of the same suites, of two arms each */
export function differencesOverSeeds(
  evaluations: readonly Pick<Evaluation, 'suites'>[],
): Record<string, MetricDifference> {
  const [first] = evaluations as [Pick<Evaluation, 'suites'>];
  const entries = Object.entries(first.suites).flatMap(([suite, { differences = {} }]) =>
    Object.keys(differences).map((metric): [string, MetricDifference] => {
      const seeds = evaluations.map(({ suites }) => {
        const [a, b] = suites[suite]!.measures.map((of) => of[metric]);
        if (a === undefined || b === undefined)
          throw new InternalError(`over-seeds: ${metric} of one arm only`);
        return { a, b, difference: suites[suite]!.differences![metric]!.difference };
      });
      const means = seeds.filter((seed): seed is typeof seed & { a: MeanMeasure; b: MeanMeasure } =>
        [seed.a, seed.b].every(({ kind }) => kind === 'mean'),
      );
      if (means.length >= 5) {
        const random = new Random(noiseKey(0, `evaluation-bootstrap/${metric}`));
        return [metric, armsDifference(means, random)];
      }
      const values = seeds.map(({ difference }) => difference).filter((value) => value !== null);
      if (values.length < 2) return [metric, { difference: values[0] ?? null, ci95: null }];
      const { mean, interval } = tInterval(values);
      return [metric, { difference: mean, ci95: interval }];
    }),
  );
  return Object.fromEntries(entries);
}
