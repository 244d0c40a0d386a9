/** Drives a training through a run folder: metrics, validation, checkpoints, and the final comparison. */

import { join } from 'node:path';
import { reachedStep, replaceFile } from '@rldf/common/base/files';
import type { LicenceEntry } from '@rldf/common/base/licences';
import { type Picture, picturesOf, tensorOfPictures } from '@rldf/common/base/picture';
import { mean } from '@rldf/common/base/stats';
import { beginRun, endRun, noteCheckpoint } from '@rldf/common/base/underway';
import { contactSheet } from '@rldf/common/drawing/grid';
import { bestCheckpoint, type LoadedCheckpoint, pruneCheckpoints } from '@rldf/common/storage/checkpoint';
import { tensorsOf } from '@rldf/common/storage/state-tree';
import { crew } from '@rldf/common/workers/crew';
import { liveBytes, liveTensors, type StateTree } from '@rldf/torch';
import { InternalError } from '@rldf/torch/errors';
import { firstSeed } from '../base/seeds.js';
import { type Prompt, repeatPrompts } from '../prompts/prompts.js';
import { labelExports } from '../report/model-card.js';
import {
  curveMetrics,
  type Evaluation,
  type PicturePair,
  type ReportNumbers,
  writeReport,
} from '../report/report.js';
import { RewardUnavailable } from '../rewards/remote/connection.js';
import { type CompositeReward, type Purpose, type Reward, scorePictures } from '../rewards/reward.js';
import { type MetricsRow, readMetrics } from '../run/metrics.js';
import { keepsPictures, logPictures, type PictureLog, truncatePictureLog } from '../run/picture-log.js';
import type { Run } from '../run/run.js';
import { openTrackers, type TrackerName, type Trackers } from '../run/trackers.js';
import type { ProgressEvent, Training } from '../run/training.js';
import { checkDrawsAsBefore } from './base-model.js';
import { type Alarm, HackWatch, observationOf, observe } from './hack-watch.js';
import { keepPictures, keptPictures } from './kept-pictures.js';
import { type BatchSizes, halveAfter } from './out-of-memory.js';
import type { SharedTraining } from './shared-training.js';

export interface TrainRunOptions {
  run: Run;
  training: SharedTraining;
  reward: Reward | CompositeReward;
  /** Prompts of the validation, which chooses the best checkpoint. */
  validation: { prompts: readonly Prompt[]; every: number; picturesPerPrompt: number; maxPrompts: number };
  /** Prompts of the final comparison, and whose weights they compare; nothing is chosen by them. */
  test: {
    prompts: readonly Prompt[];
    picturesPerPrompt: number;
    maxPrompts: number;
    checkpoint?: 'best' | 'last';
  };
  checkpoint: { every: number; keep: number };
  /** What to do when statistics of the validation pictures part from the reward; `judge` is a reward nothing is trained on. */
  watch: { mode: 'off' | 'log' | 'stop'; judge?: Reward | CompositeReward };
  /** Tells the reward where the model is before training, once; yields the pictures drawn for it. None if it need not be told. */
  base?: () => AsyncGenerator<{ done: number; total: number }, void>;
  /** Who else is told the metrics; default: TensorBoard's files. */
  log?: readonly TrackerName[];
  /** What the training draws, if it is to be looked at later. */
  drawn?: PictureLog;
  /** Pictures drawn at once in evaluations. */
  batchSize: number;
  /** What the training reads of pictures at once: halved when memory runs out. None: that ends the run. */
  sizes?: BatchSizes;
  /** Continue from the newest checkpoint, if there is one. */
  resume?: boolean;
  /** With `resume`: the run does not name the base model that it began on; the pictures that it kept tell. */
  baseUnknown?: boolean;
  /** With `resume`: pass over damaged checkpoints. */
  fallback?: boolean;
  /** Told at the beginning and in the report. */
  notices?: readonly string[];
  /** What the run is made from: told first, kept in its folder, and written into what it exports. */
  ledger?: { method: string; model: string; licences: readonly LicenceEntry[] };
  /** Whether these were told already. */
  told?: boolean;
  /** Told where a resumed run goes on. */
  seam?: (step: number) => string | undefined;
  /** Draws for the evaluations before training, instead of the training; see `pictureMemory`. */
  drawUntrained?: Training['draw'];
  /** Aborting saves at the next place where that is possible and ends the run. */
  signal?: AbortSignal;
}

