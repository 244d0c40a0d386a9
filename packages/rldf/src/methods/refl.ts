// docs: docs/methods/refl.md · paper: Xu et al. 2023, "ImageReward: learning and evaluating human preferences for text-to-image generation", arXiv 2304.05977, algorithm 1 · code: THUDM/ImageReward
import { type Behaviour, generate, NoiseSchedule, type Pipeline } from '@rldf/models';
import { free, noGrad, noiseKey, Random, scope, stack, type Tensor } from '@rldf/torch';
import {
  type ReflRecipe,
  reflProblems,
  reflSchema,
  rewardGradientArithmetic,
  rewardGradientMiniature,
} from '../config/reward-gradient-schema.js';
import type { Training, TrainingContext } from '../run/training.js';
import { denoisingErrors, drawNoising } from './denoising-loss.js';
import type { Trainables } from './learner.js';
import type { Method } from './method.js';
import { type Batch, createRewardGradient, drawing } from './reward-gradient.js';

/** Predicts the finished picture at one late denoising step, another for each picture, and follows the reward through it. */
export function createRefl(recipe: ReflRecipe, pipeline: Pipeline, context: TrainingContext): Training {
  const { seed, sample, train } = recipe;
  const { rewardMap, rewardTarget, rewardScale } = train;
  const stepOf = ({ path }: Behaviour) =>
    sample.steps - 1 - new Random(noiseKey(seed, 'late step', ...path)).integer(train.lateSteps);
  const before = train.pretraining.weight > 0 ? new BasePictures(recipe, pipeline, context) : undefined;
  return createRewardGradient(recipe, pipeline, context, {
    group: stepOf,
    ...(train.guided ? {} : { as: unguided }),
    async *follow({ sampler, behaviours, climb, descend }) {
      const step = stepOf(behaviours[0] as Behaviour);
      yield* climb(sampler.prediction(yield* drawing(sampler.draw(step)), step));
      before?.denoise(behaviours, descend);
    },
    loss: (rewards) =>
      (rewardMap === 'relu' ? rewards.neg().add(rewardTarget).relu() : rewards.neg()).mul(rewardScale),
    metrics: (behaviours, rewards) => ({
      'reward/reached': share(rewards, (reward) => rewardMap === 'relu' && reward >= rewardTarget),
      'refl/step': behaviours.reduce((sum, b) => sum + stepOf(b) + 1, 0) / behaviours.length,
      ...before?.metrics(),
    }),
    ...(before && {
      captions: (behaviours) => behaviours.map((behaviour) => before.captionOf(behaviour)),
      prepare: (trainables) => before.draw(trainables),
      free: () => before.free(),
    }),
  });
}

const unguided = (behaviour: Behaviour): Behaviour => ({
  ...behaviour,
  guidance: behaviour.guidance.map(() => 1),
});

const share = (values: readonly number[], holds: (value: number) => boolean) =>
  values.filter(holds).length / values.length;

/** What the model drew of the training prompts before training, to denoise: the pre-training term. */
class BasePictures {
  readonly #recipe: ReflRecipe;
  readonly #pipeline: Pipeline;
  readonly #captions: string[];
  readonly #schedule: NoiseSchedule;
  /** [C, h, w] each */
  #latents: Tensor[] = [];
  #losses: number[] = [];

  constructor(recipe: ReflRecipe, pipeline: Pipeline, { prompts }: TrainingContext) {
    this.#recipe = recipe;
    this.#pipeline = pipeline;
    const shuffled = new Random(noiseKey(recipe.seed, 'pretraining prompts')).shuffle(prompts);
    this.#captions = Array.from(
      { length: recipe.train.pretraining.pictures },
      (_, i) => shuffled[i % shuffled.length]?.text ?? '',
    );
    this.#schedule = new NoiseSchedule(pipeline.schedulerConfig);
  }

  captionOf(behaviour: Behaviour): string {
    return this.#captions[this.#indexOf(behaviour)] as string;
  }

  /** Draws them, deterministically and without what was learned: the same when a run is resumed. */
  async *draw(trainables: Trainables): AsyncGenerator<number, void> {
    const { sample, negativePrompt } = this.#recipe;
    free(this.#latents);
    this.#latents = [];
    for (let start = 0; start < this.#captions.length; start += sample.batchSize) {
      const prompts = this.#captions.slice(start, start + sample.batchSize);
      const strengths = Object.values(trainables.adapters).map(
        (adapter) => [adapter, adapter.strength] as const,
      );
      for (const [adapter] of strengths) adapter.strength = 0;
      try {
        const { images, latents } = await generate(this.#pipeline, {
          prompts,
          seeds: prompts.map((_, i) => firstSeed + start + i),
          negativePrompts: negativePrompt,
          steps: sample.steps,
          guidanceScale: sample.guidanceScale,
        });
        this.#latents.push(...noGrad(() => scope(() => prompts.map((_, i) => latents.select(0, i).clone()))));
        free([images, latents]);
      } finally {
        for (const [adapter, strength] of strengths) adapter.strength = strength;
      }
      yield Math.min(1, (start + sample.batchSize) / this.#captions.length);
    }
  }

  /** Adds the gradient of the denoising loss of as many of them as there are pictures in the batch. */
  denoise(behaviours: readonly Behaviour[], descend: Batch['descend']): void {
    const { seed, train } = this.#recipe;
    this.#losses.push(
      descend((text) => {
        const latents = stack(behaviours.map((b) => this.#latents[this.#indexOf(b)] as Tensor)); // [B, C, h, w]
        const paths = behaviours.map(({ path }) => path);
        const noising = drawNoising(this.#schedule, latents, seed, paths);
        const captions = text.of(behaviours.map((behaviour) => this.captionOf(behaviour)));
        const errors = denoisingErrors(this.#pipeline.unet, this.#schedule, latents, noising, captions);
        return errors.mean().mul(train.pretraining.weight);
      }),
    );
  }

  /** Of the batches since the last call. */
  metrics(): Record<string, number> {
    const losses = this.#losses.splice(0);
    return { 'loss/pretraining': losses.reduce((sum, loss) => sum + loss, 0) / losses.length };
  }

  free(): void {
    free(this.#latents);
  }

  #indexOf({ path }: Behaviour): number {
    const random = new Random(noiseKey(this.#recipe.seed, 'pretraining picture', ...path));
    return random.integer(this.#captions.length);
  }
}

/** Behind the seeds of evaluations (run/train.ts). */
const firstSeed = 3_000_000;

export const refl = {
  schema: reflSchema,
  create: createRefl,
  problems: reflProblems,
  arithmetic(recipe) {
    const { sample, train } = recipe;
    const late = sample.steps - (train.lateSteps - 1) / 2; // steps up to the one that is judged, on average
    const denoised = train.pretraining.weight > 0 ? 0.5 : 0; // without guidance
    const halves = train.guided ? 1 : 0.5;
    return rewardGradientArithmetic(recipe, { drawn: late * halves, followed: halves + denoised });
  },
  miniature(recipe, steps) {
    const small = rewardGradientMiniature(recipe, steps);
    return { ...small, train: { ...small.train, lateSteps: 1 } };
  },
  holds: 'nothing',
  followsReward: true,
} satisfies Method<ReflRecipe>;
