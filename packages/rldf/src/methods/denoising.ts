// What RWR, RAFT, DPO and IP-RLDF share: an epoch's own pictures, and the gradient of a loss of their denoising errors.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { momentsOf } from '@rldf/common/base/stats';
import { crew } from '@rldf/common/workers/crew';
import { catRows } from '@rldf/common/workers/rows';
import { type GroundedObject, NoiseSchedule } from '@rldf/models';
import { cat, free, keep, noGrad, noiseKey, Random, scope, type Tensor, tensor } from '@rldf/torch';
import { mapYields } from '../base/generators.js';
import type { Scores } from '../rewards/reward.js';
import { type ProgressEvent, progress, rewardMetrics, type TrainingContext } from '../run/training.js';
import {
  denoisingErrors,
  drawNoising,
  dropped,
  type NoisingPath,
  type TimestepRange,
} from './denoising-loss.js';
import type { EpochPicture, PromptText } from './diffexp.js';
import { agreementMetric, type Learner, type LearnerRecipe, rolloutBatches, type Texts } from './learner.js';
import { TextFeatures } from './texforce.js';

// B examples · N pictures · C, h, w latent · H, W pixels

/** What a recipe says of learning from denoising errors. */
export interface DenoisingRecipe extends LearnerRecipe {
  sample: LearnerRecipe['sample'] & { batchSize: number; eta: number };
  train: LearnerRecipe['train'] & {
    batchSize: number;
    updatesPerEpoch: number;
    captionDropout: number;
    timestepRange: TimestepRange;
    /** Of the prediction whose error is learned from; 1: the network's own. */
    lossGuidanceScale: number;
  };
}

/** A picture to be noised and denoised again. */
export interface ExamplePicture {
  /** Clean latents of many pictures, [N, C, h, w], and which of them. */
  latents: Tensor;
  row: number;
  caption: string;
  /** Told to a grounded model unless the caption is dropped; none by default. */
  objects?: readonly GroundedObject[];
  /** What its timestep, its noise and its dropped caption belong to. */
  path: NoisingPath;
}

/** Pictures whose errors meet in one loss: one alone, or those of a pair. All examples of an update have equally many. */
export interface Example {
  pictures: readonly ExamplePicture[];
  /** Factor on its loss. */
  weight: number;
}

/**
 * What is learned from the errors of B examples.
 * @param errors one tensor for each picture of an example, [B]
 * @param baseErrors the same of the model that training began from, if asked for
 * @returns the loss, [B], and what is reported, [B] each by its metric's name
 */
export type Objective = (
  errors: readonly Tensor[],
  baseErrors: readonly Tensor[],
) => { loss: Tensor; observed: Record<string, Tensor> };

/** ‖target - prediction‖², the mean over latent elements; an example's weight does the rest. */
export const squaredError: Objective = ([error]) => ({
  loss: error!,
  observed: { 'loss/denoising': error! },
});

/** A picture of the epoch with its reward. */
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

/** Draws and scores an epoch's pictures, each worker its own; all get the latents of all. Free them. */
export async function* scoredEpoch(
  learner: Learner,
  recipe: DenoisingRecipe,
  { prompts, score, begin }: Pick<TrainingContext, 'prompts' | 'score' | 'begin'>,
  epoch: number,
): AsyncGenerator<ProgressEvent, { latents: Tensor; pictures: ScoredPicture[]; scores: Scores }> {
  const chosen = learner.picturesOfEpoch(prompts, epoch);
  const own = crew().own(chosen);
  const drawn = yield* learner.drawing(() => finished(learner, recipe, own, begin));
  const latents = await crew().gatherRows('latents', drawn.latents);
  let whole = false;
  try {
    const rows = chosen.flatMap((picture, row) => (own.includes(picture) ? [row] : []));
    const scores = yield* scored(score, drawn.images, chosen, rows);
    const pictures = chosen.map(
      ({ prompt, path }, row): ScoredPicture => ({
        latents,
        row,
        prompt: prompt.text,
        group: path[0],
        reward: scores.total[row] as number,
        path: [epoch, ...path],
      }),
    );
    whole = true;
    return { latents, pictures, scores };
  } finally {
    if (!whole) latents.free(); // failed, or left by the caller
  }
}

