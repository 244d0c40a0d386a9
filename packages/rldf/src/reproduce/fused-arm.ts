import { learnsWholly } from '../methods/online-fields.js';
/**
 * A fused arm, `fused: { fuse: [text, unet] }` in a protocol, trains nothing: it is the sum of the adapters that other arms of
 * the table learned with the same seed (TexForce, Chen et al. 2024, section 3.6 and table 3).
 */

import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { makeFolder } from '@rldf/common/base/files';
import { sha256 } from '@rldf/common/base/sha256';
import { checkBase } from '@rldf/common/instruments/adapter-base';
import { findModel } from '@rldf/common/instruments/models';
import { type LoraPair, loadLora, loadPipeline } from '@rldf/models';
import { type Device, deviceName, setThreads } from '@rldf/torch';
import { shown, UserError } from '@rldf/torch/errors';
import { fuseAdapters } from '../adapters/fuse.js';
import { loadOptionsOf } from '../config/precision.js';
import { loadPrompts, repeatPrompts } from '../prompts/prompts.js';
import type { Recipe } from '../recipe/recipe.js';
import { keepEvaluation } from '../report/report.js';
import { loadReward } from '../rewards/index.js';
import { Run } from '../run/run.js';
import { drawForEvaluation } from '../sampling/evaluation.js';
import { settle } from '../sampling/model-settings.js';
import { drawAndScore, type RunEvent, testPairs } from '../train/train.js';
import { type ArmOptions, armResultOf, runName } from './arm.js';
import { type ArmResult, armResultPath } from './arm-result.js';
import type { Protocol } from './protocol.js';

/** Fused arm -> the arms it adds up. */
export type FusedArms = Readonly<Record<string, readonly string[]>>;

/** @throws UserError for a sum of less than two arms, of one that does not train, or with fields of its own */
export function fusedArms({ file, arms }: Pick<Protocol, 'file' | 'arms'>): FusedArms {
  const trained = Object.keys(arms).filter((arm) => !('fuse' in arms[arm]!));
  const fused = Object.entries(arms).filter(([, fields]) => 'fuse' in fields);
  return Object.fromEntries(
    fused.map(([arm, { fuse, ...others }]) => {
      const where = `${file}  arms.${arm}`;
      const [field] = Object.keys(others);
      if (field !== undefined)
        throw new UserError(`${where}: ${field} beside fuse — a sum trains nothing. Remove ${field}`);
      if (!Array.isArray(fuse) || fuse.length < 2 || new Set(fuse).size < fuse.length)
        throw new UserError(
          `${where}.fuse: ${shown(fuse)} — a sum is of two or more arms, each once. Write it as fuse: [${trained.slice(0, 2).join(', ')}]`,
        );
      const wrong = fuse.find((name) => !trained.includes(name));
      if (wrong !== undefined)
        throw new UserError(
          `${where}.fuse: ${shown(wrong)} is no arm that trains — a sum is of trained arms of its own table. There are ${trained.join(', ')}`,
        );
      return [arm, fuse];
    }),
  );
}

/**
 * @param recipes of the trained arms
 * @throws UserError when arms that are added up learn more than adapters, or do not draw and score the same test pictures
 */
export function checkSummands(
  { file }: Pick<Protocol, 'file'>,
  fused: FusedArms,
  recipes: Readonly<Record<string, Recipe>>,
): void {
  for (const [arm, names] of Object.entries(fused)) {
    const where = `${file}  arms.${arm}`;
    const full = names.find((name) => learnsWholly(recipes[name]!.train));
    if (full !== undefined)
      throw new UserError(
        `${where}: ${full} trains all weights of a network — a sum is of adapters. Let it train a lora`,
      );
    const test = names.map((name) => Object.entries(testSettings(recipes[name]!)));
    for (const [i, [field, value]] of test[0]!.entries()) {
      const values = test.map((settings) => JSON.stringify(settings[i]![1]));
      if (values.every((other) => other === JSON.stringify(value))) continue;
      throw new UserError(
        `${where}: ${names.map((name, j) => `${name} has ${field} ${values[j]}`).join(', ')} — a sum is tested as the arms that it adds up. Give them the same ${field}`,
      );
    }
  }
}

