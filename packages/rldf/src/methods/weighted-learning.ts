// The loop of the methods that draw pictures, score them, and learn by a denoising loss from what the scores choose: RWR, RAFT, DPO.
import type { Pipeline } from '@rldf/models';
import { cat, free, keep, noGrad, noiseKey, Random, scope, type Tensor } from '@rldf/torch';
import { momentsOf } from '../advantages.js';
import { type BatchFields, batchArithmetic } from '../config/batch-arithmetic.js';
import { mapYields } from '../generators.js';
import { learningRateSchedule } from '../learning-rate.js';
import { type EpochPrompt, promptsOfEpoch } from '../prompts.js';
import type { Scores } from '../rewards/reward.js';
import type { ProgressEvent, Training, TrainingContext, TrainingEvent } from '../run/training.js';
import { rolloutBatches } from '../sampling/rollout.js';
import { DenoisingLearner, type DenoisingOptions, type DenoisingReport, type Lesson } from './denoising.js';
import { behavioursOf, type DrawingFields } from './diffexp.js';
import { progress, rewardMetrics } from './events.js';
import { drawForEvaluation, exportAdapters } from './learner.js';

/** A picture of the epoch. */
export interface ScoredPicture {
  /** Clean latents of all the epoch's pictures, [N, C, h, w], and the row of this one. */
  latents: Tensor;
  row: number;
  prompt: string;
  /** Number of the prompt within the epoch; pictures of one prompt stand together. */
  group: number;
  reward: number;
  /** Identity: epoch, prompt, picture. */
  path: readonly number[];
}

export interface WeightedMethod extends Pick<DenoisingOptions, 'method' | 'objective' | 'base'> {
  /** What is learned from an epoch's pictures; each pass adds its number to the lessons' paths. */
  lessons(pictures: readonly ScoredPicture[]): Lesson[];
}

export type WeightedRecipe = BatchFields &
  DrawingFields & {
    negativePrompt: string;
    sample: BatchFields['sample'] & { guidanceScale: number; eta: number };
    train: DenoisingOptions['train'] & {
      innerEpochs: number;
      updatesPerEpoch: number;
      schedule: 'constant' | 'linear' | 'cosine';
      warmup: number;
    };
  };

