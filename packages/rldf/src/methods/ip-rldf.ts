/**
 * docs: docs/methods/ip-rldf.md · paper: Ge et al. 2023, "Iterative Prompt Relabeling for diffusion model with RLDF", arXiv
 * 2312.16204, algorithm 1 and section 5.1 · code: xinyan-cxy/IPR-RLDF, which differs (see the page)
 *
 * A round draws pictures, relabels and weighs them, and trains on them for some epochs: minutes to hours. So that Ctrl-C and
 * SIGKILL lose little, a step of the run is a small piece of it (`ipRldfSteps`): some hundred pictures drawn, or a few
 * updates. The pictures drawn so far are part of the state, since the weights that drew them are gone when they are
 * learned from; which of them an update sees is a function of seed, round and epoch.
 */

import { crew } from '@rldf/common/workers/crew';
import { catRows } from '@rldf/common/workers/rows';
import type { Detector, GroundedObject, Pipeline } from '@rldf/models';
import { cat, free, noGrad, noiseKey, Random, type StateTree } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { mapYields } from '../base/generators.js';
import { type BatchArithmetic, halvesOf } from '../config/batch-arithmetic.js';
import { loadGrammar, type RelabelGrammar } from '../relabel/grammar.js';
import { boxesTold } from '../relabel/relabel.js';
import {
  type ProgressEvent,
  progress,
  rewardMetrics,
  type Training,
  type TrainingContext,
  type TrainingEvent,
} from '../run/training.js';
import {
  type DenoisingReport,
  denoisingUpdate,
  type Example,
  meanReport,
  partOf,
  squaredError,
} from './denoising.js';
import { forwardsOf } from './denoising-plan.js';
import {
  type Labelled,
  type LabelledPictures,
  ownPictures,
  PictureStore,
  promptsOf,
  wordsOfPrompts,
  worldPictures,
} from './ip-rldf-pictures.js';
import {
  checkPrompts,
  type IpRldfRecipe,
  ipRldfProblems,
  ipRldfSchema,
  pictureCounts,
  type Sizes,
  withAbsolutePaths,
} from './ip-rldf-schema.js';
import { Learner } from './learner.js';
import type { Method } from './method.js';

export { type IpRldfRecipe, ipRldfSchema };

// L = (1/N) Σ_i λ_i ‖target_i - prediction_i‖², over the pictures i of a round (equation 5)

/**
 * @param detector who looks at the pictures, for a recipe with a detector
 * @throws UserError when the recipe has one and none is given
 */
