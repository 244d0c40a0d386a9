/** Draws every prompt of the suites with each arm, on the same noise, and has the judges look. */

import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { type Picture, picturesOf } from '@rldf/common/base/picture';
import { describePromptNotices, promptNotices } from '@rldf/common/base/prompt-notices';
import { checkBase } from '@rldf/common/instruments/adapter-base';
import { findModel } from '@rldf/common/instruments/models';
import { batchOfAll, generateShared, shareModel } from '@rldf/common/workers/draw';
import { promptSet, type SetPrompt } from '@rldf/emoji-world';
import { type Detection, type LoraAdapter, loadLora, loadPipeline, type Pipeline } from '@rldf/models';
import { type Device, free, noiseKey, Random } from '@rldf/torch';
import { InternalError, UserError } from '@rldf/torch/errors';
import type { AdapterFile } from '../adapters/generate-files.js';
import { mostPictures } from '../base/counts.js';
import type { DetectorField } from '../config/detector-fields.js';
import type { SingleReward } from '../config/fields.js';
import { checkDrawing } from '../plan/drawing.js';
import { readPromptFile } from '../prompts/prompt-files.js';
import { ownLabels } from '../rewards/detectors/index.js';
import { canTell, genevalTask } from '../rewards/geneval.js';
import { suites } from './index.js';
import { type LoadedJudges, loadJudges } from './judges.js';
import { differenceOf, type Measure, type Metric, type MetricDifference, metricOf } from './measures.js';
import { pictureSeed } from './seeds.js';
import type { EvalPrompt, Suite } from './suite.js';

/** A model as it is used: with its adapters, or without. */
export interface Arm {
  /** Shipped model, or folder in diffusers layout. */
  model: string;
  adapters?: readonly AdapterFile[];
}