/** x_0 of some pictures: clean latents [N, C, h, w] and uint8 pictures [N, H, W, 3]. Of one batch at a time all latents are kept. */
async function* finished(
  { pipeline }: Learner,
  { sample, negativePrompt }: DenoisingRecipe,
  chosen: readonly EpochPicture[],
  begin: TrainingContext['begin'],
): AsyncGenerator<ProgressEvent, { latents: Tensor | undefined; images: Tensor }> {
  const drawn: { latents: Tensor; images: Tensor }[] = [];
  try {
    for (let start = 0; start < chosen.length; start += sample.batchSize) {
      const part = chosen.slice(start, start + sample.batchSize);
      const asked = part.map(({ prompt }) => prompt);
      const drawing = rolloutBatches(pipeline, {
        ...sample,
        prompts: asked.map(({ text }) => text),
        behaviours: part.map(({ behaviour }) => behaviour),
        negativePrompt,
        drawn: (images) => begin?.(images, asked),
      });
      const [rollout] = yield* mapYields(drawing, (share) =>
        progress('drawing', (start + part.length * share) / chosen.length, true),
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
      latents: drawn.length === 0 ? undefined : cat(drawn.map((part) => part.latents)),
      images: catRows(drawn.map((part) => part.images)),
    }));
  } finally {
    free(drawn);
  }
}

async function* scored(
  score: TrainingContext['score'],
  images: Tensor,
  chosen: readonly EpochPicture[],
  rows: readonly number[],
): AsyncGenerator<ProgressEvent, Scores> {
  try {
    yield progress('scoring', 0, true);
    return await score(
      images,
      chosen.map(({ prompt }) => prompt),
      'training',
      chosen.map(({ behaviour }) => behaviour),
      rows,
    );
  } finally {
    images.free();
  }
}

/** Pictures of one prompt each. */
export function groupsOf(pictures: readonly ScoredPicture[]): ScoredPicture[][] {
  const groups = new Map<number, ScoredPicture[]>();
  for (const picture of pictures) groups.set(picture.group, [...(groups.get(picture.group) ?? []), picture]);
  return [...groups.values()];
}

/** An example of one picture with its prompt as caption. */
export function exampleOf({ latents, row, prompt, path }: ScoredPicture, weight: number): Example {
  return { pictures: [{ latents, row, caption: prompt, path }], weight };
}

/**
 * The examples of an update: each pass of an epoch shuffles them anew, splits them into `updatesPerEpoch` parts of about the
 * same length, and has timesteps and noise of its own. Empty where there are fewer examples than updates.
 */
export function examplesOfUpdate(
  { seed, train }: Pick<DenoisingRecipe, 'seed' | 'train'>,
  examples: readonly Example[],
  epoch: number,
  update: number,
): Example[] {
  const pass = Math.floor(update / train.updatesPerEpoch);
  const shuffled = new Random(noiseKey(seed, 'shuffle', epoch, pass)).shuffle(examples);
  return partOf(shuffled, update % train.updatesPerEpoch, train.updatesPerEpoch).map((example) => ({
    ...example,
    pictures: example.pictures.map((picture) => ({ ...picture, path: [...picture.path, pass] })),
  }));
}

/** The `index`-th of `count` consecutive parts of about the same length. */
export function partOf<T>(list: readonly T[], index: number, count: number): T[] {
  const edge = (i: number) => Math.floor((list.length * i) / count);
  return list.slice(edge(index), edge(index + 1));
}

/** What an update reports: means over its examples, unweighted but for the loss. */
export type DenoisingReport = Record<string, number>;

/**
 * One optimiser step along the gradient of (1/n) Σ_i w_i · objective(e_i) over n examples, in micro-batches, where e are the
 * denoising errors of example i's pictures. Each worker sums over its own examples. Yields the share done.
 * @param base whether the objective reads the errors of the model that training began from
 */
