/** What a recipe would do: its arithmetic, and a time estimated from a short try of the model on this machine. */

import { findModel } from '@rldf/common/instruments/models';
import { generate, loadPipeline, openModel, type SchedulerConfig } from '@rldf/models';
import { type Device, deviceName, free, setThreads } from '@rldf/torch';
import { duration } from '../base/duration.js';
import { describeArithmetic } from '../config/batch-arithmetic.js';
import { loadOptionsOf } from '../config/precision.js';
import { methodOf } from '../methods/index.js';
import { costsOf, evaluatedPictures } from '../plan/pictures.js';
import { checkPolicy, samplerNotices } from '../plan/policy-check.js';
import { loadPrompts } from '../prompts/prompts.js';
import type { Recipe } from '../recipe/recipe.js';
import { loadReward } from '../rewards/index.js';
import { noticesOf } from '../train/from-recipe.js';
import { licencesOf, refuseUncommercial } from '../train/ledger.js';
import { print } from './output.js';
import { printJson } from './shared.js';

/** A backward costs about two forwards. */
const forwardAndBackward = 3;

export async function dryRun(recipe: Recipe, json: boolean): Promise<void> {
  deviceName(recipe.device as Device);
  if (recipe.threads !== undefined) setThreads(recipe.threads);
  const model = findModel(recipe.model);
  const licences = licencesOf(recipe);
  if (recipe.commercial) refuseUncommercial(licences);
  const prompts = loadPrompts(recipe.prompts);
  const validation = recipe.evaluate.prompts === undefined ? prompts : loadPrompts(recipe.evaluate.prompts);
  const test = recipe.report.prompts === undefined ? validation : loadPrompts(recipe.report.prompts);
  const method = methodOf(recipe);
  method.checkPrompts?.(recipe, prompts);
  checkPolicy(recipe);
  const reward = await loadReward(recipe.reward);
  const arithmetic = method.plan.arithmetic(recipe);
  const evaluated = evaluatedPictures(recipe, { validation, test });
  const tokenizer = openModel(model.path).tokenizer('tokenizer');
  for (const line of [...noticesOf(recipe, tokenizer, reward), ...costsOf(recipe, { validation, test })])
    process.stderr.write(`${line}\n`);
  const { forward, decode, schedulerConfig } = await measure(recipe, model.path);
  for (const line of samplerNotices(recipe, schedulerConfig)) process.stderr.write(`${line}\n`);
  const seconds =
    arithmetic.samplingForwards * forward +
    arithmetic.trainingForwards * forward * forwardAndBackward +
    (arithmetic.pictures + evaluated) * decode +
    evaluated * 2 * recipe.sample.steps * forward;
  if (json)
    return printJson({
      ...arithmetic,
      prompts: prompts.length,
      evaluated,
      estimatedSeconds: Math.round(seconds),
    });
  const lines = [
    `model      ${model.name} (${model.licence})`,
    `prompts    ${prompts.length} to choose from`,
    ...(method.plan.describe?.(recipe, arithmetic) ?? describeArithmetic(recipe, arithmetic)),
    `evaluation ${evaluated} pictures`,
    `time       about ${duration(seconds)} on this machine`,
  ];
  print(`${lines.join('\n')}\n`);
}

/** Seconds of one U-Net forward of one picture, and of decoding one picture; and the model's own scheduler's config. */
async function measure(
  recipe: Recipe,
  folder: string,
): Promise<{ forward: number; decode: number; schedulerConfig: SchedulerConfig }> {
  const pipeline = loadPipeline(folder, loadOptionsOf({ ...recipe, offload: false }));
  const count = Math.min(8, recipe.sample.batchSize);
  const seeds = Array.from({ length: count }, (_, index) => index);
  const marks: number[] = [];
  const steps = 3;
  const scheduler = 'DDIMScheduler'; // asks the network once a step; others cost as much a call
  const options = { prompts: seeds.map(() => 'a cat'), seeds, steps, guidanceScale: 2, scheduler } as const;
  try {
    free(await generate(pipeline, { ...options, onStep: () => void marks.push(performance.now()) }));
    const end = performance.now();
    const [first, , last] = marks as [number, number, number];
    return {
      forward: (last - first) / 1000 / (steps - 1) / (2 * count),
      decode: (end - last) / 1000 / count,
      schedulerConfig: pipeline.schedulerConfig,
    };
  } finally {
    for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  }
}