/** What happens in a run, for progress lines and dashboards. */
export type RunEvent =
  | (ProgressEvent & { step: number; steps: number })
  | { kind: 'resumed'; step: number; skipped: string[] }
  /** Something that may surprise; the report holds those that concern the prompts too. */
  | { kind: 'notice'; text: string }
  /** What the training is made from, the strictest licence first. */
  | { kind: 'licences'; licences: readonly LicenceEntry[] }
  | { kind: 'evaluating'; done: number; total: number; what: 'validation' | 'test' | 'base' }
  | { kind: 'step'; step: number; steps: number; row: MetricsRow }
  | { kind: 'alarm'; alarm: Alarm }
  | { kind: 'checkpoint'; step: number; path: string; score: number | null }
  | { kind: 'interrupted'; step: number; steps: number }
  | { kind: 'finished'; report: ReportNumbers; bestStep: number; adapters: string[] };

/**
 * Runs or resumes a training. Resumed, it ends with the same weights and metrics as without the interruption (same
 * machine, threads and libtorch; names under `time/` and `memory/` excepted).
 */
export async function* trainRun(options: TrainRunOptions): AsyncGenerator<RunEvent> {
  const { run } = options;
  run.take();
  beginRun(run);
  try {
    yield* withinMemory(options);
  } finally {
    endRun();
    run.release();
  }
}

/** Goes on from the newest checkpoint, as a resumed run does, whenever memory runs out and fewer pictures at once may help. */
async function* withinMemory(options: TrainRunOptions): AsyncGenerator<RunEvent> {
  const { sizes, baseUnknown: _, ...again } = options;
  let attempt: TrainRunOptions = options;
  for (let done = false; !done; ) {
    let phase = 'evaluating';
    let smaller: string | undefined;
    try {
      for await (const event of trainTaken(attempt)) {
        if (event.kind === 'progress') phase = event.phase;
        if (event.kind === 'evaluating') phase = 'evaluating';
        yield event;
      }
      done = true;
    } catch (error) {
      smaller = halveAfter(error, sizes, phase, crew().size);
      if (smaller === undefined) throw error;
    }
    if (smaller === undefined || sizes === undefined) continue;
    yield { kind: 'notice', text: smaller };
    const batchSize = Math.min(options.batchSize, sizes.sample.batchSize);
    const notices = [...(attempt.notices ?? []), smaller];
    attempt = { ...again, sizes, batchSize, resume: true, notices, told: true };
  }
}