export interface EvaluateOptions {
  /** Names of suites. A judge that is missing is an error, unless `skipMissing`. */
  suites: readonly string[];
  /** One model, or two to be compared. */
  arms: readonly [Arm] | readonly [Arm, Arm];
  /** Pictures of each prompt; default: each suite's own number. */
  pictures?: number;
  /** Numbers of the pictures within a prompt, instead of 0 to pictures - 1: they name the noise. */
  seeds?: readonly number[];
  /** At most this many prompts of each set. */
  maxPrompts?: number;
  eta?: number;
  steps?: number;
  guidanceScale?: number;
  /** Pictures drawn at once; changes memory and speed, not the pictures. */
  batchSize?: number;
  device?: Device;
  /** Leave out suites whose judge is not here. */
  skipMissing?: boolean;
  /** The network behind diversity, FID and KID, one of `featureNetworks`. */
  features?: string;
  /** Instead of the shipped judge that detects; prompts that name what it does not know are left out. */
  detector?: DetectorField;
  /** What the suite `reward` scores with. */
  reward?: SingleReward;
  /** A prompt file, for the suites `geneval` and `reward`. */
  prompts?: string;
  /** Instead of the shipped ones. */
  judges?: LoadedJudges;
  /** Told of prompts that the model does not see whole. */
  onNotice?: (line: string) => void;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

/** One picture as it is kept: its bytes on the contact sheet, its verdict in the records. */
export interface JudgedPicture {
  arm: number;
  suite: string;
  prompt: string;
  /** Of the picture within its prompt, and the noise's seed. */
  number: number;
  seed: number;
  verdict: unknown;
}

export interface SheetCell {
  label: string;
  /** One an arm. */
  pictures: { picture: Picture; boxes: readonly Detection[]; words: string }[];
}

export interface SuiteResult {
  sets: { set: string; hash: string; prompts: number; pictures: number }[];
  judges: string[];
  metrics: Record<string, Metric>;
  /** With two arms: those of the second, and first minus second. */
  against?: Record<string, Metric>;
  differences?: Record<string, MetricDifference>;
  sheet: SheetCell[];
  /** The measures of each arm, for pooling over training seeds. */
  measures: Record<string, Measure>[];
}

export interface Evaluation {
  arms: readonly Arm[];
  settings: { steps: number; guidanceScale: number; eta: number };
  suites: Record<string, SuiteResult>;
  skipped: Record<string, string>;
  pictures: JudgedPicture[];
  seconds: number;
}

type DrawnOptions = EvaluateOptions & Evaluation['settings'];

const defaultBatch = 64;

/** How many prompts are shown on a suite's sheet. */
const SHEET_PROMPTS = 24;

/**
 * @throws UserError for unknown suites, missing models, adapters and judges
 */
export async function evaluate(options: EvaluateOptions): Promise<Evaluation> {
  const started = performance.now();
  const names = [...new Set(options.suites)];
  const unknown = names.find((name) => !Object.hasOwn(suites, name));
  if (unknown !== undefined) {
    throw new UserError(
      `suite ${unknown}: there is none of this name — there are ${Object.keys(suites).join(', ')}, all`,
    );
  }
  for (const { model, adapters = [] } of options.arms) {
    const { path: folder } = findModel(model);
    for (const { path } of adapters) checkBase(path, folder, model);
  }
  const loaded =
    options.judges ??
    (await loadJudges(
      names.flatMap((name) => suites[name]!.judges),
      options,
    ));
  const skipped: Record<string, string> = {};
  const chosen = names.filter((name) => {
    const lacking = suites[name]!.judges.find((judge) => loaded.missing[judge] !== undefined);
    if (lacking !== undefined) skipped[name] = loaded.missing[lacking]!;
    return lacking === undefined;
  });
  const [firstSkipped] = Object.entries(skipped);
  if (firstSkipped !== undefined && (options.skipMissing !== true || chosen.length === 0)) {
    throw new UserError(`suite ${firstSkipped[0]}: ${firstSkipped[1]}`);
  }
  const labels = options.detector === undefined ? undefined : ownLabels(options.detector);
  const plans = plansOf(chosen, options, labels);
  const progress = new Counter(plans, options);
  const verdicts: Verdicts[] = [];
  let settings: Evaluation['settings'] | undefined;
  for (const arm of options.arms) {
    verdicts.push(
      await withPipeline(arm, options.device, async (pipeline) => {
        const own = {
          steps: options.steps ?? pipeline.defaults.steps ?? 30,
          guidanceScale: options.guidanceScale ?? pipeline.defaults.guidanceScale ?? 7.5,
          eta: options.eta ?? 0,
        };
        settings ??= own;
        await checkArm(pipeline, arm, plans, { ...options, ...own });
        return drawArm(pipeline, plans, loaded, { ...options, ...settings }, progress);
      }),
    );
  }
  if (settings === undefined) throw new InternalError('evaluate: no arm given');
  return {
    arms: options.arms,
    settings,
    suites: Object.fromEntries(chosen.map((name) => [name, resultOf(name, plans, verdicts, loaded)])),
    skipped,
    pictures: verdicts.flatMap((arm, number) => arm.pictures.map((picture) => ({ arm: number, ...picture }))),
    seconds: (performance.now() - started) / 1000,
  };
}

/** A set that is drawn once for all suites that ask for it. */
interface SetPlan {
  set: string;
  hash: string;
  prompts: readonly EvalPrompt[];
  numbers: readonly number[];
  suites: string[];
}

function plansOf(
  names: readonly string[],
  { pictures, seeds, maxPrompts, arms, prompts: file, onNotice }: EvaluateOptions,
  labels: readonly string[] | undefined,
): SetPlan[] {
  const plans = new Map<string, SetPlan>();
  for (const name of names) {
    for (const one of suites[name]!.sets) {
      const { pictures: own } = one;
      const from = suites[name]!.file;
      if (from === 'must' && file === undefined)
        throw new UserError(
          `suite ${name}: no prompt file is given — it asks what a file such as GenEval’s evaluation_metadata.jsonl says. Name it by --prompts`,
        );
      const told = from !== undefined && file !== undefined ? promptsIn(file) : promptSet(one.set);
      const known = suites[name]!.judges.includes('detector')
        ? tellable(name, told.prompts, labels)
        : told.prompts;
      if (known.length < told.prompts.length)
        onNotice?.(
          `${name}: ${known.length} of ${told.prompts.length} prompts name only what the detector knows; the others are left out`,
        );
      const prompts = known;
      const { hash } = told;
      const set =
        known.length < told.prompts.length ? `${told.name}, as far as the detector knows` : told.name;
      const each = seeds?.length ?? pictures ?? own;
      const asked = prompts.slice(0, maxPrompts).length * each * arms.length;
      if (asked > mostPictures)
        throw new UserError(
          `suite ${name}: ${each} pictures of each prompt are ${asked} in all — at most ${mostPictures} in one evaluation. Give fewer with --pictures or --max-prompts`,
        );
      const numbers = seeds ?? Array.from({ length: each }, (_, number) => number);
      const plan: SetPlan = plans.get(set) ?? {
        set,
        hash,
        prompts: prompts.slice(0, maxPrompts),
        numbers,
        suites: [],
      };
      plan.suites.push(name);
      plans.set(set, plan);
    }
  }
  return [...plans.values()];
}

/** The prompts of a file, with what it says besides. */
function promptsIn(file: string): { name: string; prompts: EvalPrompt[]; hash: string } {
  const prompts = readPromptFile(file).map(
    ({ text, meta }): EvalPrompt => ({ prompt: text, meta, group: '', scene: nothing }),
  );
  const hash = createHash('sha256').update(JSON.stringify(prompts.map(({ prompt, meta }) => [prompt, meta]))).digest('hex'); // biome-ignore format: one thought
  return { name: basename(file), prompts, hash };
}

/** What stands for a scene where there is none: a prompt file says in `meta` what is asked. */
const nothing = { objects: [] } as unknown as SetPrompt['scene'];

/** The prompts that name only what a detector knows. @throws UserError if there is none */
function tellable(
  suite: string,
  prompts: readonly EvalPrompt[],
  labels: readonly string[] | undefined,
): readonly EvalPrompt[] {
  if (labels === undefined) return prompts;
  const known = new Set<string>(labels);
  const told = prompts.filter(({ scene, meta, prompt }) =>
    meta === undefined
      ? scene.objects.every(({ noun }) => known.has(noun)) && scene.activity === undefined
      : canTell(genevalTask(meta, prompt), { labels }),
  );
  if (told.length > 0) return told;
  throw new UserError(
    `suite ${suite}: none of its ${prompts.length} prompts names only what the detector knows (${labels.slice(0, 6).join(', ')}, ...) — nothing could be judged. Leave the suite out, or give another --detector`,
  );
}

class Counter {
  #done = 0;
  readonly #total: number;
  readonly #report: EvaluateOptions['onProgress'];

