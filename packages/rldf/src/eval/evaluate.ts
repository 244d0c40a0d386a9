/** Draws every prompt of the suites with each arm, on the same noise, and has the judges look. */

import { type Picture, picturesOf } from '@rldf/common/base/picture';
import { describePromptNotices, promptNotices } from '@rldf/common/base/prompt-notices';
import { checkBase } from '@rldf/common/instruments/adapter-base';
import { findModel } from '@rldf/common/instruments/models';
import { batchOfAll, generateShared, shareModel } from '@rldf/common/workers/draw';
import { type Detection, type LoraAdapter, loadLora, loadPipeline, type Pipeline } from '@rldf/models';
import { type Device, free, noiseKey, Random } from '@rldf/torch';
import { InternalError, UserError } from '@rldf/torch/errors';
import type { AdapterFile } from '../adapters/generate-files.js';
import type { DetectorField } from '../config/detector-fields.js';
import type { SingleReward } from '../config/fields.js';
import { checkDrawing } from '../plan/drawing.js';
import { ownLabels } from '../rewards/detectors/index.js';
import { suites } from './index.js';
import { type LoadedJudges, loadJudges } from './judges.js';
import { KeptPictures } from './kept-pictures.js';
import { differenceOf, type Measure, type Metric, type MetricDifference, metricOf } from './measures.js';
import { callsIn, plansOf, type SetPlan } from './plans.js';
import { pictureSeed } from './seeds.js';
import type { Suite } from './suite.js';

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
  /** What the suite `reward` scores with, and the suite `pairs` asks. */
  reward?: SingleReward;
  /** A prompt file, for the suites `geneval`, `reward` and `pairs`. */
  prompts?: string;
  /** Instead of the shipped ones. */
  judges?: LoadedJudges;
  /** Told of prompts that the model does not see whole. */
  onNotice?: (line: string) => void;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

/** One picture as it is kept: its bytes on the contact sheet, its verdict in the records; of the suite `pairs`, two. */
export interface JudgedPicture {
  /** 0 is the model, 1 what it is compared with; undefined for a verdict on both. */
  arm?: number;
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
  const beside = names.find((name) => suites[name]!.compare !== undefined);
  if (beside !== undefined && options.arms.length < 2)
    throw new UserError(
      `suite ${beside}: one model — it compares the pictures of two. Give the other with --against or --against-adapter`,
    );
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
  for (const line of callsIn(plans, options)) options.onNotice?.(line);
  const progress = new Counter(plans, options);
  const verdicts: Verdicts[] = [];
  let settings: Evaluation['settings'] | undefined;
  const firsts = new KeptPictures();
  try {
    for (const [number, arm] of options.arms.entries()) {
      verdicts.push(
        await withPipeline(arm, options.device, async (pipeline) => {
          const own = {
            steps: options.steps ?? pipeline.defaults.steps ?? 30,
            guidanceScale: options.guidanceScale ?? pipeline.defaults.guidanceScale ?? 7.5,
            eta: options.eta ?? 0,
          };
          settings ??= own;
          await checkArm(pipeline, arm, plans, { ...options, ...own });
          const place = { first: number === 0, firsts };
          return drawArm(pipeline, plans, loaded, { ...options, ...settings, ...place }, progress);
        }),
      );
    }
  } finally {
    firsts.remove();
  }
  if (settings === undefined) throw new InternalError('evaluate: no arm given');
  return {
    arms: options.arms,
    settings,
    suites: Object.fromEntries(chosen.map((name) => [name, resultOf(name, plans, verdicts, loaded)])),
    skipped,
    pictures: verdicts.flatMap((arm, number) =>
      arm.pictures.map((picture) =>
        suites[picture.suite]!.compare === undefined ? { arm: number, ...picture } : picture,
      ),
    ),
    seconds: (performance.now() - started) / 1000,
  };
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
  options: DrawnOptions & { first: boolean; firsts: KeptPictures },
  progress: Counter,
): Promise<Verdicts> {
  const { steps, guidanceScale, eta, signal, first, firsts } = options;
  let pair = 0;
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
          const { look, compare } = suites[name] as Suite;
          if (compare !== undefined && first) {
            for (const [i, { number, row }] of part.entries()) {
              firsts.put(pictures[i]!);
              if (number === numbers[0] && row < SHEET_PROMPTS)
                verdicts.shown.get(keyOf(name, set))!.push(pictures[i]!);
            }
            continue;
          }
          const said = compare
            ? await compare(
                {
                  pairs: pictures.map((picture) => [firsts.get(pair++), picture] as const),
                  prompts: looked.prompts,
                },
                judges,
              )
            : await look!(looked, judges);
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
  const both = suite.compare !== undefined;
  const judged = (both ? arms.slice(1) : arms).map(({ rows }) =>
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
      pictures: arms.map(({ shown }, arm) => {
        const verdict = (both ? arms[1]! : arms[arm]!).rows.get(keyOf(name, set))![row]![0];
        return {
          picture: shown.get(keyOf(name, set))![row]!,
          boxes: suite.boxes?.(verdict) ?? [],
          words: both && arm > 0 ? '' : suite.words(prompt, verdict),
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