async function* trainTaken(options: TrainRunOptions): AsyncGenerator<RunEvent> {
  const { run, training, validation, test, signal } = options;
  if (validation.prompts.length === 0 || test.prompts.length === 0)
    throw new InternalError('trainRun: no prompts to evaluate');
  const validationSet = repeatPrompts(
    validation.prompts,
    validation.maxPrompts,
    validation.picturesPerPrompt,
  );
  const testSet = repeatPrompts(test.prompts, test.maxPrompts, test.picturesPerPrompt);
  const state = () => wholeState(options);
  if (options.ledger !== undefined) {
    const { licences } = options.ledger;
    replaceFile(run.licencesPath, `${JSON.stringify(licences, null, 2)}\n`);
    if (options.resume !== true) yield { kind: 'licences', licences };
  }
  for (const text of options.told ? [] : (options.notices ?? [])) yield { kind: 'notice', text };
  let step = 0;
  const resumed = options.resume === true && run.checkpoints().length > 0;
  if (resumed) {
    if (options.baseUnknown) await checkDrawsAsBefore(run, training, testSet);
    const loaded = run.loadCheckpoint({ like: state(), fallback: options.fallback ?? false });
    loadWholeState(options, loaded.state);
    freeTensors(loaded.state);
    step = loaded.step;
    pruneCheckpoints(run.checkpointsFolder, options.checkpoint.keep);
    noteCheckpoint(loaded);
    yield { kind: 'resumed', step, skipped: loaded.skipped };
    const seam = options.seam?.(step);
    if (seam !== undefined) yield { kind: 'notice', text: seam };
  }
  const metrics = run.metrics(resumed ? step : -1); // without a checkpoint nothing that was written counts
  truncatePictureLog(run, resumed ? step : -1);
  const trackers = await openTrackers(options.log ?? ['tensorboard'], run, resumed ? step : -1);
  let pictures = Number(readMetrics(run.metricsPath).at(-1)?.pictures ?? 0);
  const watch = new HackWatch();
  for (const row of readMetrics(run.metricsPath)) {
    const reward = row[curveMetrics.validation];
    if (typeof reward === 'number') watch.report(row.step, reward, observationOf(row));
  }
  /** Step of the newest checkpoint; -1 while there is none. */
  let saved = run.checkpoints().at(-1)?.step ?? -1;
  /** Validation score of the state as it is; null when it was not measured at this step. */
  let score: number | null = run.checkpoints().at(-1)?.score ?? null;

  const write = (row: MetricsRow) => {
    run.assertThere(); // appending to a file that was removed does not fail
    const full = { ...row, 'memory/liveTensors': liveTensors(), 'memory/liveBytes': liveBytes() };
    metrics.write(full);
    const { step: _step, ...values } = full;
    trackers.write(row.step, values);
    return full;
  };
  const keeps = (at: number) => keepsPictures(at, training.steps, validation.every);
  const save = (at: number) => {
    run.assertThere(); // or the folder would be made anew, with nothing else in it
    const info = run.saveCheckpoint(at, state(), { keep: options.checkpoint.keep, score });
    saved = at;
    noteCheckpoint(info);
    return { kind: 'checkpoint', step: at, path: info.path, score } as const;
  };

  try {
    if (saved < 0) {
      const { drawUntrained: draw } = options;
      const untrained = draw === undefined ? options : { ...options, training: { draw } };
      const before = yield* drawAndScore(untrained, testSet, 'test', signal);
      const start = before && (yield* drawAndScore(untrained, validationSet, 'validation', signal));
      if (start === undefined) {
        yield { kind: 'interrupted', step, steps: training.steps };
        return;
      }
      for await (const { done, total } of options.base?.() ?? []) {
        yield { kind: 'evaluating', done, total, what: 'base' };
        if (signal?.aborted) {
          yield { kind: 'interrupted', step, steps: training.steps };
          return;
        }
      }
      keepPictures(run, 'test-before', before!);
      await keepValidation(run, 0, validationSet, start, keeps(0), trackers);
      score = mean(start.scores);
      const watched = await watchedOf(options, validationSet, start);
      watch.report(0, score, observationOf(watched));
      write({ step: 0, pictures: 0, [curveMetrics.validation]: score, ...watched });
      // The first checkpoint lets a run that is interrupted early resume without drawing all this again.
      yield save(0);
    }
    /** Steps from the beginning in which no picture was better than another. */
    let flat = resumed ? Number.NEGATIVE_INFINITY : 0;
    let began = performance.now();
    let cpu = process.cpuUsage();
    /** Whether `training.state()` is that after step `step`, so that it may be saved. */
    let settled = true;
    try {
      for await (const event of training.run(step)) {
        if (event.kind === 'progress') {
          settled = event.interruptible;
          yield { ...event, step, steps: training.steps };
          if (signal?.aborted && settled) {
            if (saved !== step) yield save(step);
            yield { kind: 'interrupted', step, steps: training.steps };
            return;
          }
          continue;
        }
        step = event.step;
        settled = true;
        reachedStep(step);
        pictures += event.pictures;
        const seconds = (performance.now() - began) / 1000;
        const row: MetricsRow = {
          step,
          pictures,
          ...event.metrics,
          'time/step': seconds,
          'time/cpu': cpuSecondsSince(cpu),
          ...crew().communicated(),
        };
        const last = step === training.steps;
        const validated = last || step % validation.every === 0;
        await options.drawn?.write(run, step, validated && keeps(step));
        score = null;
        let alarm: Alarm | undefined;
        /** Why there is no validation of a step that is whole itself. */
        let unscored: unknown;
        if (validated) {
          try {
            const result = (yield* drawAndScore(options, validationSet, 'validation'))!;
            const watched = await watchedOf(options, validationSet, result);
            await keepValidation(run, step, validationSet, result, keeps(step), trackers);
            score = mean(result.scores);
            row[curveMetrics.validation] = score;
            Object.assign(row, watched);
            if (options.watch.mode !== 'off') alarm = watch.report(step, score, observationOf(row));
            if (alarm !== undefined) row['watch/alarm'] = alarm.symptoms.map(({ name }) => name);
          } catch (error) {
            if (!(error instanceof RewardUnavailable || (signal?.aborted && error === signal.reason)))
              throw error;
            unscored = error;
          }
        }
        yield { kind: 'step', step, steps: training.steps, row: write(row) };
        if (unscored !== undefined) {
          yield save(step);
          throw unscored;
        }
        for (const text of trackers.notices.splice(0)) yield { kind: 'notice', text };
        flat = row['reward/std'] === 0 ? flat + 1 : Number.NEGATIVE_INFINITY;
        if (flat === flatSteps && training.steps > step)
          yield {
            kind: 'notice',
            text: `every picture got the same reward (${row['reward/mean']}) in each of the first ${flatSteps} steps: nothing can be learned from it. Ctrl-C saves and ends; look at the reward on a few pictures`,
          };
        if (alarm !== undefined) yield { kind: 'alarm', alarm };
        if (alarm !== undefined && options.watch.mode === 'stop') break; // the checkpoints are those of clean steps
        const isBest =
          score !== null && run.checkpoints().every((info) => info.score === null || info.score < score!);
        if (last || isBest || step % options.checkpoint.every === 0 || signal?.aborted) yield save(step);
        if (signal?.aborted && !last) {
          yield { kind: 'interrupted', step, steps: training.steps };
          return;
        }
        began = performance.now();
        cpu = process.cpuUsage();
      }
    } catch (error) {
      // A method may also end its step by throwing the signal's reason.
      const left = signal?.aborted && error === signal.reason;
      if (!left && !(error instanceof RewardUnavailable)) throw error;
      if (settled && saved !== step) yield save(step);
      if (!left) throw error;
      yield { kind: 'interrupted', step, steps: training.steps };
      return;
    }
    yield* finish(options, testSet, pictures);
  } finally {
    metrics.close();
    await trackers.close();
  }
}

