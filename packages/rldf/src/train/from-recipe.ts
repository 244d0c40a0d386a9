/** From a recipe to a run: loads model, prompts and reward, and starts or resumes the training. */

import { readTextIfThere, replaceFile } from '@rldf/common/base/files';
import { describePromptNotices, describeUnscored, promptNotices } from '@rldf/common/base/prompt-notices';
import { baseFingerprint } from '@rldf/common/instruments/adapter-base';
import { findModel } from '@rldf/common/instruments/models';
import { crew } from '@rldf/common/workers/crew';
import { type CLIPTokenizer, loadPipeline, residentMeanwhile } from '@rldf/models';
import { type Device, deviceName, Parameters, setThreads, type Tensor } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { stringify } from 'yaml';
import type { DetectorField } from '../config/detector-fields.js';
import { loadOptionsOf } from '../config/precision.js';
import { methodOf } from '../methods/index.js';
import { costsOf } from '../plan/pictures.js';
import { samplerNotices } from '../plan/policy-check.js';
import { checkTraining } from '../plan/training.js';
import { loadPrompts } from '../prompts/prompts.js';
import { checkRecipe, loadRecipe } from '../recipe/load.js';
import type { Recipe } from '../recipe/recipe.js';
import { openDetector } from '../rewards/detectors/index.js';
import { gradientMissing } from '../rewards/differentiable.js';
import { loadReward } from '../rewards/index.js';
import { type RewardFunction, rewardFromFunction } from '../rewards/module.js';
import { type CompositeReward, type Reward, scorePictures } from '../rewards/reward.js';
import { compareInputs, hashOf, inputsOf, type RunInputs } from '../run/inputs.js';
import { PictureLog } from '../run/picture-log.js';
import { createRun, openRun, type Run } from '../run/run.js';
import { checkTrackers } from '../run/trackers.js';
import type { Training } from '../run/training.js';
import { settle } from '../sampling/model-settings.js';
import { pictureMemory, type Recall } from '../sampling/picture-memory.js';
import { needsBasePictures, scoreBasePictures } from './base-pictures.js';
import { licencesOf, modelName, refuseUncommercial } from './ledger.js';
import { describeSeam } from './seam.js';
import { led } from './shared-training.js';
import { type RunEvent, type TrainRunOptions, trainRun } from './train.js';

export interface TrainOptions {
  /** Name of the run's folder. Default: the recipe's `name`. */
  name?: string;
  /** Folder of all runs. */
  root?: string;
  /** Instead of the recipe's reward, which then only names it. Must be given again to resume. */
  reward?: RewardFunction | Reward | CompositeReward;
  /** Folder that keeps pictures of the untrained model for other runs that begin with the same ones. Default: none. */
  memory?: string;
  /** Aborting saves and ends the run at the next place where that is possible. */
  signal?: AbortSignal;
}

export interface ResumeOptions extends Omit<TrainOptions, 'name'> {
  /** Pass over damaged checkpoints to older ones. */
  fallback?: boolean;
  /** `key=value`; only `epochs` may change in a run, to make it longer. */
  overrides?: readonly string[];
}

/**
 * Trains by a recipe given as an object or as a file's path.
 *
 * @example
 * ```ts
 * for await (const event of train({ method: 'ddpo', prompts: ['a cat', 'a dog'], reward: 'jpeg-compressibility', train: { clipNats: 1.6 } }, { name: 'first' })) {
 *   if (event.kind === 'step') console.log(event.step, event.row['reward/mean']);
 *   if (event.kind === 'finished') console.log(event.report.reward);
 * }
 * ```
 * @throws UserError for every mistake in the recipe, before anything is written
 */
export async function* train(recipe: string | object, options: TrainOptions = {}): AsyncGenerator<RunEvent> {
  const checked = typeof recipe === 'string' ? loadRecipe(recipe) : checkRecipe(recipe);
  const name = options.name ?? checked.name;
  if (name === undefined)
    throw new UserError('train: the run has no name — give one as `name` in the recipe or the options');
  crew().tell({ do: 'train', recipe: checked });
  const prepared = await prepare(checked, options);
  const run = createRun({
    name,
    recipe: checked,
    inputs: prepared.inputs,
    ...(options.root === undefined ? {} : { root: options.root }),
  });
  yield* drive(prepared, { run });
}

/**
 * Continues a run from its newest checkpoint to its end.
 * @param run folder, or name below `root`
 */