export async function* denoisingUpdate(
  learner: Learner,
  recipe: DenoisingRecipe,
  examples: readonly Example[],
  objective: Objective,
  learningRate: number,
  { base = false }: { base?: boolean } = {},
): AsyncGenerator<number, DenoisingReport> {
  const { train, negativePrompt } = recipe;
  const [first] = examples as [Example];
  const size = Math.max(1, Math.floor(train.batchSize / first.pictures.length));
  const own = crew().own(examples);
  const batches = Array.from({ length: Math.ceil(own.length / size) }, (_, i) =>
    own.slice(i * size, (i + 1) * size),
  );
  const captions: PromptText[] = own.flatMap(({ pictures }) =>
    pictures.map((picture) => captionOf(recipe, picture)),
  );
  if (train.lossGuidanceScale !== 1 || own.length === 0) captions.push(negativePrompt);
  const errorsOf = errorsOfBatch(learner, recipe);
  let report: DenoisingReport = {};
  const add = (name: string, value: number) => {
    report[name] = (report[name] ?? 0) + value;
  };
  let baseErrors: Tensor[][] = [];
  try {
    if (base) baseErrors = await errorsOfBase(learner, batches, captions, errorsOf);
    yield* learner.accumulate(captions, async function* ({ text, record, backward }) {
      for (const [i, batch] of batches.entries()) {
        scope(() => {
          const errors = record(() => errorsOf(batch, text)); // one [B] for each picture of an example
          const { loss, observed } = objective(errors, baseErrors[i] ?? []); // [B]
          const { dtype, device } = loss;
          const weights = tensor(
            batch.map(({ weight }) => weight / examples.length),
            { dtype, device },
          );
          const total = loss.mul(weights).sum();
          backward(total);
          add('loss/weighted', total.item());
          for (const [name, values] of Object.entries(observed))
            add(name, values.detach().sum().item() / examples.length);
        });
        await nextTurn();
        yield (i + 1) / batches.length;
      }
    });
  } finally {
    free(baseErrors);
  }
  report = await crew().total('report', report);
  const step = learner.step(learningRate);
  return {
    ...report,
    'gradient/norm': step.norm,
    ...agreementMetric([step]),
    'optimiser/learningRate': learningRate,
  };
}

type ErrorsOf = (batch: readonly Example[], text: Texts) => Tensor[];

function captionOf({ seed, train }: DenoisingRecipe, { caption, objects, path }: ExamplePicture): PromptText {
  const kept = dropped(caption, seed, path, train.captionDropout);
  return kept === null || objects === undefined ? kept : { prompt: kept, objects };
}

/** Of each picture of some examples, [B]; one pass of the network for all. Differentiable. */
function errorsOfBatch({ pipeline }: Learner, recipe: DenoisingRecipe): ErrorsOf {
  const { seed, train, negativePrompt } = recipe;
  const schedule = new NoiseSchedule(pipeline.schedulerConfig);
  const guidanceScale = train.lossGuidanceScale;
  return (batch, text) => {
    const [first] = batch as [Example];
    const places = first.pictures.map((_, place) => place);
    const pictures = places.flatMap((place) =>
      batch.map((example) => example.pictures[place] as ExamplePicture),
    );
    const captions = pictures.map((picture) => captionOf(recipe, picture));
    const latents = cat(pictures.map((of) => of.latents.narrow(0, of.row, 1))).to('float32'); // [k B, C, h, w]
    const paths = pictures.map(({ path }) => path);
    const noising = drawNoising(schedule, latents, seed, paths, train.timestepRange);
    const conditioning = guidanceScale !== 1 ? text.guided(negativePrompt, captions) : text.of(captions);
    const errors = denoisingErrors(pipeline.unet, schedule, latents, noising, conditioning, guidanceScale);
    return places.map((place) => errors.narrow(0, place * batch.length, batch.length));
  };
}

async function errorsOfBase(
  learner: Learner,
  batches: readonly (readonly Example[])[],
  captions: readonly PromptText[],
  errorsOf: ErrorsOf,
): Promise<Tensor[][]> {
  const all: Tensor[][] = [];
  return await learner.withoutAdapters(async () => {
    const text = noGrad(() => new TextFeatures(learner.pipeline, captions));
    try {
      for (const batch of batches) {
        all.push(noGrad(() => scope(() => errorsOf(batch, text).map((errors) => keep(errors)))));
        await nextTurn();
      }
      return all;
    } catch (error) {
      free(all);
      throw error;
    } finally {
      text.free();
    }
  });
}

/** What is logged of an epoch. */
export function denoisingMetrics(
  { total, parts }: Scores,
  examples: readonly Example[],
  reports: readonly DenoisingReport[],
): Record<string, number> {
  return { ...rewardMetrics(total, parts), ...exampleMetrics(examples), ...meanReport(reports) };
}

/** Means over the updates that report a number; empty without one. */
export function meanReport(reports: readonly DenoisingReport[]): Record<string, number> {
  const names = new Set(reports.flatMap(Object.keys));
  return Object.fromEntries(
    [...names].map((name) => [name, momentsOf(reports.flatMap((report) => report[name] ?? [])).mean]),
  );
}

/** How many examples there are, and how many equally weighted ones would be as many: (Σ w)² / Σ w² (Kish 1965). */
function exampleMetrics(examples: readonly Example[]): Record<string, number> {
  const sum = examples.reduce((total, { weight }) => total + weight, 0);
  const squares = examples.reduce((total, { weight }) => total + weight ** 2, 0);
  return { 'lessons/count': examples.length, 'lessons/effective': squares === 0 ? 0 : sum ** 2 / squares };
}
