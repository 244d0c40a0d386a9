// The loop of the methods that follow a reward's gradient back into the weights: draw, decode, judge, differentiate.
// What distinguishes them stands in alignprop.ts, draft-k.ts, draft-lv.ts and refl.ts.
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Behaviour, Pipeline } from '@rldf/models';
import {
  AdamW,
  cat,
  free,
  GradientAccumulator,
  noGrad,
  noiseKey,
  Random,
  type StateTree,
  scope,
  type Tensor,
} from '@rldf/torch';
import { momentsOf } from '../advantages.js';
import { batchArithmetic } from '../config/batch-arithmetic.js';
import type { RewardGradientRecipe } from '../config/reward-gradient-schema.js';
import { UserError } from '../errors.js';
import type { WeightedPrompt } from '../explore/word-weights.js';
import { mapYields } from '../generators.js';
import { learningRateSchedule } from '../learning-rate.js';
import { type Prompt, promptsOfEpoch } from '../prompts.js';
import { gradientMissing } from '../rewards/differentiable.js';
import type { Training, TrainingContext, TrainingEvent } from '../run/training.js';
import {
  type DifferentiableSample,
  DifferentiableSampler,
  type GradientSink,
} from '../sampling/differentiable-sampling.js';
import { networkGradient } from '../sampling/network-gradient.js';
import { behavioursOf } from './diffexp.js';
import { rewardMetrics } from './events.js';
import {
  aligned,
  createTrainables,
  drawForEvaluation,
  exportAdapters,
  loadTrainables,
  type Trainables,
  trainableState,
} from './learner.js';
import { optimiserStep } from './optimiser-step.js';
import { type Judging, judge } from './reward-of-latents.js';
import { TextFeatures } from './texforce.js';

// B pictures · T denoising steps · C, h, w latent · H, W pixels

/** What distinguishes a method. */
export interface RewardGradientMethod {
  /** Draws a batch and climbs the reward of what it draws. */
  follow(batch: Batch): AsyncGenerator<Part>;
  /** What is minimised, of the rewards: [B] -> [B]. */
  loss(rewards: Tensor): Tensor;
  /** How a picture is drawn while it is learned from; as in evaluation by default. */
  as?(behaviour: Behaviour): Behaviour;
  /** A number that all pictures of a batch share, if they must, such as a denoising step. */
  group?(behaviour: Behaviour): number;
  /** Further captions that the batches of these pictures need (`Batch.descend`). */
  captions?(behaviours: readonly Behaviour[]): string[];
  /** Of an epoch. */
  metrics?(behaviours: readonly Behaviour[], rewards: readonly number[]): Record<string, number>;
  /** Before the first epoch of a process. Yields the share done. */
  prepare?(trainables: Trainables): AsyncGenerator<number, void>;
  free?(): void;
}

/** Pictures that are drawn and followed at once. */
export interface Batch {
  sampler: DifferentiableSampler;
  behaviours: readonly Behaviour[];
  /** Decodes and judges what was drawn, follows the gradient of its loss, and frees it. */
  climb(sample: DifferentiableSample, weight?: number): AsyncGenerator<Part>;
  /** Adds the gradient of another loss of the networks, a scalar for the batch; it counts by its pictures. */
  descend(loss: (text: TextFeatures) => Tensor): number;
}

/** What is being done, and the share of it that is done. */
export interface Part {
  phase: 'drawing' | 'learning';
  share: number;
}

/** Progress of what is drawn without gradient. */
export async function* drawing<T>(shares: AsyncGenerator<number, T>): AsyncGenerator<Part, T> {
  yield { phase: 'drawing', share: 0 };
  return yield* mapYields(shares, (share): Part => ({ phase: 'drawing', share }));
}

/** A picture to be drawn. */
interface Planned {
  prompt: Prompt;
  behaviour: Behaviour;
}

/** What an update has seen: one reward, loss and picture each. */
interface Seen {
  planned: Planned[];
  rewards: number[];
  losses: number[];
  /** uint8 [B, H, W, 3], a tensor a batch */
  images: Tensor[];
}