export function createIpRldf(
  recipe: IpRldfRecipe,
  pipeline: Pipeline,
  context: TrainingContext,
  detector: Detector | undefined = context.detector,
): Training {
  if (recipe.detector !== undefined && detector === undefined)
    throw new UserError('ip-rldf: the recipe has a detector, but none was given — give one in the context');
  const { sample, train, seed } = recipe;
  const steps = ipRldfSteps(recipe);
  const { self, base } = pictureCounts(recipe);
  const prompts = promptsOf(recipe, context.prompts);
  const grounded = recipe.grounding ?? undefined;
  const grammar = detector || grounded ? loadGrammar(recipe.grammar) : undefined;
  const labels = wordsOfPrompts(detector);
  const source =
    recipe.pictures === 'own'
      ? ownPictures(recipe, pipeline, prompts, grammar, detector, context)
      : worldPictures({ ...recipe, pictures: recipe.pictures }, pipeline);
  const learner = new Learner(pipeline, recipe, ipRldfArithmetic(recipe).updates);
  const store =
    steps.length > 0 ? new PictureStore(pipeline, self + base, grounded?.learn === 'detected') : undefined;

  async function* run(from: number): AsyncGenerator<TrainingEvent> {
    for (const [i, step] of steps.entries()) {
      if (i < from) continue;
      const metrics = step.kind === 'draw' ? yield* draw(step) : yield* learn(step);
      const pictures = step.kind === 'draw' ? step.to - step.from : 0;
      yield { kind: 'step', step: i + 1, metrics: { round: step.round + 1, ...metrics }, pictures };
    }
  }

  /**
   * Each worker draws its own pictures, and all get the latents and labels of all. Nothing is put into the store before the last
   * picture is there: until then the state is that of the step before.
   */
  async function* draw({
    round,
    from,
    to,
  }: IpRldfStep): AsyncGenerator<ProgressEvent, Record<string, number>> {
    const parts: LabelledPictures[] = [];
    const own = crew().own(Array.from({ length: to - from }, (_, i) => from + i));
    try {
      yield* learner.drawing(async function* () {
        for (let start = 0; start < own.length; start += sample.batchSize) {
          yield progress('drawing', start / own.length, true);
          parts.push(await source(round, own.slice(start, start + sample.batchSize)));
        }
      });
      yield progress('scoring', 1, true);
      const rewards = await rewardsOf(parts, own, from, to);
      const labels = await crew().gather(
        'labels',
        parts.flatMap((part) => part.labels),
      );
      const joined = parts.length === 0 ? undefined : noGrad(() => cat(parts.map((part) => part.latents)));
      const latents = await crew().gatherRows('latents', joined);
      store?.put(from, latents, labels);
      latents.free();
      return { ...rewards, ...labelMetrics(labels) };
    } finally {
      free(parts.map(({ latents, images }) => [latents, images]));
    }
  }

  /** Of self-training pictures alone: they are drawn in every round, so that rounds compare. */
  async function rewardsOf(
    parts: readonly LabelledPictures[],
    own: readonly number[],
    from: number,
    to: number,
  ): Promise<Record<string, number>> {
    const count = recipe.pictures === 'own' ? Math.min(self, to) - from : 0; // scenes of the world nobody scores
    if (count <= 0) return {};
    const rows = own.filter((row) => row < self).map((row) => row - from);
    const all = noGrad(() => catRows(parts.flatMap(({ images }) => images ?? [])));
    const images = all.narrow(0, 0, rows.length);
    try {
      const asked = prompts.slice(from, from + count);
      const { total, parts: named } = await context.score(images, asked, 'training', [], rows);
      return rewardMetrics(total, named);
    } finally {
      free([images, all]);
    }
  }

  async function* learn(
    step: IpRldfStep & { kind: 'learn' },
  ): AsyncGenerator<ProgressEvent, Record<string, number>> {
    const { round, epoch, from, to } = step;
    const { latents, captions, weights, objects } = store as PictureStore;
    const order = new Random(noiseKey(seed, 'round order', round, epoch)).shuffle(
      (store as PictureStore).kept(),
    );
    const reports: DenoisingReport[] = [];
    for (let update = from; update < to; update++) {
      const examples = partOf(order, update, train.updatesPerEpoch).map(
        (row): Example => ({
          pictures: [
            {
              latents,
              row,
              caption: captions[row] as string,
              path: [round, epoch, row],
              ...(objects && { objects: objects[row] as GroundedObject[] }),
            },
          ],
          weight: weights[row] as number,
        }),
      );
      if (examples.length === 0) continue; // almost all were dropped
      const done = (round * recipe.epochs + epoch) * train.updatesPerEpoch + update;
      const learningRate = train.learningRate * train.roundDecay ** round * learner.schedule(done);
      const share = (of: number) => progress('learning', (update - from + of) / (to - from), false);
      const updating = denoisingUpdate(learner, recipe, examples, squaredError, learningRate);
      reports.push(yield* mapYields(updating, share));
    }
    return meanReport(reports);
  }

  const layout = JSON.stringify(steps.at(-1) ?? null);
  return {
    steps: steps.length,
    run,
    state: (): StateTree => ({
      ...learner.state(),
      layout,
      ...(store && { pictures: store.state() }),
    }),
    load(state) {
      const saved = state as { layout: string; pictures?: StateTree };
      if (saved.layout !== layout) {
        throw new UserError(
          `ip-rldf: the run was saved with other steps (its last: ${saved.layout}, now: ${layout}) — a round cannot be made longer once it has begun. Resume with the epochs it had, or start a new run`,
        );
      }
      learner.load(state);
      if (saved.pictures !== undefined) noGrad(() => store?.load(saved.pictures as StateTree));
    },
    draw: (requests) =>
      grounded?.evaluate === 'prompt'
        ? learner.draw(
            requests,
            requests.map(({ prompt }) => boxesTold(grammar as RelabelGrammar, prompt, labels)),
          )
        : learner.draw(requests),
    exportTo: (folder) => learner.exportTo(folder),
    free() {
      store?.free();
      learner.free();
    },
  };
}

/** One step of the run. Rows count pictures, the self-training ones first; updates count from 0 in each epoch. */
export type IpRldfStep =
  | { kind: 'draw'; round: number; from: number; to: number }
  | { kind: 'learn'; round: number; epoch: number; from: number; to: number };

/** All steps in their order: in each round, drawing, then its epochs. */
export function ipRldfSteps(recipe: Sizes): IpRldfStep[] {
  const { rounds, epochs, sample, train } = recipe;
  const { self, base } = pictureCounts(recipe);
  return Array.from({ length: rounds }, (_, round) => [
    ...chunks(round === 0 ? self + base : self, sample.picturesPerStep).map(
      (part): IpRldfStep => ({ kind: 'draw', round, ...part }),
    ),
    ...Array.from({ length: epochs }, (_, epoch) =>
      chunks(train.updatesPerEpoch, train.updatesPerStep).map(
        (part): IpRldfStep => ({ kind: 'learn', round, epoch, ...part }),
      ),
    ).flat(),
  ]).flat();
}

