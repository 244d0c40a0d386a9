/** One arm with one seed: trains, judges the test pictures, and keeps its result. */

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join, sep } from 'node:path';
import { tensorOfPictures } from '@rldf/common/base/picture';
import type { Budget } from '@rldf/common/base/protocol-file';
import { sha256 } from '@rldf/common/base/sha256';
import { mean } from '@rldf/common/base/stats';
import { methodOf } from '../methods/index.js';
import type { Recipe } from '../recipe/recipe.js';
import { readPicture } from '../report/report.js';
import { type Reward, scorePictures } from '../rewards/reward.js';
import { describeEnvironment } from '../run/environment.js';
import { type MetricsRow, readMetrics } from '../run/metrics.js';
import { Run } from '../run/run.js';
import { resume, train } from '../train/from-recipe.js';
import type { RunEvent } from '../train/train.js';
import type { ArmResult } from './arm-result.js';
import type { Protocol } from './protocol.js';

export interface ArmOptions {
  protocol: Protocol;
  arm: string;
  seed: number;
  budget: Budget;
  recipe: Recipe;
  /** The protocol's, by name. */
  judges: Readonly<Record<string, Reward>>;
  /** Folder of the table's runs. */
  runs: string;
  signal?: AbortSignal;
}

/** Folder of an arm's run, below the table's runs. */
export const runName = ({ arm, seed }: Pick<ArmOptions, 'arm' | 'seed'>) => `${arm}-seed${seed}`;

/** Runs an arm, or continues it where it was; yields the run's events. Undefined when it was interrupted. */
export async function* runArm(options: ArmOptions): AsyncGenerator<RunEvent, ArmResult | undefined> {
  const { recipe, runs, signal } = options;
  const name = runName(options);
  const run = new Run(join(runs, name));
  const memory = join(runs, 'untrained'); // the arms of a seed begin with the same pictures
  const more = { root: runs, memory, ...(signal === undefined ? {} : { signal }) };
  const events = existsSync(run.recipePath) ? resume(name, more) : train(recipe, { ...more, name });
  let adapters: string[] | undefined;
  for await (const event of events) {
    if (event.kind === 'finished') adapters = event.adapters;
    yield event;
  }
  if (adapters === undefined) return undefined;
  const rows = readMetrics(run.metricsPath);
  const { samplingForwards, trainingForwards, pictures } = methodOf(recipe).plan.arithmetic(recipe);
  return armResultOf(options, run, {
    curve: curveOf(rows),
    cost: {
      pictures,
      unetForwards: samplingForwards + 3 * trainingForwards,
      seconds: sum(rows, 'time/step'),
      cpuSeconds: sum(rows, 'time/cpu'),
    },
    adapters: hashesOf(adapters),
  });
}

/** Of files by name; of the weights in a folder, which a training of whole layers exports, by their place in it. */
export function hashesOf(exported: readonly string[]): Record<string, string> {
  const files = exported.flatMap((path): [name: string, file: string][] =>
    statSync(path).isFile()
      ? [[basename(path), path]]
      : readdirSync(path, { recursive: true, encoding: 'utf8' })
          .filter((name) => name.endsWith('.safetensors'))
          .sort()
          .map((name) => [[basename(path), ...name.split(sep)].join('/'), join(path, name)]),
  );
  return Object.fromEntries(files.map(([name, file]) => [name, sha256(readFileSync(file))]));
}

interface StoredPair {
  prompt: string;
  before: string;
  after: string;
  rewardBefore: number;
  rewardAfter: number;
}

/** Has the pictures in the run's report judged, and adds what the arm knows of itself. */
export async function armResultOf(
  { protocol, arm, seed, budget, recipe, judges }: ArmOptions,
  run: Run,
  own: Pick<ArmResult, 'curve' | 'cost' | 'adapters'>,
): Promise<ArmResult> {
  const { pairs, reward } = JSON.parse(readFileSync(join(run.reportFolder, 'evaluation.json'), 'utf8')) as {
    pairs: StoredPair[];
    reward: string;
  };
  const scores: ArmResult['scores'] = {
    [reward]: {
      before: byPrompt(
        pairs,
        pairs.map(({ rewardBefore }) => rewardBefore),
      ),
      after: byPrompt(
        pairs,
        pairs.map(({ rewardAfter }) => rewardAfter),
      ),
    },
  };
  for (const [name, judge] of Object.entries(judges)) {
    scores[name] = {
      before: byPrompt(pairs, await judged(run, judge, pairs, 'before')),
      after: byPrompt(pairs, await judged(run, judge, pairs, 'after')),
    };
  }
  const { rldf, libtorch, cpu, threads, git } = describeEnvironment();
  return {
    table: protocol.table,
    budget,
    arm,
    seed,
    protocol: protocol.hash,
    scores,
    ...own,
    environment: { rldf, libtorch, cpu, threads, device: recipe.device, commit: git?.commit ?? null },
  };
}

/** Means over the pictures of each prompt, in the order of the prompts. */
function byPrompt(pairs: readonly StoredPair[], scores: readonly number[]): number[] {
  const groups = new Map<string, number[]>();
  pairs.forEach(({ prompt }, i) => {
    groups.set(prompt, [...(groups.get(prompt) ?? []), scores[i] as number]);
  });
  return [...groups.values()].map(mean);
}

/** Scores of a reward that took no part in the training. */
async function judged(
  run: Run,
  judge: Reward,
  pairs: readonly StoredPair[],
  when: 'before' | 'after',
): Promise<number[]> {
  const files = pairs.map((pair) => join(run.reportFolder, pair[when]));
  const images = tensorOfPictures(await Promise.all(files.map(readPicture)));
  try {
    const batch = { images, prompts: pairs.map(({ prompt }) => prompt), meta: pairs.map(() => undefined) };
    return (await scorePictures(judge, batch, 'evaluation')).total;
  } finally {
    images.free();
  }
}

function curveOf(rows: readonly MetricsRow[]): ArmResult['curve'] {
  const number = (value: unknown) => (typeof value === 'number' ? value : null);
  return rows.map((row) => ({
    pictures: Number(row.pictures ?? 0),
    training: number(row['reward/mean']),
    validation: number(row['validation/reward']),
  }));
}

const sum = (rows: readonly MetricsRow[], name: string) =>
  rows.reduce((total, row) => total + Number(row[name] ?? 0), 0);
