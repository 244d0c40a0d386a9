/** Two arms, each trained with several seeds: evaluated pair by pair, their differences pooled. */

import { join } from 'node:path';
import { replaceFile } from '@rldf/common/base/files';
import { tInterval } from '@rldf/common/base/stats';
import { noiseKey, Random } from '@rldf/torch';
import { InternalError, UserError } from '@rldf/torch/errors';
import { type Arm, type EvaluateOptions, type Evaluation, evaluate } from './evaluate.js';
import { armsDifference, type MeanMeasure, type MetricDifference } from './measures.js';
import { writeEvaluation } from './page.js';

/** What `arms.json` holds. */
export interface ArmsNumbers {
  /** Pairs of training seeds behind every difference. */
  seeds: number;
  /** Each metric of the first arm minus the second. */
  differences: Record<string, MetricDifference>;
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
  const numbers = { seeds: pairs.length, differences: differencesOverSeeds(evaluations) };
  replaceFile(join(folder, 'arms.json'), `${JSON.stringify(numbers, null, 2)}\n`);
  return numbers;
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