/** After so many steps without any difference, chance is no explanation. */
const flatSteps = 2;

const cpuSecondsSince = (start: NodeJS.CpuUsage) => {
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1e6;
};

/** Final comparison with the chosen checkpoint's weights, and their export. */
async function* finish(
  options: TrainRunOptions,
  testSet: readonly Prompt[],
  pictures: number,
): AsyncGenerator<RunEvent> {
  const { run, training, signal } = options;
  run.assertThere();
  const chosen = chosenCheckpoint(options);
  loadWholeState(options, chosen.state);
  freeTensors(chosen.state);
  const after = yield* drawAndScore(options, testSet, 'test', signal);
  if (after === undefined) {
    yield { kind: 'interrupted', step: training.steps, steps: training.steps };
    return;
  }
  run.assertThere();
  const before = keptPictures(run, 'test-before', testSet);
  const seconds = readMetrics(run.metricsPath).reduce((sum, row) => sum + Number(row['time/step'] ?? 0), 0);
  const evaluation: Evaluation = {
    reward: options.reward.name,
    unit: options.reward.unit,
    pictures,
    seconds,
    ...(options.notices?.length ? { notices: [...options.notices] } : {}),
    pairs: testPairs(testSet, before, after),
  };
  const adapters = await training.exportTo(run.adaptersFolder);
  const report = await writeReport(run, evaluation);
  if (options.ledger !== undefined)
    labelExports(run.adaptersFolder, adapters, { run: run.name, ...options.ledger, report });
  yield { kind: 'finished', report, bestStep: chosen.step, adapters };
}

export interface DrawnAndScored {
  pictures: Picture[];
  scores: number[];
  /** Scores of each reward by its name; not of pictures that were kept. */
  parts?: Record<string, number[]>;
}

/** Test pictures of two models, paired by prompt and noise. */
export function testPairs(
  testSet: readonly Prompt[],
  before: DrawnAndScored,
  after: DrawnAndScored,
): PicturePair[] {
  return testSet.map((prompt, index) => ({
    prompt: prompt.text,
    seed: firstSeed.test + index,
    before: before.pictures[index]!,
    after: after.pictures[index]!,
    rewardBefore: before.scores[index]!,
    rewardAfter: after.scores[index]!,
  }));
}