export async function* resume(run: string, options: ResumeOptions = {}): AsyncGenerator<RunEvent> {
  const opened = openRun(run, options.root);
  const overrides = options.overrides ?? [];
  const refused = overrides.find((override) => !override.startsWith('epochs='));
  if (refused !== undefined) {
    throw new UserError(
      `--set ${refused}: only epochs may change in a run that is resumed, or it would not continue but become another. Start a new run with \`rldf train\``,
    );
  }
  opened.take(); // before the model is loaded: a refusal comes at once
  try {
    const before = loadRecipe(opened.recipePath);
    const recipe = overrides.length === 0 ? before : loadRecipe(opened.recipePath, overrides);
    crew().tell({ do: 'train', recipe });
    const prepared = await prepare(recipe, options, opened);
    if (overrides.length > 0) replaceFile(opened.recipePath, stringify(recipe));
    const seam = (step: number) => describeSeam(before, recipe, step);
    yield* drive({ ...prepared, seam }, { run: opened, resume: true, fallback: options.fallback ?? false });
  } finally {
    opened.release();
  }
}

type Prepared = Omit<TrainRunOptions, 'run' | 'resume' | 'fallback'> & {
  drawn: PictureLog;
  inputs: RunInputs;
  release: () => void;
};

async function* drive(
  { release, inputs: _, ...prepared }: Prepared,
  rest: { run: Run; resume?: boolean; fallback?: boolean },
): AsyncGenerator<RunEvent> {
  try {
    yield* trainRun({ ...prepared, ...rest });
  } finally {
    release();
  }
}

/**
 * Loads everything a run needs. Fails before a run folder is made if something is missing.
 * @param begun the run that goes on
 */
export async function prepare(
  given: Recipe,
  options: Pick<TrainOptions, 'reward' | 'memory' | 'signal'>,
  begun?: Run,
): Promise<Prepared> {
  const device = crew().deviceHere(given.device as Device);
  // sizes of its own: they are halved when memory runs out
  const { sample, train } = given;
  const recipe = { ...given, device, sample: { ...sample }, train: { ...train } } as Recipe;
  crew().stopBy(options.signal);
  deviceName(device);
  if (recipe.threads !== undefined) setThreads(recipe.threads);
  await checkTrackers(recipe.log);
  const model = findModel(recipe.model);
  const licences = licencesOf(recipe);
  if (recipe.commercial) refuseUncommercial(licences);
  const prompts = loadPrompts(recipe.prompts);
  const validation = recipe.evaluate.prompts === undefined ? prompts : loadPrompts(recipe.evaluate.prompts);
  const test = recipe.report.prompts === undefined ? validation : loadPrompts(recipe.report.prompts);
  methodOf(recipe).checkPrompts?.(recipe, prompts);
  const { result: reward, made: judges } = await Parameters.madeBy(() => rewardOf(recipe, options));
  if (methodOf(recipe).followsReward && reward.differentiable === undefined) {
    throw new UserError(gradientMissing(recipe.method, reward.name));
  }
  await checkTraining(recipe, { begun: begun !== undefined });
  const judge =
    recipe.watch.judge === undefined
      ? undefined
      : await loadReward(recipe.watch.judge, device, options.signal);
  const { detector: field } = recipe as { detector?: DetectorField };
  const detector = field === undefined ? undefined : openDetector(field, { device });
  await Promise.all([reward, judge, detector].map((one) => one?.ready?.()));
  const pipeline = loadPipeline(model.path, loadOptionsOf(recipe));
  if (recipe.longPrompts === 'chunks') {
    // the same for all pictures of a run, so that none depends on its batch
    pipeline.promptChunks = Math.max(...textsOf(recipe).map((text) => pipeline.tokenizer.chunks(text)));
  }
  const differentiable =
    reward.differentiable === undefined ? {} : { differentiable: reward.differentiable.bind(reward) };
  const signal = options.signal === undefined ? {} : { signal: options.signal };
  const log = new PictureLog();
  try {
    settle(pipeline, recipe, judges);
    const recall = options.memory === undefined ? undefined : pictureMemory(options.memory, pipeline);
    const inputs: RunInputs = {
      base: baseFingerprint(pipeline),
      prompts: { prompts: hashOf(prompts), evaluate: hashOf(validation), report: hashOf(test) },
      modules: hashesOfModules(recipe.reward),
    };
    const changed = begun === undefined ? [] : compareInputs(begun, inputs, recipe.model);
    const created = methodOf(recipe).create(recipe, pipeline, {
      prompts,
      score: async (images, drawn, purpose = 'training', behaviours = [], given = undefined) => {
        const texts = drawn.map(({ text }) => text);
        const rows = crew().size === 1 ? undefined : given;
        const batch = { images, prompts: texts, meta: drawn.map(({ meta }) => meta), rows };
        const scores = await residentMeanwhile(pipeline, judges, () => scorePictures(reward, batch, purpose));
        if (purpose === 'training') log.note(images, texts, scores, behaviours, rows);
        return scores;
      },
      begin: (images, drawn) =>
        reward.begin?.({
          images,
          prompts: drawn.map(({ text }) => text),
          meta: drawn.map(({ meta }) => meta),
        }),
      ...(detector && { detector }),
      ...differentiable,
      ...(recall && { recall }),
      ...signal,
    });
    const training = led(created, reward);
    return {
      training,
      reward,
      drawn: log,
      log: recipe.log,
      validation: { ...recipe.evaluate, prompts: validation },
      test: { ...recipe.report, prompts: test },
      checkpoint: recipe.checkpoint,
      ...(needsBasePictures(recipe, reward) && {
        base: () => scoreBasePictures(recipe, pipeline, prompts, reward as CompositeReward),
      }),
      ...(recall && { drawUntrained: drawUntrained(recipe, training, recall) }),
      ...(begun !== undefined && inputsOf(begun) === undefined && { baseUnknown: true }),
      watch: { mode: recipe.watch.mode, ...(judge === undefined ? {} : { judge }) },
      batchSize: recipe.sample.batchSize,
      sizes: recipe,
      notices: [
        ...changed,
        ...samplerNotices(recipe, pipeline.schedulerConfig),
        ...noticesOf(recipe, pipeline.tokenizer, reward),
        ...costsOf(recipe, { validation, test, own: options.reward !== undefined }),
      ],
      inputs,
      ledger: { method: recipe.method, model: modelName(recipe.model), licences },
      ...signal,
      release: () => {
        training.free();
        for (const parameters of Object.values(pipeline.parameters)) parameters.free();
      },
    };
  } catch (error) {
    for (const parameters of Object.values(pipeline.parameters)) parameters.free();
    throw error;
  }
}

