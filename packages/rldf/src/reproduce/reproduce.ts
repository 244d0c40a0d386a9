/** `rldf reproduce`: runs what a table's protocol asks for and is not there yet, then draws the table from all results. */

import { execFileSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { makeFolder, replaceFile } from '@rldf/common/base/files';
import { type Budget, protocolCommit } from '@rldf/common/base/protocol-file';
import { mean } from '@rldf/common/base/stats';
import { curveSvg } from '@rldf/common/drawing/curve';
import { UserError } from '@rldf/torch/errors';
import type { Recipe } from '../recipe/recipe.js';
import type { Reward } from '../rewards/reward.js';
import type { RunEvent } from '../train/train.js';
import { runArm } from './arm.js';
import { type ArmResult, readArmResults, writeArmResult } from './arm-result.js';
import { adaptersOf, checkSummands, fusedArms, runFusedArm } from './fused-arm.js';
import { checkTestPrompts, testPrompts } from './groups.js';
import { loadTableJudge } from './judges.js';
import { checkEqualPictures, type Protocol, recipeOf } from './protocol.js';
import { type TableNumbers, tableMarkdown, tableNumbers } from './table.js';

export interface ReproduceOptions {
  protocol: Protocol;
  budget: Budget;
  /** Path of a shipped recipe by name. */
  shippedRecipe: (name: string) => string;
  /** Folder of all runs. */
  runs: string;
  /** Only these arms. */
  arms?: readonly string[];
  /** Only these of the protocol's seeds. */
  seeds?: readonly number[];
  /** Of all runs; default: the recipe's. */
  device?: string;
  /** Start no further run after so many minutes. */
  minutes?: number;
  signal?: AbortSignal;
}

export type ReproduceEvent =
  | { kind: 'arm'; arm: string; seed: number; done: number; total: number }
  | { kind: 'run'; event: RunEvent }
  | { kind: 'result'; path: string }
  | { kind: 'table'; path: string; numbers: TableNumbers };

/**
 * Full tables keep their results under `docs/results/TABLE/` of the protocol's repository, so that they go on from
 * there on any machine; a smoke run keeps everything below `runs` and claims nothing.
 * @throws UserError when the protocol is not committed, was changed since its first result, or is unequal
 */
export async function* reproduce(options: ReproduceOptions): AsyncGenerator<ReproduceEvent> {
  const { protocol, budget, shippedRecipe, signal } = options;
  protocolCommit(protocol);
  const arms = Object.keys(protocol.arms);
  const fused = fusedArms(protocol);
  const trained = arms.filter((arm) => fused[arm] === undefined);
  const seeds = budget === 'smoke' ? protocol.seeds.slice(0, 1) : protocol.seeds;
  const recipe = (arm: string, seed: number): Recipe => ({
    ...recipeOf(protocol, arm, seed, budget, shippedRecipe),
    ...(options.device === undefined ? {} : { device: options.device }),
  });
  checkChosen(options, arms);
  const recipes = Object.fromEntries(trained.map((arm) => [arm, recipe(arm, seeds[0] as number)]));
  checkEqualPictures(protocol, recipes);
  checkSummands(protocol, fused, recipes);
  const tested = Object.fromEntries(
    arms.map((arm) => [arm, testPrompts(recipes[fused[arm]?.[0] ?? arm] as Recipe)]),
  );
  checkTestPrompts(protocol, tested);
  const runs = join(options.runs, 'reproduce', `${protocol.table}-${budget}`);
  const results = budget === 'smoke' ? join(runs, 'results') : join(resultsFolder(protocol), protocol.table);
  const armResults = readArmResults(results, protocol);
  const done = new Set(armResults.map(({ arm, seed }) => `${arm} ${seed}`));
  // seed by seed, so that a table that is left early has compared all arms; sums after what they add up
  const wanted = seeds
    .flatMap((seed) => [...trained, ...Object.keys(fused)].map((arm) => ({ arm, seed })))
    .filter(({ arm, seed }) => !done.has(`${arm} ${seed}`))
    .filter(
      ({ arm, seed }) => (options.arms?.includes(arm) ?? true) && (options.seeds?.includes(seed) ?? true),
    );
  for (const { arm, seed } of wanted) {
    const runsFirst = (name: string) => wanted.some((one) => one.arm === name && one.seed === seed);
    for (const name of fused[arm] ?? [])
      if (!runsFirst(name)) adaptersOf(name, { arm, seed, runs, results, armResults });
  }
  const judges: Record<string, Reward> = {};
  if (wanted.length > 0) for (const name of protocol.judges) judges[name] = await loadTableJudge(name);
  const started = Date.now();
  for (const [i, { arm, seed }] of wanted.entries()) {
    if ((Date.now() - started) / 60_000 > (options.minutes ?? Number.POSITIVE_INFINITY)) break;
    yield { kind: 'arm', arm, seed, done: i, total: wanted.length };
    const fuse = fused[arm];
    const common = { protocol, arm, seed, budget, judges, runs, ...(signal === undefined ? {} : { signal }) };
    const running =
      fuse === undefined
        ? runArm({ ...common, recipe: recipe(arm, seed) })
        : runFusedArm({
            ...common,
            fuse,
            recipe: recipe(fuse[0] as string, seed),
            results,
            armResults: readArmResults(results, protocol),
          });
    let next = await running.next();
    for (; !next.done; next = await running.next()) yield { kind: 'run', event: next.value };
    if (next.value === undefined) break;
    yield { kind: 'result', path: writeArmResult(results, next.value) };
  }
  const numbers = tableNumbers(protocol, readArmResults(results, protocol), tested);
  yield { kind: 'table', path: await writeTable(protocol, budget, results, numbers), numbers };
}

/** @throws UserError for arms and seeds that the protocol does not have */
function checkChosen({ protocol, arms = [], seeds = [] }: ReproduceOptions, all: readonly string[]): void {
  const arm = arms.find((name) => !all.includes(name));
  if (arm !== undefined)
    throw new UserError(`--arms: ${protocol.table} has no arm "${arm}" — there are ${all.join(', ')}`);
  const seed = seeds.find((one) => !protocol.seeds.includes(one));
  if (seed !== undefined)
    throw new UserError(
      `--seeds: ${protocol.table} has no seed ${seed} — there are ${protocol.seeds.join(', ')}`,
    );
}

/** Writes TABLE.md, TABLE.json and the curve beside the folder of results; returns the page. */
async function writeTable(
  protocol: Protocol,
  budget: Budget,
  results: string,
  numbers: TableNumbers,
): Promise<string> {
  const { table } = protocol;
  const folder = dirname(results);
  makeFolder(folder);
  const curve = `${table}.svg`;
  const points = curvePoints(protocol, readArmResults(results, protocol));
  const page = tableMarkdown(
    numbers,
    `rldf reproduce ${table} --budget ${budget}`,
    points.length > 0 ? curve : undefined,
  );
  if (points.length > 0) {
    const titles = {
      title: table,
      xTitle: 'training pictures',
      yTitle: 'validation reward, mean over seeds',
    };
    replaceFile(join(folder, curve), await curveSvg(points, titles));
  }
  replaceFile(join(folder, `${table}.json`), `${JSON.stringify(numbers, null, 1)}\n`);
  replaceFile(join(folder, `${table}.md`), page);
  return join(folder, `${table}.md`);
}

function curvePoints(protocol: Protocol, armResults: readonly ArmResult[]) {
  return Object.keys(protocol.arms).flatMap((arm) => {
    const byPictures = new Map<number, number[]>();
    for (const armResult of armResults.filter((one) => one.arm === arm)) {
      for (const { pictures, validation } of armResult.curve) {
        if (validation !== null) byPictures.set(pictures, [...(byPictures.get(pictures) ?? []), validation]);
      }
    }
    return [...byPictures].map(([step, values]) => ({ step, value: mean(values), series: arm }));
  });
}

/** `docs/results` of the repository that holds the protocol. */
function resultsFolder({ file }: Protocol): string {
  const top = execFileSync('git', ['rev-parse', '--show-toplevel'], { cwd: dirname(file), encoding: 'utf8' });
  return join(top.trim(), 'docs', 'results');
}
