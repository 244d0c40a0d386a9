// One optimiser step on the denoising errors of own pictures: what all methods that learn from weighted data share.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { NoiseSchedule, type Pipeline } from '@rldf/models';
import {
  AdamW,
  cat,
  free,
  GradientAccumulator,
  keep,
  noGrad,
  type Seed,
  type StateTree,
  scope,
  type Tensor,
  tensor,
} from '@rldf/torch';
import { type NetworkGradient, networkGradient } from '../sampling/network-gradient.js';
import { denoisingErrors, drawNoising, dropped, type NoisingPath } from './denoising-loss.js';
import {
  aligned,
  createTrainables,
  loadTrainables,
  type TrainableOptions,
  type Trainables,
  trainableState,
  withoutAdapters,
} from './learner.js';
import { optimiserStep } from './optimiser-step.js';
import { TextFeatures } from './texforce.js';

// B lessons · C, h, w latent

/** A picture to be noised and denoised again. */
export interface Denoised {
  /** Clean latents of many pictures, [N, C, h, w], and which of them. */
  latents: Tensor;
  row: number;
  caption: string;
  /** What its timestep, its noise and its dropped caption belong to. */
  path: NoisingPath;
}

/** Pictures whose errors meet in one loss: one alone, or those of a pair. All lessons of an update have equally many. */
export interface Lesson {
  pictures: readonly Denoised[];
  /** Factor on its loss. */
  weight: number;
}

/**
 * What is learned from the errors of B lessons.
 * @param errors one tensor for each picture of a lesson, [B]
 * @param baseErrors the same of the model that training began from, if asked for
 * @returns the loss, [B], and what is reported, [B] each by its metric's name
 */
export type Objective = (
  errors: readonly Tensor[],
  baseErrors: readonly Tensor[],
) => { loss: Tensor; observed: Record<string, Tensor> };

export interface DenoisingOptions {
  method: string;
  seed: Seed;
  train: Omit<TrainableOptions, 'seed'> & {
    learningRate: number;
    weightDecay: number;
    maxGradNorm: number;
    batchSize: number;
    captionDropout: number;
    /** Of the answer whose error is learned from; 1: the network's own. */
    lossGuidanceScale: number;
  };
  /** What the guided answer is guided away from. */
  negativePrompt: string;
  objective: Objective;
  /** Whether the objective reads the errors of the model that training began from. */
  base: boolean;
}

/** What an update reports: means over its lessons, unweighted but for the loss. */
export type DenoisingReport = Record<string, number>;

/** Everything of a training by denoising errors that outlives an update. */
export class DenoisingLearner {
  readonly trainables: Trainables;
  readonly #optimiser: AdamW;
  readonly #accumulator: GradientAccumulator;
  readonly #schedule: NoiseSchedule;