/** One step of the training is one epoch of drawing, scoring and learning. */
export function createWeightedTraining(
  recipe: WeightedRecipe,
  pipeline: Pipeline,
  context: TrainingContext,
  method: WeightedMethod,
): Training {
  const { sample, train, seed } = recipe;
  const { negativePrompt } = recipe;
  const learner = new DenoisingLearner(pipeline, { ...method, seed, train, negativePrompt });
  const schedule = learningRateSchedule(train, batchArithmetic(recipe).updates);

  async function* run(from: number): AsyncGenerator<TrainingEvent> {
    for (let epoch = from; epoch < recipe.epochs; epoch++) yield* runEpoch(epoch);
  }

  async function* runEpoch(epoch: number): AsyncGenerator<TrainingEvent> {
    const chosen = promptsOfEpoch(context.prompts, { seed, epoch, ...sample });
    const { latents, images } = yield* learner.drawing(() => draw(epoch, chosen));
    try {
      const { total, parts } = yield* score(images, chosen);
      const lessons = method.lessons(
        chosen.map(
          ({ prompt, path }, row): ScoredPicture => ({
            latents,
            row,
            prompt: prompt.text,
            group: path[0],
            reward: total[row] as number,
            path: [epoch, ...path],
          }),
        ),
      );
      const reports: DenoisingReport[] = [];
      yield* learn(epoch, lessons, reports);
      yield {
        kind: 'step',
        step: epoch + 1,
        metrics: { ...rewardMetrics(total, parts), ...lessonMetrics(lessons), ...meanReport(reports) },
        pictures: chosen.length,
      };
    } finally {
      latents.free();
    }
  }

  async function* score(
    images: Tensor,
    chosen: readonly EpochPrompt[],
  ): AsyncGenerator<ProgressEvent, Scores> {
    try {
      yield progress('scoring', 0, true);
      return await context.score(
        images,
        chosen.map(({ prompt }) => prompt),
      );
    } finally {
      images.free();
    }
  }

  /** @returns clean latents [N, C, h, w] and uint8 pictures [N, H, W, 3] */
  async function* draw(
    epoch: number,
    chosen: readonly EpochPrompt[],
  ): AsyncGenerator<ProgressEvent, { latents: Tensor; images: Tensor }> {
    const behaviours = behavioursOf(recipe, pipeline.tokenizer, epoch, chosen);
    const drawn: { latents: Tensor; images: Tensor }[] = [];
    try {
      for (let start = 0; start < chosen.length; start += sample.batchSize) {
        const end = Math.min(start + sample.batchSize, chosen.length);
        const drawing = rolloutBatches(pipeline, {
          ...sample,
          prompts: chosen.slice(start, end).map(({ prompt }) => prompt.text),
          behaviours: behaviours.slice(start, end),
          negativePrompt: recipe.negativePrompt,
        });
        const [rollout] = yield* mapYields(drawing, (share) =>
          progress('drawing', (start + (end - start) * share) / chosen.length, true),
        );
        drawn.push(
          noGrad(() =>
            scope(() => ({
              latents: keep(rollout!.trajectory.latents.select(0, sample.steps).clone()),
              images: keep(rollout!.images.clone()),
            })),
          ),
        );
        free(rollout);
      }
      return noGrad(() => ({
        latents: cat(drawn.map((part) => part.latents)),
        images: cat(drawn.map((part) => part.images)),
      }));
    } finally {
      free(drawn);
    }
  }

  async function* learn(
    epoch: number,
    lessons: readonly Lesson[],
    reports: DenoisingReport[],
  ): AsyncGenerator<ProgressEvent> {
    const { innerEpochs, updatesPerEpoch } = train;
    const updates = innerEpochs * updatesPerEpoch;
    for (let update = 0; update < updates; update++) {
      const pass = Math.floor(update / updatesPerEpoch);
      const shuffled = new Random(noiseKey(seed, 'shuffle', epoch, pass)).shuffle(lessons);
      const part = partOf(shuffled, update % updatesPerEpoch, updatesPerEpoch);
      if (part.length === 0) continue; // fewer lessons than updates
      const noised = part.map((lesson) => ({
        ...lesson,
        pictures: lesson.pictures.map((picture) => ({ ...picture, path: [...picture.path, pass] })),
      }));
      const learningRate = train.learningRate * schedule(epoch * updates + update);
      const share = (done: number) => progress('learning', (update + done) / updates, false);
      reports.push(yield* mapYields(learner.update(noised, learningRate), share));
    }
  }

  return {
    steps: recipe.epochs,
    run,
    state: () => learner.state(),
    load: (state) => learner.load(state),
    draw: (requests) => drawForEvaluation(pipeline, requests, recipe.negativePrompt, sample),
    exportTo: (folder) => exportAdapters(pipeline, learner.trainables, folder),
    free: () => learner.free(),
  };
}

/** The `index`-th of `count` consecutive parts of about the same length. */
export function partOf<T>(list: readonly T[], index: number, count: number): T[] {
  const edge = (i: number) => Math.floor((list.length * i) / count);
  return list.slice(edge(index), edge(index + 1));
}

/** Means over updates; empty without one. */
export function meanReport(reports: readonly DenoisingReport[]): Record<string, number> {
  const names = Object.keys(reports[0] ?? {});
  return Object.fromEntries(
    names.map((name) => [name, momentsOf(reports.map((report) => report[name] as number)).mean]),
  );
}

/** How many lessons there are, and how many equally weighted ones would be as many: (Σ w)² / Σ w² (Kish 1965). */
function lessonMetrics(lessons: readonly Lesson[]): Record<string, number> {
  const sum = lessons.reduce((total, { weight }) => total + weight, 0);
  const squares = lessons.reduce((total, { weight }) => total + weight ** 2, 0);
  return { 'lessons/count': lessons.length, 'lessons/effective': squares === 0 ? 0 : sum ** 2 / squares };
}

/** Pictures of one prompt each. */
export function groupsOf(pictures: readonly ScoredPicture[]): ScoredPicture[][] {
  const groups = new Map<number, ScoredPicture[]>();
  for (const picture of pictures) groups.set(picture.group, [...(groups.get(picture.group) ?? []), picture]);
  return [...groups.values()];
}

/** A lesson of one picture with its prompt as caption. */
export function lessonOf({ latents, row, prompt, path }: ScoredPicture, weight: number): Lesson {
  return { pictures: [{ latents, row, caption: prompt, path }], weight };
}
