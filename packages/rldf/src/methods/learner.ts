// What learns of a pipeline, how a gradient reaches it, and how it steps. Every method makes one `Learner` and calls it.

import { momentsOf } from '@rldf/common/base/stats';
import { crew } from '@rldf/common/workers/crew';
import {
  type Behaviour,
  type Conditioning,
  type GroundedObject,
  LORA_PARTS,
  LoraAdapter,
  type LoraPair,
  type LoraPart,
  type Pipeline,
  type PolicyName,
  TEXT_ATTENTION,
  trainGated,
  UNET_ATTENTION,
} from '@rldf/models';
import {
  AdamW,
  clipGradNorm,
  constant,
  cosine,
  free,
  GradientAccumulator,
  isHalf,
  keep,
  linearDecay,
  linearWarmup,
  noGrad,
  type Schedule,
  type Seed,
  type StateTree,
  scope,
  seedAfter,
  type Tensor,
} from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { mapYields } from '../base/generators.js';
import type { Prompt } from '../prompts/prompts.js';
import type { DrawRequest } from '../run/training.js';
import { drawForEvaluation } from '../sampling/evaluation.js';
import { networkGradient } from '../sampling/network-gradient.js';
import { type Rollout, rollout } from '../sampling/rollout.js';
import {
  type DrawingFields,
  type EpochPicture,
  type PromptText,
  picturesOfEpoch,
  textOf,
} from './diffexp.js';
import { exportAdapters } from './export.js';
import { TextFeatures } from './texforce.js';

/** `gated`: all weights of the U-Net's gated layers (GLIGEN). */
export type Trained = 'none' | 'lora' | 'full' | 'gated';

/** What of the networks learns. */
export interface TrainableOptions {
  unet: Trained;
  textEncoder: Trained;
  textEncoder2?: Trained | undefined; // of XL
  rank: number;
  alpha?: number | undefined;
  /** Ends of the U-Net's layer paths; the attention projections by default. */
  targets?: readonly string[] | undefined;
}

/** What learns of each network. */
export type Trainables = Record<LoraPart, Tensor[]> & { adapters: LoraPair };

/** What a recipe says of drawing and learning. */
export interface LearnerRecipe extends DrawingFields {
  method: string;
  negativePrompt: string | null; // null: none
  train: TrainableOptions & {
    learningRate: number;
    weightDecay: number;
    maxGradNorm: number;
    schedule: 'constant' | 'linear' | 'cosine';
    warmup: number;
    /** Whether the U-Net's adapter is merged into the weights while it learns; true by default. */
    reuse?: boolean;
  };
}

/** What passes are conditioned on, each prompt computed once (`TextFeatures`). */
export interface Texts {
  /** Of a batch without guidance, one row a prompt. */
  of(prompts: readonly PromptText[]): Conditioning;
  /** Of a guided batch, 2B rows: the negative prompt for all, then these. */
  guided(negativePrompt: string | null, prompts: readonly PromptText[]): Conditioning;
  /** Of pictures that are drawn, guided or not. */
  forDrawing(
    behaviours: readonly Behaviour[],
    negativePrompt: string | null,
    prompts: readonly PromptText[],
  ): Conditioning;
}

/** The passes behind one update: their text, and where their gradients go. */
export interface Passes {
  text: Texts;
  /** Runs a part of the network whose gradient will be asked for. */
  record<T>(fn: () => T): T;
  /**
   * Adds the gradient by all that learns, of a scalar or of outputs times `gradOutput`, and forgets what was recorded.
   * Call it within a scope. @returns the gradient by `input`
   */
  backward(outputs: Tensor, options?: { gradOutput?: Tensor; input?: Tensor }): Tensor | undefined;
}

/** What is known of an optimiser step. */
export interface Step {
  /** Of the gradient, before clipping. */
  norm: number;
  /** Cosine of the gradient with the running mean of those before (`AdamW.agreement`). */
  agreement: number | undefined;
}

/** The mean agreement of some steps, where there is one. */
export function agreementMetric(steps: readonly Step[]): { 'gradient/agreement'?: number } {
  const known = steps.flatMap(({ agreement }) => agreement ?? []);
  return known.length === 0 ? {} : { 'gradient/agreement': momentsOf(known).mean };
}

export class Learner {
  readonly adapters: LoraPair;
  /** What learns of the U-Net, and of the text encoders. */
  readonly unet: readonly Tensor[];
  readonly text: readonly Tensor[];
  /** Factor on the learning rate at each update. */
  readonly schedule: Schedule;
  readonly #trainables: Trainables;
  readonly #optimiser: AdamW;
  readonly #accumulator: GradientAccumulator;

  /** @param updates of the whole training */
  constructor(
    readonly pipeline: Pipeline,
    readonly recipe: LearnerRecipe,
    updates: number,
  ) {
    const { train, seed } = recipe;
    this.#trainables = createTrainables(pipeline, { ...train, seed });
    const { unet, textEncoder, textEncoder2, adapters } = this.#trainables;
    this.unet = unet;
    this.text = [...textEncoder, ...textEncoder2];
    this.adapters = adapters;
    const parameters = [...unet, ...this.text];
    const { learningRate, weightDecay } = train;
    this.#optimiser = new AdamW(parameters, { learningRate, weightDecay });
    this.#accumulator = new GradientAccumulator(parameters);
    this.schedule = scheduleOf(train, updates);
  }