/** All that a test picture and its score depend on besides the weights. */
function testSettings(recipe: Recipe) {
  const { model, reward, negativePrompt, size, microConditioning, sample } = recipe;
  const { prompts, evaluate, report } = recipe;
  return {
    model,
    reward,
    negativePrompt,
    size,
    microConditioning,
    'sample.steps': sample.steps,
    'sample.guidanceScale': sample.guidanceScale,
    report: { ...report, prompts: report.prompts ?? evaluate.prompts ?? prompts },
  };
}

/** With the recipe of the first arm that is added up. */
export interface FusedArmOptions extends ArmOptions {
  /** Arms that are added up. */
  fuse: readonly string[];
  /** Folder of the table's results. */
  results: string;
  armResults: readonly ArmResult[];
}

/** Draws and judges the test pictures with the sum of the arms' adapters. Undefined when it was interrupted. */
export async function* runFusedArm(
  options: FusedArmOptions,
): AsyncGenerator<RunEvent, ArmResult | undefined> {
  const { recipe, signal } = options;
  const { model: modelName, reward: rewardField, negativePrompt, report } = testSettings(recipe);
  const { sample, threads } = recipe;
  const device = recipe.device as Device;
  deviceName(device);
  if (threads !== undefined) setThreads(threads);
  const summands = options.fuse.flatMap((name) => adaptersOf(name, options));
  const prompts = repeatPrompts(loadPrompts(report.prompts), report.maxPrompts, report.picturesPerPrompt);
  const model = findModel(modelName);
  const reward = await loadReward(rewardField, device);
  const run = new Run(join(options.runs, runName(options)));
  makeFolder(run.adaptersFolder);
  const { file } = fuseAdapters(
    summands.map(({ path }) => ({ path, strength: 1 })),
    join(run.adaptersFolder, 'pytorch_lora_weights.safetensors'),
  );
  const pipeline = loadPipeline(model.path, loadOptionsOf(recipe));
  let adapters: LoraPair = {};
  try {
    settle(pipeline, recipe);
    checkBase(file, pipeline, model.name);
    const drawing = {
      training: {
        draw: (requests: Parameters<typeof drawForEvaluation>[1]) =>
          drawForEvaluation(pipeline, requests, negativePrompt, sample),
      },
      reward,
      batchSize: sample.batchSize,
    };
    const before = yield* drawAndScore(drawing, prompts, 'test', signal);
    adapters = loadLora(file, pipeline.parameters);
    const after = before && (yield* drawAndScore(drawing, prompts, 'test', signal));
    if (after === undefined) return undefined;
    const pairs = testPairs(prompts, before!, after);
    await keepEvaluation(run, { reward: reward.name, unit: reward.unit, pictures: 0, seconds: 0, pairs });
  } finally {
    for (const adapter of Object.values(adapters)) adapter?.remove();
    for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  }
  return armResultOf(options, run, {
    curve: [],
    cost: { pictures: 0, unetForwards: 0, seconds: 0, cpuSeconds: 0 },
    adapters: Object.fromEntries(summands.map(({ name, hash }) => [name, hash])),
  });
}

/**
 * The adapters that an arm's test pictures were drawn with.
 * @throws UserError when the arm was not run, or its run's folder is gone or holds others: a result keeps scores, not weights
 */
export function adaptersOf(
  summand: string,
  {
    arm,
    seed,
    runs,
    results,
    armResults,
  }: Pick<FusedArmOptions, 'arm' | 'seed' | 'runs' | 'results' | 'armResults'>,
): { name: string; path: string; hash: string }[] {
  const armResult = armResults.find((one) => one.arm === summand && one.seed === seed);
  if (armResult === undefined)
    throw new UserError(
      `${arm}, seed ${seed}: ${summand} has not run — a sum needs what it adds up. Run ${summand} with this seed first, or with it`,
    );
  const { adaptersFolder } = new Run(join(runs, runName({ arm: summand, seed })));
  return Object.entries(armResult.adapters).map(([file, hash]) => {
    const path = join(adaptersFolder, file);
    const again = `Remove ${armResultPath(results, summand, seed)} and run ${summand} again, or leave ${arm} out with --arms`;
    if (!existsSync(path))
      throw new UserError(
        `${path}: missing — ${arm} adds adapters up, and a result keeps only scores. ${again}`,
      );
    if (sha256(readFileSync(path)) !== hash)
      throw new UserError(`${path}: is not what the result of ${summand} was made with. ${again}`);
    return { name: `${summand}/${basename(path)}`, path, hash };
  });
}