export function createRewardGradient(
  recipe: RewardGradientRecipe,
  pipeline: Pipeline,
  context: TrainingContext,
  method: RewardGradientMethod,
): Training {
  const { sample, train, seed, negativePrompt } = recipe;
  const differentiable = context.differentiable;
  if (differentiable === undefined) throw new UserError(gradientMissing(recipe.method, 'the given reward'));
  const judging: Judging = { pipeline, rewards: differentiable, loss: method.loss, method: recipe.method };
  const trainables = createTrainables(pipeline, { ...train, seed });
  const parameters = [...trainables.unet, ...trainables.textEncoder];
  const optimiser = new AdamW(parameters, {
    learningRate: train.learningRate,
    weightDecay: train.weightDecay,
  });
  const accumulator = new GradientAccumulator(parameters);
  const schedule = learningRateSchedule(train, batchArithmetic(recipe).updates);

  async function* run(from: number): AsyncGenerator<TrainingEvent> {
    if (method.prepare !== undefined && from < recipe.epochs) {
      yield* mapYields(method.prepare(trainables), (share) => progress({ phase: 'drawing', share }, true));
    }
    for (let epoch = from; epoch < recipe.epochs; epoch++) yield* runEpoch(epoch);
  }

  async function* runEpoch(epoch: number): AsyncGenerator<TrainingEvent> {
    const chosen = promptsOfEpoch(context.prompts, { seed, epoch, ...sample });
    const { as = (behaviour) => behaviour } = method;
    const behaviours = behavioursOf(recipe, pipeline.tokenizer, epoch, chosen).map(as);
    const planned = chosen.map(
      ({ prompt }, i): Planned => ({ prompt, behaviour: behaviours[i] as Behaviour }),
    );
    const shuffled = new Random(noiseKey(seed, 'shuffle', epoch)).shuffle(planned);
    const each = planned.length / train.updatesPerEpoch;
    const rewards: number[] = [];
    const losses: number[] = [];
    const parts: Record<string, number[]> = {};
    const norms: number[] = [];
    const rates: number[] = [];
    for (let update = 0; update < train.updatesPerEpoch; update++) {
      const untouched = update === 0; // until its optimiser step
      const share = (within: number) => (update + within) / train.updatesPerEpoch;
      const seen: Seen = { planned: [], rewards: [], losses: [], images: [] };
      try {
        yield* mapYields(accumulate(shuffled.slice(update * each, (update + 1) * each), seen), (part) =>
          progress({ ...part, share: share(part.share) }, untouched),
        );
        yield progress({ phase: 'learning', share: share(1) }, untouched);
        const scores = await score(seen);
        for (const [name, values] of Object.entries(scores))
          parts[name] = [...(parts[name] ?? []), ...values];
      } finally {
        free(seen.images);
      }
      const learningRate = train.learningRate * schedule(epoch * train.updatesPerEpoch + update);
      norms.push(step(learningRate));
      rates.push(learningRate);
      rewards.push(...seen.rewards);
      losses.push(...seen.losses);
    }
    yield {
      kind: 'step',
      step: epoch + 1,
      metrics: {
        ...rewardMetrics(rewards, parts),
        'loss/reward': momentsOf(losses).mean,
        'gradient/norm': momentsOf(norms).mean,
        'optimiser/learningRate': momentsOf(rates).mean,
        ...method.metrics?.(behaviours, rewards),
      },
      pictures: planned.length,
    };
  }

  /** Gathers the gradient of an update's pictures. Yields the share done. */
  async function* accumulate(pictures: readonly Planned[], seen: Seen): AsyncGenerator<Part> {
    accumulator.take(() => {}); // of an update that was left in the middle
    const merged = trainables.adapters.unet;
    const network = networkGradient(trainables.unet, merged);
    const batches = batchesOf(pictures);
    let text: TextFeatures | undefined;
    try {
      merged?.merge();
      const captions = method.captions?.(pictures.map(({ behaviour }) => behaviour)) ?? [];
      text = new TextFeatures(pipeline, [negativePrompt, ...pictures.map(textOf), ...captions], {
        parameters: trainables.textEncoder,
        network: networkGradient(trainables.unet, merged),
      });
      const features = text;
      const sink: GradientSink = {
        network,
        inputs: features.leaves,
        receive(gradients) {
          accumulator.add(aligned(trainables, gradients.parameters));
          features.gather(gradients.inputs);
        },
      };
      for (const [i, batch] of batches.entries()) {
        const tools = toolsOf(batch, pictures.length, features, sink, seen);
        yield* mapYields(method.follow(tools), ({ phase, share }) => ({
          phase,
          share: (i + share) / batches.length,
        }));
        seen.planned.push(...batch);
      }
      scope(() => {
        const behind = features.backward();
        accumulator.add(aligned(trainables, behind.network, behind.textEncoder));
      });
    } finally {
      network.free();
      text?.free();
      merged?.unmerge();
    }
  }

  /** Pictures of one group each, at most `train.batchSize` at once. */
  function batchesOf(pictures: readonly Planned[]): Planned[][] {
    const groups = new Map<number, Planned[]>();
    for (const picture of pictures) {
      const group = method.group?.(picture.behaviour) ?? 0;
      groups.set(group, [...(groups.get(group) ?? []), picture]);
    }
    return [...groups.values()].flatMap((group) =>
      Array.from({ length: Math.ceil(group.length / train.batchSize) }, (_, i) =>
        group.slice(i * train.batchSize, (i + 1) * train.batchSize),
      ),
    );
  }

  function toolsOf(
    batch: readonly Planned[],
    pictures: number,
    text: TextFeatures,
    sink: GradientSink,
    seen: Seen,
  ): Batch {
    const behaviours = batch.map(({ behaviour }) => behaviour);
    const guided = behaviours.some(({ guidance }) => guidance.some((scale) => scale !== 1));
    const sampler = new DifferentiableSampler(pipeline, {
      behaviours,
      steps: sample.steps,
      eta: sample.eta,
      conditioning(which) {
        const prompts = which.map((i) => textOf(batch[i] as Planned));
        return guided ? text.guided(negativePrompt, prompts) : text.of(prompts);
      },
    });
    const texts = batch.map(({ prompt }) => prompt.text);
    let first = true;
    return {
      sampler,
      behaviours,
      async *climb(drawn, weight = 1) {
        let gradient: Tensor | undefined;
        try {
          yield { phase: 'learning', share: 0 };
          const judged = judge(drawn.latents, texts, weight / pictures, judging);
          gradient = judged.gradient;
          if (first) {
            seen.images.push(judged.images);
            seen.rewards.push(...judged.rewards);
            seen.losses.push(...judged.losses);
            first = false;
          } else judged.images.free();
          await nextTurn();
          yield* mapYields(drawn.backward(gradient, sink), (share): Part => ({ phase: 'learning', share }));
        } finally {
          free([gradient]);
          drawn.free();
        }
      },
      descend: (loss) =>
        scope(() => {
          const value = sink.network.record(() => loss(text));
          sink.receive(sink.network.grad(value.mul(batch.length / pictures), sink.inputs));
          sink.network.clear();
          return value.item();
        }),
    };
  }

  /** Asks the reward as in evaluation: for its parts, and so that its statistics move as in other methods. */
  async function score({ planned, images }: Seen): Promise<Record<string, number[]>> {
    const all = noGrad(() => cat(images)); // [B, H, W, 3]
    const prompts = planned.map(({ prompt }) => prompt);
    return (await context.score(all, prompts).finally(() => all.free())).parts;
  }

  const step = (learningRate: number) =>
    optimiserStep(accumulator, optimiser, learningRate, {
      method: recipe.method,
      learner: 'weights',
      train,
      remedy: 'fewer steps that the gradient flows through',
    });

  return {
    steps: recipe.epochs,
    run,
    state: (): StateTree => ({ trainables: trainableState(trainables), optimiser: optimiser.state() }),
    load(state) {
      const saved = state as { trainables: StateTree; optimiser: StateTree };
      noGrad(() => loadTrainables(trainables, saved.trainables));
      optimiser.load(saved.optimiser);
    },
    draw: (requests) => drawForEvaluation(pipeline, requests, negativePrompt, sample),
    exportTo: (folder) => exportAdapters(pipeline, trainables, folder),
    free() {
      method.free?.();
      optimiser.free();
      accumulator.free();
      for (const adapter of Object.values(trainables.adapters)) adapter.remove();
    },
  };
}

/** The prompt with the word weights that its picture is drawn with. */
function textOf({ prompt, behaviour }: Planned): WeightedPrompt {
  return { prompt: prompt.text, wordWeights: behaviour.wordWeights };
}

function progress({ phase, share }: Part, interruptible: boolean): TrainingEvent {
  return { kind: 'progress', phase, share, interruptible };
}