  /** What an epoch draws, and how (diffexp.ts). */
  picturesOfEpoch(prompts: readonly Prompt[], epoch: number): EpochPicture[] {
    return picturesOfEpoch(this.recipe, this.pipeline, prompts, epoch);
  }

  /** Runs `draw` with the adapter merged into the weights: faster, the same pictures up to rounding. */
  async *drawing<Yield, Return>(draw: () => AsyncGenerator<Yield, Return>): AsyncGenerator<Yield, Return> {
    const merged = this.#merged;
    merged?.merge();
    try {
      const drawn = yield* draw();
      await crew().pass('drawing'); // with the other workers, or none where the first one was stopped
      return drawn;
    } finally {
      merged?.unmerge();
    }
  }

  /** Runs `fn` with the model that training began from, where adapters learn: what they learned is off meanwhile. */
  async withoutAdapters<T>(fn: () => Promise<T>): Promise<T> {
    const strengths = Object.values(this.adapters).map((adapter) => [adapter, adapter.strength] as const);
    for (const [adapter] of strengths) adapter.strength = 0;
    try {
      return await fn();
    } finally {
      for (const [adapter, strength] of strengths) adapter.strength = strength;
    }
  }

  /**
   * Gathers the gradient of one update. `run` makes its passes; what reached their text is then sent on, once
   * (texforce.ts). Ends without a step: call `step`.
   * @param prompts all that the passes are conditioned on
   */
  async *accumulate<Yield, Return>(
    prompts: Iterable<PromptText>,
    run: (passes: Passes) => AsyncGenerator<Yield, Return>,
  ): AsyncGenerator<Yield, Return> {
    this.#accumulator.take(() => {}); // of an update that was left in the middle
    const merged = this.#merged;
    const network = networkGradient(this.unet, merged, this.pipeline);
    let text: TextFeatures | undefined;
    try {
      merged?.merge();
      const features = new TextFeatures(this.pipeline, prompts, {
        parameters: this.text,
        network: networkGradient(this.unet, merged, this.pipeline),
        prepare: this.recipe.train.reuse ?? true,
      });
      text = features;
      const result = yield* run({
        text: features,
        record: (fn) => network.record(fn),
        backward: (outputs, { gradOutput, input } = {}) => {
          const inputs = input === undefined ? features.leaves : [...features.leaves, input];
          const found = network.grad(outputs, inputs, gradOutput && { gradOutputs: [gradOutput] });
          network.clear();
          noGrad(() => {
            this.#add(found.parameters);
            features.gather(found.inputs.slice(0, features.leaves.length));
          });
          return found.inputs[features.leaves.length];
        },
      });
      scope(() => {
        const behind = features.backward();
        this.#add(behind.network, behind.text);
      });
      await crew().sum('gradients', this.#accumulator.sums);
      return result;
    } finally {
      network.free();
      text?.free();
      merged?.unmerge();
    }
  }

  /**
   * Clips the gathered gradient to `train.maxGradNorm`, takes an optimiser step along it and forgets it.
   * @param remedy against a gradient that is not finite, beside a lower learning rate
   * @throws UserError when it is not finite; the weights are unchanged then
   */
  step(learningRate: number, remedy?: string): Step {
    const { method, train } = this.recipe;
    return this.#accumulator.take((gradients) => {
      const norm = clipGradNorm(gradients, train.maxGradNorm);
      if (!Number.isFinite(norm)) {
        throw new UserError(
          `${method}: the gradient's norm is ${norm} — the weights left the range of float32; the last checkpoint is intact. Start a new run with a lower train.learningRate (now ${train.learningRate}) or ${remedy ?? `train.maxGradNorm (now ${train.maxGradNorm})`}.`,
        );
      }
      const agreement = this.#optimiser.agreement(gradients);
      this.#optimiser.step(gradients, learningRate);
      return { norm, agreement };
    });
  }

  /**
   * Pictures for evaluation: by the recipe's steps and guidance, deterministically.
   * @param objects of each, for a model of GLIGEN's kind
   * @returns uint8 [B, H, W, 3]
   */
  draw(requests: readonly DrawRequest[], objects?: GroundedObject[][]): Promise<Tensor> {
    const { negativePrompt, sample } = this.recipe;
    return drawForEvaluation(this.pipeline, requests, negativePrompt, { ...sample, objects });
  }

  /** Writes what was learned for other tools. @returns the files */
  exportTo(folder: string): Promise<string[]> {
    const whole = Object.values(this.recipe.train).some((what) => what === 'full' || what === 'gated');
    return exportAdapters(this, whole, folder);
  }

  state(): { trainables: StateTree; optimiser: StateTree } {
    const { unet, textEncoder, textEncoder2 } = this.#trainables;
    const trainables = { unet, textEncoder, ...(textEncoder2.length > 0 && { textEncoder2 }) };
    return { trainables, optimiser: this.#optimiser.state() };
  }

  load(state: StateTree): void {
    const { trainables, optimiser } = state as {
      trainables: { [part: string]: Tensor[] };
      optimiser: StateTree;
    };
    for (const part of LORA_PARTS) copyInto(this.#trainables[part], trainables[part] ?? []);
    this.#optimiser.load(optimiser);
  }

  free(): void {
    this.#optimiser.free();
    this.#accumulator.free();
    for (const adapter of Object.values(this.adapters)) adapter.remove();
  }

  /** Not in half precision, whose weights are too coarse for small steps. */
  get #merged(): LoraAdapter | undefined {
    return this.recipe.train.reuse === false || isHalf(this.pipeline.unet.dtype)
      ? undefined
      : this.adapters.unet;
  }

  #add(ofUnet: readonly (Tensor | undefined)[], ofText: readonly (Tensor | undefined)[] = []): void {
    this.#accumulator.add([...this.unet.map((_, i) => ofUnet[i]), ...this.text.map((_, i) => ofText[i])]);
  }
}