/** Draws evaluations of before training through a memory. */
function drawUntrained(recipe: Recipe, training: Training, recall: Recall): Training['draw'] {
  const { sample, negativePrompt } = recipe;
  const { steps, guidanceScale } = sample;
  const boxes = 'grounding' in recipe && recipe.grounding ? { boxes: recipe.grounding.evaluate } : {};
  const settings = { steps, guidanceScale, negativePrompt, ...boxes };
  return async (requests) => {
    const { images } = await recall({ ...settings, requests }, async () => ({
      images: await training.draw(requests),
    }));
    return images as Tensor;
  };
}

/** All that a recipe lets the model read. */
export function textsOf({ prompts, evaluate, report, negativePrompt }: Recipe): string[] {
  const fields = [prompts, evaluate.prompts, report.prompts].filter((field) => field !== undefined);
  return [...fields.flatMap((field) => loadPrompts(field).map(({ text }) => text)), negativePrompt ?? ''];
}

/** What the model, and the reward where it is here, do not see of a recipe's prompts. */
export function noticesOf(recipe: Recipe, tokenizer: CLIPTokenizer, reward?: Reward): string[] {
  const [texts, whole] = [textsOf(recipe), recipe.longPrompts === 'chunks'];
  return [
    ...describePromptNotices(promptNotices(tokenizer, texts, whole), tokenizer.maxLength),
    ...describeUnscored(tokenizer, reward?.readers ?? [], texts, whole),
  ];
}

async function rewardOf(
  recipe: Recipe,
  { reward: given, signal }: Pick<TrainOptions, 'reward' | 'signal'>,
): Promise<Reward | CompositeReward> {
  if (given === undefined) return loadReward(recipe.reward, recipe.device as Device, signal);
  if (typeof given !== 'function') return given;
  return rewardFromFunction(typeof recipe.reward === 'string' ? recipe.reward : 'reward', given);
}

/** Of the modules that a reward names, wherever in it. */
function hashesOfModules(reward: unknown): Record<string, string> {
  const hashes: Record<string, string> = {};
  JSON.stringify(reward, (key, value) => {
    if (key === 'module' && typeof value === 'string') hashes[value] = hashOf(readTextIfThere(value) ?? '');
    return value;
  });
  return hashes;
}