const chunks = (length: number, size: number) =>
  Array.from({ length: Math.ceil(length / size) }, (_, i) => ({
    from: i * size,
    to: Math.min(length, (i + 1) * size),
  }));

/** Shares of the pictures that were looked at. */
function labelMetrics(labels: readonly Labelled[]): Record<string, number> {
  const share = (holds: (label: Labelled) => boolean) => labels.filter(holds).length / labels.length;
  const looked = labels.some(({ matches, weight }) => matches !== undefined || weight === 0);
  if (!looked) return {};
  return {
    'relabel/matches': share(({ matches }) => matches === true),
    'relabel/differs': share(({ matches }) => matches === false),
    'relabel/dropped': share(({ weight }) => weight === 0),
  };
}

/** Of all pictures; those that are dropped are not known before. */
export function ipRldfArithmetic(recipe: IpRldfRecipe): BatchArithmetic {
  const { rounds, epochs, sample, train, pictures: source } = recipe;
  const { self, base } = pictureCounts(recipe);
  const all = self + base;
  const halves = halvesOf(recipe);
  const pictures = rounds === 0 ? 0 : base + rounds * self;
  const picturesPerUpdate = Math.ceil(all / train.updatesPerEpoch);
  const sampleBatches = Math.ceil(all / sample.batchSize);
  const microBatchesPerUpdate = Math.ceil(picturesPerUpdate / train.batchSize);
  return {
    steps: ipRldfSteps(recipe).length,
    picturesPerEpoch: all,
    pictures,
    sampleBatches,
    lastSampleBatch: all - (sampleBatches - 1) * sample.batchSize,
    picturesPerUpdate,
    microBatchesPerUpdate,
    lastMicroBatch: picturesPerUpdate - (microBatchesPerUpdate - 1) * train.batchSize,
    trainedSteps: 1,
    updatesPerEpoch: train.updatesPerEpoch,
    updates: train.updatesPerEpoch * epochs * rounds,
    halves,
    samplingForwards: source === 'own' ? halves * sample.steps * pictures : 0,
    trainingForwards: all * forwardsOf(train) * epochs * rounds,
  };
}

function describeIpRldf(recipe: IpRldfRecipe, a: BatchArithmetic): string[] {
  const { rounds, epochs, sample, train } = recipe;
  const { self, base } = pictureCounts(recipe);
  return [
    `pictures   ${sample.promptsPerEpoch} self-training prompts x ${sample.picturesPerPrompt} = ${self} a round, and ${base} of base prompts once: ${a.pictures} in ${rounds} rounds`,
    `updates    ${train.updatesPerEpoch} an epoch x ${epochs} epochs x ${rounds} rounds = ${a.updates}, about ${a.picturesPerUpdate} pictures each`,
    `steps      ${a.steps}, each of at most ${sample.picturesPerStep} pictures drawn or ${train.updatesPerStep} updates`,
    `U-Net      ${a.samplingForwards} forwards to draw, ${a.trainingForwards} forwards with backward to learn`,
  ];
}

/** What is in memory of the pictures, and in each checkpoint. */
function ipRldfKeeps({ rounds, base, sample }: IpRldfRecipe): { drawn: number; kept: number } {
  const pictures = pictureCounts({ base, sample });
  const all = rounds === 0 ? 0 : pictures.self + pictures.base;
  return { drawn: Math.min(sample.picturesPerStep, all), kept: all };
}

/** One round of one update; the detector, which cannot look at shapes, is left out. */
function ipRldfMiniature(recipe: IpRldfRecipe, steps: number): IpRldfRecipe {
  const { sample, train } = recipe;
  const batch = Math.max(2, Math.min(train.batchSize, ipRldfArithmetic(recipe).picturesPerUpdate));
  const pictures = Math.max(batch, Math.min(sample.batchSize, pictureCounts(recipe).self));
  const promptsPerEpoch = Math.min(sample.promptsPerEpoch, pictures);
  return {
    ...recipe,
    rounds: 1,
    epochs: 1,
    relabel: false,
    rescale: 1,
    detector: undefined,
    base: undefined,
    pictures: 'own',
    sample: { ...sample, steps, promptsPerEpoch, picturesPerPrompt: Math.ceil(pictures / promptsPerEpoch) },
    train: { ...train, batchSize: batch, updatesPerEpoch: 1 },
  };
}

export const ipRldf = {
  schema: ipRldfSchema,
  create: (recipe, pipeline, context) => createIpRldf(recipe, pipeline, context),
  checkPrompts,
  problems: ipRldfProblems,
  withAbsolutePaths,
  plan: {
    arithmetic: ipRldfArithmetic,
    describe: describeIpRldf,
    miniature: ipRldfMiniature,
    keeps: ipRldfKeeps,
    holds: 'pictures',
  },
} satisfies Method<IpRldfRecipe>;