/** Attaches adapters where wanted and turns gradients on for what learns, off for all else. */
export function createTrainables(pipeline: Pipeline, options: TrainableOptions & { seed: Seed }): Trainables {
  const { rank, alpha = rank, seed } = options;
  for (const parameters of Object.values(pipeline.parameters)) parameters.trainable(false);
  const adapters: LoraPair = {};
  const [unet = [], textEncoder = [], textEncoder2 = []] = LORA_PARTS.map((network, salt) => {
    const parameters = pipeline.parameters[network];
    const what = options[network] ?? 'none';
    if (parameters === undefined || what === 'none') return [];
    if (what === 'full') return parameters.trainable();
    if (what === 'gated') return trainGated(parameters);
    const targets = network === 'unet' ? (options.targets ?? UNET_ATTENTION) : TEXT_ATTENTION;
    const lora = { rank, alpha, targets, init: 'gaussian', seed: seedAfter(seed, salt) } as const;
    adapters[network] = LoraAdapter.attach(parameters, lora);
    return adapters[network].trainable();
  });
  return { unet, textEncoder, textEncoder2, adapters };
}

/** Copies values into parameters, whether they learn or not. */
export function copyInto(parameters: readonly Tensor[], saved: readonly Tensor[]): void {
  noGrad(() =>
    scope(() => {
      for (const [i, tensor] of parameters.entries()) tensor.detach().copy_(saved[i] as Tensor);
    }),
  );
}

/** The factor on the learning rate at each of `updates` updates. */
export function scheduleOf(
  { schedule, warmup }: Pick<LearnerRecipe['train'], 'schedule' | 'warmup'>,
  updates: number,
): Schedule {
  if (schedule === 'linear') return linearDecay(updates, { warmup });
  if (schedule === 'cosine') return cosine(updates, { warmup });
  return warmup === 0 ? constant : linearWarmup(warmup);
}

export interface RolloutBatches {
  /** One a picture. */
  prompts: readonly string[];
  behaviours: readonly Behaviour[];
  negativePrompt: string | null;
  /** Pictures drawn at once. */
  batchSize: number;
  /** Of the text, see `TextFeatures`. */
  prepare?: boolean;
  steps: number;
  eta: number;
  /** The policy; DDIM by default. */
  scheduler?: PolicyName | undefined;
  /** Told of each batch's pictures, uint8 [b, H, W, 3], and the number of the first. */
  drawn?: (images: Tensor, start: number) => void;
}

/** Draws any number of pictures, `batchSize` at once; yields the share done. The results' tensors belong to the caller. */
export async function* rolloutBatches(
  pipeline: Pipeline,
  { prompts, behaviours, negativePrompt, batchSize, prepare = true, drawn: tell, ...how }: RolloutBatches,
): AsyncGenerator<number, Rollout[]> {
  const rollouts: Rollout[] = [];
  let whole = false;
  try {
    for (let start = 0; start < prompts.length; start += batchSize) {
      const drawn = behaviours.slice(start, start + batchSize);
      const part = drawn.map((behaviour, i) => textOf(prompts[start + i] as string, behaviour));
      const conditioning = noGrad(() => {
        const text = new TextFeatures(pipeline, [negativePrompt, ...part], { prepare });
        const rows = keep(text.forDrawing(drawn, negativePrompt, part));
        text.free();
        return rows;
      });
      try {
        const drawing = rollout(pipeline, { conditioning, behaviours: drawn, ...how });
        rollouts.push(yield* mapYields(drawing, (share) => (start + part.length * share) / prompts.length));
        tell?.(rollouts.at(-1)!.images, start);
      } finally {
        free(conditioning);
      }
    }
    whole = true;
    return rollouts;
  } finally {
    if (!whole) free(rollouts); // failed, or left by the caller
  }
}