/** Draws and scores; gives up and returns nothing when `signal` is aborted. */
export async function* drawAndScore(
  {
    training,
    reward,
    batchSize,
  }: Pick<TrainRunOptions, 'reward' | 'batchSize'> & {
    training: Pick<SharedTraining, 'draw' | 'drawScored'>;
  },
  prompts: readonly Prompt[],
  what: 'validation' | 'test',
  signal?: AbortSignal,
): AsyncGenerator<RunEvent, DrawnAndScored | undefined> {
  const drawn = { pictures: [] as Picture[], scores: [] as number[], parts: {} as Record<string, number[]> };
  for (let start = 0; start < prompts.length; start += batchSize) {
    yield { kind: 'evaluating', done: start, total: prompts.length, what };
    if (signal?.aborted) return undefined;
    const part = prompts.slice(start, start + batchSize);
    const requests = part.map(({ text }, index) => ({ prompt: text, seed: firstSeed[what] + start + index }));
    const batch = { prompts: part.map(({ text }) => text), meta: part.map(({ meta }) => meta) };
    const shared = await training.drawScored?.(requests, batch);
    const images = shared?.images ?? (await training.draw(requests)); // [B, H, W, 3]
    try {
      const { total, parts } =
        shared?.scores ?? (await scorePictures(reward, { ...batch, images }, 'evaluation' satisfies Purpose));
      drawn.scores.push(...total);
      for (const [name, values] of Object.entries(parts))
        drawn.parts[name] = [...(drawn.parts[name] ?? []), ...values];
      drawn.pictures.push(...picturesOf(images));
    } finally {
      images.free();
    }
  }
  return drawn;
}

/** What the hack watch looks at, as metrics. */
async function watchedOf(
  { watch }: TrainRunOptions,
  prompts: readonly Prompt[],
  { pictures }: DrawnAndScored,
): Promise<Record<string, number>> {
  if (watch.mode === 'off') return {};
  const texts = prompts.map(({ text }) => text);
  const judged = watch.judge && (await scoresOf(watch.judge, pictures, prompts));
  const entries = Object.entries(observe(pictures, texts, judged));
  return Object.fromEntries(entries.map(([name, value]) => [`watch/${name}`, value]));
}

/** Scores of pictures that are no tensor any more. */
async function scoresOf(
  reward: Reward | CompositeReward,
  pictures: readonly Picture[],
  prompts: readonly Prompt[],
): Promise<number[]> {
  const images = tensorOfPictures(pictures);
  try {
    const batch = { images, prompts: prompts.map(({ text }) => text), meta: prompts.map(({ meta }) => meta) };
    return (await scorePictures(reward, batch, 'evaluation')).total;
  } finally {
    images.free();
  }
}

/** A sheet of the first validation pictures, and what is known of each. */
async function keepValidation(
  run: Run,
  step: number,
  prompts: readonly Prompt[],
  { pictures, scores, parts = {} }: DrawnAndScored,
  keep: boolean,
  trackers: Trackers,
): Promise<void> {
  const cells = pictures.slice(0, 16).map((picture, index) => ({
    pictures: [picture],
    label: prompts[index]!.text,
    detail: scores[index]!.toFixed(3),
  }));
  const sheet = await contactSheet(cells, { title: `${run.name}, step ${step}` });
  replaceFile(join(run.samplesFolder, `step-${String(step).padStart(5, '0')}.png`), sheet);
  const texts = prompts.map(({ text }) => text);
  const seeds = prompts.map((_, index) => firstSeed.validation + index);
  const line = { step, kind: 'validation' as const, prompts: texts, rewards: scores, parts, seeds };
  const files = await logPictures(run, line, pictures, keep);
  trackers.writePictures(step, files, pictures, texts);
}

function chosenCheckpoint(options: TrainRunOptions): LoadedCheckpoint {
  const { run, test } = options;
  const { step } =
    test.checkpoint === 'last' ? run.checkpoints().at(-1)! : bestCheckpoint(run.checkpointsFolder)!; // the first one has a score
  return run.loadCheckpoint({ step, like: wholeState(options) });
}

function wholeState({ training, reward }: TrainRunOptions): StateTree {
  return { training: training.state(), reward: 'state' in reward ? reward.state() : null };
}

function loadWholeState({ training, reward }: TrainRunOptions, state: StateTree): void {
  const tree = state as { training: StateTree; reward: StateTree };
  training.load(tree.training);
  if ('load' in reward) reward.load(tree.reward);
}

function freeTensors(state: StateTree): void {
  for (const tensor of tensorsOf(state).values()) tensor.free();
}
