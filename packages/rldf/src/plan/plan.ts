/** What a recipe will need, before any of it is loaded: memory, pictures, updates and time. docs/memory.md */

import { didYouMean } from '@rldf/common/base/suggest';
import { findModel, listModels } from '@rldf/common/instruments/models';
import { availableDevices, type Device } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import type { BatchArithmetic } from '../config/batch-arithmetic.js';
import { methodOf } from '../methods/index.js';
import { loadPrompts } from '../prompts/prompts.js';
import type { Recipe } from '../recipe/recipe.js';
import { askShapes } from './ask-shapes.js';
import { type Fitted, type Sizes, withSizes } from './fit.js';
import type { MemoryPrediction, PlannedModel } from './miniature.js';
import { configNames, findConfigs } from './model-configs.js';
import { costsOf, evaluatedPictures, evaluationSets } from './pictures.js';
import { checkPolicy } from './policy-check.js';
import type { Question } from './shapes-process.js';

/** What Node.js, libtorch's code and its own buffers take besides the tensors; `npm run bench -- memory` measures it. */
export const processBytes = 500e6;

export interface PlanOptions {
  /** Bytes for the whole process. */
  memory?: number;
  /** Instead of the recipe's: a shipped model, a folder, or a name of `configNames()`. */
  model?: string;
  /** Seconds that this machine may be tried for; 0: no estimate of the time. */
  calibration?: number;
}

export interface Plan {
  model: string;
  arithmetic: BatchArithmetic;
  /** Pictures drawn to evaluate. */
  evaluatedPictures: number;
  /** What judges that answer over the network will be asked, in words. */
  costs: string[];
  asked: Sizes;
  chosen: Sizes;
  /** Whether it fits; always true if no limit was given. */
  fits: boolean;
  /** The limit for tensors: what was given less `processBytes`. */
  limit: number | null;
  memory: MemoryPrediction;
  askedMemory: MemoryPrediction;
  wayOut: Fitted['wayOut'];
  /** Bytes of one checkpoint, and of as many as lie there at once: the newest, the best, and one that is being written. */
  disk: { checkpoint: number; checkpoints: number };
  /** Estimated seconds of the whole run and of its parts; null without calibration, or where the recipe's device is not. */
  seconds: { total: number; drawing: number; learning: number; evaluation: number } | null;
}

/**
 * Predicts a run. Nothing is loaded: the training runs in miniature in a process whose tensors have no numbers.
 *
 * @throws UserError when the model is neither here nor known by its configurations
 */
export async function plan(recipe: Recipe, options: PlanOptions = {}): Promise<Plan> {
  const { name, model } = modelOf(options.model ?? recipe.model);
  const prompts = loadPrompts(recipe.prompts);
  const validation = recipe.evaluate.prompts === undefined ? prompts : loadPrompts(recipe.evaluate.prompts);
  const test = recipe.report.prompts === undefined ? validation : loadPrompts(recipe.report.prompts);
  methodOf(recipe).checkPrompts?.(recipe, prompts);
  checkPolicy({ ...recipe, model: options.model ?? recipe.model });
  const sets = evaluationSets(recipe, { validation, test });
  const evaluated = evaluatedPictures(recipe, { validation, test });
  const limit = options.memory === undefined ? undefined : options.memory - processBytes;
  if (limit !== undefined && limit <= 0) {
    throw new UserError(
      `plan: --memory is ${options.memory} bytes — Node.js and libtorch alone take about ${processBytes}. Give more`,
    );
  }
  const fitted = await askShapes<Question, Fitted>('shapes-process', {
    recipe: { ...recipe, seed: 0 }, // no number depends on it, and it may be a BigInt
    model,
    prompts: prompts.slice(0, Math.max(1, recipe.sample.promptsPerEpoch)),
    evaluated: Math.max(sets.validation, sets.test),
    ...(limit === undefined ? {} : { limit }),
  });
  const arithmetic = methodOf(recipe).plan.arithmetic(withSizes(recipe, fitted.chosen));
  const { work, ...rest } = fitted;
  let seconds: Plan['seconds'] = null;
  const device = recipe.device as Device;
  if (options.calibration !== 0 && isHere(device)) {
    const { calibrate } = await import('./calibration.js');
    const { drawing, learning, decoding } = calibrate(work, options.calibration ?? 5, device);
    const { pictures, halves, samplingForwards, trainingForwards } = arithmetic;
    const parts = {
      drawing: (samplingForwards / halves) * drawing + pictures * decoding,
      learning: (trainingForwards / halves) * learning,
      evaluation: evaluated * (recipe.sample.steps * drawing + decoding),
    };
    seconds = { total: parts.drawing + parts.learning + parts.evaluation, ...parts };
  }
  const { checkpoint } = rest.memory;
  const disk = { checkpoint, checkpoints: checkpoint * (recipe.checkpoint.keep + 2) };
  const costs = costsOf(recipe, { validation, test });
  return {
    model: name,
    arithmetic,
    evaluatedPictures: evaluated,
    costs,
    ...rest,
    disk,
    limit: limit ?? null,
    seconds,
  };
}

const isHere = (device: Device) => availableDevices().includes(device === 'cuda' ? 'cuda:0' : device);

function modelOf(wanted: string): { name: string; model: PlannedModel } {
  const configs = findConfigs(wanted);
  try {
    const { name, path } = findModel(wanted);
    return { name, model: { folder: path } };
  } catch (error) {
    if (configs !== undefined) return { name: configs.name, model: { configs } };
    const names = [...listModels().map(({ name }) => name), ...configNames()];
    if (!/neither/.test((error as Error).message)) throw error;
    throw new UserError(
      `plan: model ${wanted} — neither here nor known by its configurations. Give --model a folder, or one of ${names.join(', ')}${didYouMean(wanted, names)}`,
    );
  }
}