  constructor(
    readonly pipeline: Pipeline,
    readonly options: DenoisingOptions,
  ) {
    const { train, seed } = options;
    this.trainables = createTrainables(pipeline, { ...train, seed });
    const parameters = [...this.trainables.unet, ...this.trainables.textEncoder];
    this.#optimiser = new AdamW(parameters, {
      learningRate: train.learningRate,
      weightDecay: train.weightDecay,
    });
    this.#accumulator = new GradientAccumulator(parameters);
    this.#schedule = new NoiseSchedule(pipeline.schedulerConfig);
  }

  /**
   * One step along the gradient of (1/n) Σ weight · loss over n lessons, in micro-batches. Yields the share done.
   *
   * The text is computed once for all micro-batches, and its gradient sent back once (`TextFeatures`).
   */
  async *update(lessons: readonly Lesson[], learningRate: number): AsyncGenerator<number, DenoisingReport> {
    const { seed, train, base } = this.options;
    const [first] = lessons as [Lesson];
    const size = Math.max(1, Math.floor(train.batchSize / first.pictures.length));
    const batches = Array.from({ length: Math.ceil(lessons.length / size) }, (_, i) =>
      lessons.slice(i * size, (i + 1) * size),
    );
    const captionOf = ({ caption, path }: Denoised) => dropped(caption, seed, path, train.captionDropout);
    const captions = lessons.flatMap(({ pictures }) => pictures.map(captionOf));
    if (train.lossGuidanceScale !== 1) captions.push(this.options.negativePrompt);
    const merged = this.trainables.adapters.unet;
    const network = networkGradient(this.trainables.unet, merged);
    const report: DenoisingReport = {};
    let baseErrors: Tensor[][] = [];
    let text: TextFeatures | undefined;
    try {
      if (base) baseErrors = await this.#errorsOfBase(batches, captions); // before merging: it takes no adapters
      merged?.merge();
      text = new TextFeatures(this.pipeline, captions, {
        parameters: this.trainables.textEncoder,
        network: networkGradient(this.trainables.unet, merged),
      });
      for (const [i, batch] of batches.entries()) {
        this.#accumulate(network, batch, baseErrors[i] ?? [], lessons.length, text, report);
        await nextTurn();
        yield (i + 1) / batches.length;
      }
      scope(() => {
        const behind = (text as TextFeatures).backward();
        this.#accumulator.add(aligned(this.trainables, behind.network, behind.textEncoder));
      });
    } finally {
      network.free();
      text?.free();
      free(baseErrors);
      merged?.unmerge();
    }
    return { ...report, 'gradient/norm': this.#step(learningRate), 'optimiser/learningRate': learningRate };
  }

  /** Draws with the adapter merged into the weights: faster, the same pictures up to rounding. */
  async *drawing<Yield, Return>(draw: () => AsyncGenerator<Yield, Return>): AsyncGenerator<Yield, Return> {
    const adapter = this.trainables.adapters.unet;
    adapter?.merge();
    try {
      return yield* draw();
    } finally {
      adapter?.unmerge();
    }
  }

  state(): StateTree {
    return { trainables: trainableState(this.trainables), optimiser: this.#optimiser.state() };
  }

  load(state: StateTree): void {
    const saved = state as { trainables: StateTree; optimiser: StateTree };
    noGrad(() => loadTrainables(this.trainables, saved.trainables));
    this.#optimiser.load(saved.optimiser);
  }

  free(): void {
    this.#optimiser.free();
    this.#accumulator.free();
    for (const adapter of Object.values(this.trainables.adapters)) adapter.remove();
  }

  /** Adds the gradient of one micro-batch. */
  #accumulate(
    network: NetworkGradient,
    batch: readonly Lesson[],
    baseErrors: readonly Tensor[],
    lessons: number,
    text: TextFeatures,
    report: DenoisingReport,
  ): void {
    scope(() => {
      const errors = network.record(() => this.#errors(batch, text)); // k x [B]
      const { loss, observed } = this.options.objective(errors, baseErrors); // [B]
      const { dtype, device } = loss;
      const weights = tensor(
        batch.map(({ weight }) => weight / lessons),
        { dtype, device },
      );
      const total = loss.mul(weights).sum();
      const gradients = network.grad(total, text.leaves);
      network.clear();
      this.#accumulator.add(aligned(this.trainables, gradients.parameters));
      text.gather(gradients.inputs);
      const add = (name: string, value: number) => {
        report[name] = (report[name] ?? 0) + value;
      };
      add('loss/weighted', total.item());
      for (const [name, values] of Object.entries(observed)) {
        add(name, values.detach().sum().item() / lessons);
      }
    });
  }

  async #errorsOfBase(
    batches: readonly (readonly Lesson[])[],
    captions: readonly string[],
  ): Promise<Tensor[][]> {
    const without = <T>(fn: () => T) => noGrad(() => withoutAdapters(this.trainables, fn));
    const text = without(() => new TextFeatures(this.pipeline, captions));
    const all: Tensor[][] = [];
    try {
      for (const batch of batches) {
        all.push(without(() => scope(() => this.#errors(batch, text).map((errors) => keep(errors)))));
        await nextTurn();
      }
      return all;
    } catch (error) {
      free(all);
      throw error;
    } finally {
      text.free();
    }
  }

  /** Of each picture of the lessons, [B]; one pass of the network for all. Differentiable. */
  #errors(batch: readonly Lesson[], text: TextFeatures): Tensor[] {
    const { seed, train, negativePrompt } = this.options;
    const [first] = batch as [Lesson];
    const places = first.pictures.map((_, place) => place);
    const pictures = places.flatMap((place) => batch.map((lesson) => lesson.pictures[place] as Denoised));
    const paths = pictures.map(({ path }) => path);
    const captions = pictures.map(({ caption, path }) => dropped(caption, seed, path, train.captionDropout));
    const latents = cat(pictures.map((of) => of.latents.narrow(0, of.row, 1))).to('float32'); // [k B, C, h, w]
    const noising = drawNoising(this.#schedule, latents, seed, paths);
    const guidanceScale = train.lossGuidanceScale;
    const conditioning = guidanceScale !== 1 ? text.guided(negativePrompt, captions) : text.of(captions);
    const { unet } = this.pipeline;
    const errors = denoisingErrors(unet, this.#schedule, latents, noising, conditioning, guidanceScale);
    return places.map((place) => errors.narrow(0, place * batch.length, batch.length));
  }

  #step(learningRate: number): number {
    const { method, train } = this.options;
    return optimiserStep(this.#accumulator, this.#optimiser, learningRate, {
      method,
      learner: 'network',
      train,
    });
  }
}