  constructor(plans: readonly SetPlan[], { arms, onProgress }: EvaluateOptions) {
    const pictures = plans.reduce((sum, { prompts, numbers }) => sum + prompts.length * numbers.length, 0);
    this.#total = pictures * arms.length;
    this.#report = onProgress;
  }

  add(pictures: number): void {
    this.#done += pictures;
    this.#report?.(this.#done, this.#total);
  }
}

interface Verdicts {
  /** By suite and set: one row a prompt. */
  rows: Map<string, unknown[][]>;
  pictures: Omit<JudgedPicture, 'arm'>[];
  /** First picture of the first prompts, by suite and set. */
  shown: Map<string, Picture[]>;
}

const keyOf = (suite: string, set: string) => `${suite}/${set}`;

async function withPipeline<T>(
  { model, adapters = [] }: Arm,
  device: Device | undefined,
  use: (pipeline: Pipeline) => Promise<T>,
): Promise<T> {
  const pipeline = loadPipeline(findModel(model).path, device === undefined ? {} : { device });
  const attached: LoraAdapter[] = [];
  try {
    for (const { path, strength } of adapters) {
      const networks = Object.values(loadLora(path, pipeline.parameters, strength));
      attached.push(...networks.filter((adapter): adapter is LoraAdapter => adapter !== undefined));
    }
    shareModel(pipeline, { folder: findModel(model).path, device, adapters });
    return await use(pipeline);
  } finally {
    for (const adapter of attached) adapter.remove();
    for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  }
}

/** @throws UserError when a batch does not fit into the memory; a long wait is told */
async function checkArm(
  pipeline: Pipeline,
  { model }: Arm,
  plans: readonly SetPlan[],
  { batchSize = defaultBatch, device = 'cpu', steps, guidanceScale, onNotice }: DrawnOptions,
): Promise<void> {
  const counts = plans.map(({ prompts, numbers }) => prompts.length * numbers.length);
  await checkDrawing(pipeline, {
    ...{ folder: findModel(model).path, device, steps, guided: guidanceScale !== 1, onNotice },
    batchSize: Math.min(batchSize, Math.max(0, ...counts)),
    pictures: counts.reduce((a, b) => a + b, 0),
  });
}

async function drawArm(
  pipeline: Pipeline,
  plans: readonly SetPlan[],
  { judges }: LoadedJudges,
  options: DrawnOptions,
  progress: Counter,
): Promise<Verdicts> {
  const { steps, guidanceScale, eta, signal } = options;
  const batchSize = batchOfAll(pipeline, options.batchSize ?? defaultBatch);
  const asked = plans.flatMap(({ prompts }) => prompts.map(({ prompt }) => prompt));
  const notices = promptNotices(pipeline.tokenizer, asked);
  for (const line of describePromptNotices(notices, pipeline.tokenizer.maxLength)) options.onNotice?.(line);
  const verdicts: Verdicts = { rows: new Map(), pictures: [], shown: new Map() };
  for (const { set, prompts, numbers, suites: names } of plans) {
    const requests = prompts.flatMap((prompt, row) => numbers.map((number) => ({ prompt, number, row })));
    for (const name of names) {
      verdicts.rows.set(
        keyOf(name, set),
        prompts.map(() => []),
      );
      verdicts.shown.set(keyOf(name, set), []);
    }
    for (let start = 0; start < requests.length; start += batchSize) {
      const part = requests.slice(start, start + batchSize);
      const seeds = part.map(({ prompt, number }) => pictureSeed(prompt.prompt, number));
      const drawn = await generateShared(pipeline, {
        prompts: part.map(({ prompt }) => prompt.prompt),
        seeds,
        steps,
        guidanceScale,
        eta,
        ...(signal === undefined ? {} : { signal }),
      });
      const images = drawn.images.to('cpu'); // judges look there, wherever it was drawn
      try {
        const pictures = picturesOf(drawn.images);
        const looked = {
          images,
          pictures,
          prompts: part.map(({ prompt }) => prompt),
          numbers: part.map(({ number }) => number),
        };
        for (const name of names) {
          const said = await (suites[name] as Suite).look(looked, judges);
          if (said.length !== part.length)
            throw new InternalError(`suite ${name}: ${said.length} verdicts for ${part.length} pictures`);
          for (const [i, { prompt, number, row }] of part.entries()) {
            verdicts.rows.get(keyOf(name, set))![row]!.push(said[i]);
            if (number === numbers[0] && row < SHEET_PROMPTS)
              verdicts.shown.get(keyOf(name, set))!.push(pictures[i]!);
            verdicts.pictures.push({
              suite: name,
              prompt: prompt.prompt,
              number,
              seed: seeds[i]!,
              verdict: said[i],
            });
          }
        }
      } finally {
        free([images, drawn.images, drawn.latents]);
      }
      progress.add(part.length);
    }
  }
  return verdicts;
}

function resultOf(
  name: string,
  plans: readonly SetPlan[],
  arms: readonly Verdicts[],
  { by }: LoadedJudges,
): SuiteResult {
  const suite = suites[name]!;
  const own = plans.filter((plan) => plan.suites.includes(name));
  const judged = arms.map(({ rows }) =>
    own.flatMap(({ set, prompts }) =>
      prompts.map((prompt, row) => ({ prompt, verdicts: rows.get(keyOf(name, set))![row]! })),
    ),
  );
  const measures = judged.map((of) => suite.measure(of));
  const [first, second] = measures as [Record<string, Measure>, Record<string, Measure>?];
  const metricsOf = (of: Record<string, Measure>) =>
    mapValues(of, (measure, metric) => metricOf(measure, seeded(metric)));
  const sheet = own.flatMap(({ set, prompts }) =>
    prompts.slice(0, Math.ceil(SHEET_PROMPTS / own.length)).map((prompt, row) => ({
      label: prompt.prompt,
      pictures: arms.map(({ rows, shown }) => {
        const verdict = rows.get(keyOf(name, set))![row]![0];
        return {
          picture: shown.get(keyOf(name, set))![row]!,
          boxes: suite.boxes?.(verdict) ?? [],
          words: suite.words(prompt, verdict),
        };
      }),
    })),
  );
  return {
    sets: own.map(({ set, hash, prompts, numbers }) => ({
      set,
      hash,
      prompts: prompts.length,
      pictures: prompts.length * numbers.length,
    })),
    judges: suite.judges.map((judge) => by[judge] ?? judge),
    metrics: metricsOf(first),
    ...(second === undefined
      ? {}
      : {
          against: metricsOf(second),
          differences: mapValues(first, (measure, metric) =>
            differenceOf(measure, second[metric]!, seeded(metric)),
          ),
        }),
    sheet,
    measures,
  };
}

/** The bootstrap's randomness: by the metric's name alone, so that an evaluation repeats to the digit. */
const seeded = (metric: string) => new Random(noiseKey(0, `evaluation-bootstrap/${metric}`));

function mapValues<A, B>(
  record: Readonly<Record<string, A>>,
  map: (value: A, key: string) => B,
): Record<string, B> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value, key)]));
}
