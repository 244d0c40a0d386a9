// docs: docs/methods/refl.md · paper: Xu et al. 2023, "ImageReward: learning and evaluating human preferences for text-to-image generation", arXiv 2304.05977, algorithm 1 · code: THUDM/ImageReward
//
// Each picture is drawn without gradient to one of the late denoising steps, another for each; the network's prediction of x_0
// there is judged, and the reward is followed back through that one prediction:
//
//   L_reward = λ φ(r(x̂_0(x_t), c)),   φ(r) = max(0, target - r) or -r
//   L_pre    = ‖target - prediction‖² on pictures of the model before training, which holds it near them
import { crew } from '@rldf/common/workers/crew';
import { type Behaviour, generate, NoiseSchedule, type Pipeline } from '@rldf/models';
import { cat, free, noGrad, noiseKey, Random, scope, stack, type Tensor } from '@rldf/torch';
import { mapYields } from '../base/generators.js';
import { firstSeed } from '../base/seeds.js';
import { batchArithmetic } from '../config/batch-arithmetic.js';
import { progress, type Training, type TrainingContext, type TrainingEvent } from '../run/training.js';
import { denoisingErrors, drawNoising } from './denoising-loss.js';
import type { EpochPicture } from './diffexp.js';
import { Learner } from './learner.js';
import type { Method } from './method.js';
import {
  type Batch,
  batchesOf,
  differentiableReward,
  drawing,
  EpochReport,
  followReward,
  remedy,
  updatesOf,
} from './reward-gradient.js';
import { rewardGradientArithmetic, rewardGradientMiniature } from './reward-gradient-plan.js';
import { type ReflRecipe, reflProblems, reflSchema } from './reward-gradient-schema.js';

/** One step of the training is one epoch of drawing and learning. */
export function createRefl(recipe: ReflRecipe, pipeline: Pipeline, context: TrainingContext): Training {
  const { seed, sample, train } = recipe;
  const { rewardMap, rewardTarget, rewardScale } = train;
  const reward = differentiableReward(recipe, context);
  const learner = new Learner(pipeline, recipe, batchArithmetic(recipe).updates);
  const before = train.pretraining.weight > 0 ? new BasePictures(recipe, pipeline, context) : undefined;
  const loss = (rewards: Tensor) =>
    (rewardMap === 'relu' ? rewards.neg().add(rewardTarget).relu() : rewards.neg()).mul(rewardScale); // λ φ(r)
  /** t, one of the last steps, each as likely. */
  const stepOf = ({ behaviour: { path } }: EpochPicture) =>
    sample.steps - 1 - new Random(noiseKey(seed, 'late step', ...path)).integer(train.lateSteps);

  async function* run(from: number): AsyncGenerator<TrainingEvent> {
    if (before !== undefined && from < recipe.epochs)
      yield* mapYields(before.draw(learner), (share) => progress('drawing', share, true));
    for (let epoch = from; epoch < recipe.epochs; epoch++) yield* runEpoch(epoch);
  }

  async function* runEpoch(epoch: number): AsyncGenerator<TrainingEvent> {
    const updates = updatesOf(learner, recipe, context.prompts, epoch).map((pictures) =>
      train.guided ? pictures : pictures.map(unguided),
    );
    const report = new EpochReport();
    try {
      for (const [update, pictures] of updates.entries()) {
        const captions =
          before === undefined ? [] : pictures.map(({ behaviour }) => before.captionOf(behaviour));
        const options = { groupOf: stepOf, captions };
        for await (const batch of batchesOf(learner, recipe, pictures, update, options)) {
          const step = stepOf(batch.pictures[0] as EpochPicture);
          const latents = yield* drawing(batch, batch.sampler.draw(step)); // x_t
          const predicted = batch.sampler.prediction(latents, step); // x̂_0(x_t)
          report.add(batch, yield* followReward(learner, batch, predicted, reward, loss)); // dL_reward/dθ
          before?.denoise(batch); // dL_pre/dθ
        }
        yield* report.score(context, progress('learning', (update + 1) / updates.length, update === 0));
        const learningRate = train.learningRate * learner.schedule(epoch * updates.length + update);
        report.stepped(learner.step(learningRate, remedy), learningRate);
      }
    } finally {
      report.free();
    }
    const all = updates.flat();
    const reached = report.rewards.filter((reward) => rewardMap === 'relu' && reward >= rewardTarget);
    const metrics = {
      ...report.metrics(),
      'reward/reached': reached.length / report.rewards.length,
      'refl/step': all.reduce((sum, picture) => sum + stepOf(picture) + 1, 0) / all.length,
      ...(await before?.metrics()),
    };
    yield { kind: 'step', step: epoch + 1, metrics, pictures: all.length };
  }

  return {
    steps: recipe.epochs,
    run,
    state: () => learner.state(),
    load: (state) => learner.load(state),
    draw: (requests) => learner.draw(requests),
    exportTo: (folder) => learner.exportTo(folder),
    free() {
      before?.free();
      learner.free();
    },
  };
}

const unguided = (picture: EpochPicture): EpochPicture => {
  const guidance = picture.behaviour.guidance.map(() => 1);
  return { ...picture, behaviour: { ...picture.behaviour, guidance } };
};

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

  /** Draws them, each worker its own, deterministically and without what was learned: the same when a run is resumed. */
  async *draw(learner: Learner): AsyncGenerator<number, void> {
    const { sample, negativePrompt } = this.#recipe;
    const own = crew().own([...this.#captions.keys()]);
    const drawn: Tensor[] = [];
    try {
      for (let start = 0; start < own.length; start += sample.batchSize) {
        const some = own.slice(start, start + sample.batchSize);
        const prompts = some.map((index) => this.#captions[index] as string);
        const { images, latents } = await learner.withoutAdapters(() =>
          generate(this.#pipeline, {
            prompts,
            seeds: some.map((index) => firstSeed.pretraining + index),
            negativePrompts: negativePrompt,
            steps: sample.steps,
            guidanceScale: sample.guidanceScale,
          }),
        );
        drawn.push(latents);
        images.free();
        yield Math.min(1, (start + sample.batchSize) / own.length);
      }
      const joined = drawn.length === 0 ? undefined : noGrad(() => cat(drawn));
      const all = await crew().gatherRows('pretraining pictures', joined);
      free(this.#latents);
      this.#latents = noGrad(() => scope(() => this.#captions.map((_, i) => all.select(0, i).clone())));
      all.free();
    } finally {
      free(drawn);
    }
  }

  /** Adds the gradient of the denoising loss of as many of them as there are pictures in the batch. */
  denoise({ pictures, passes: { text, record, backward }, order }: Batch): void {
    const { seed, train } = this.#recipe;
    const behaviours = pictures.map(({ behaviour }) => behaviour);
    const loss = scope(() => {
      const mean = record(() => {
        const latents = stack(behaviours.map((b) => this.#latents[this.#indexOf(b)] as Tensor)); // [B, C, h, w]
        const paths = behaviours.map(({ path }) => path);
        const noising = drawNoising(this.#schedule, latents, seed, paths);
        const captions = text.of(behaviours.map((behaviour) => this.captionOf(behaviour)));
        const errors = denoisingErrors(this.#pipeline.unet, this.#schedule, latents, noising, captions);
        return errors.mean().mul(train.pretraining.weight);
      });
      backward(mean.mul(pictures.length / order.length));
      return mean.item();
    });
    this.#losses.push(loss);
  }

  /** What was measured in the batches since the last call, by all workers. */
  async metrics(): Promise<Record<string, number>> {
    const losses = (await crew().meet('pretraining losses', this.#losses.splice(0))).flat();
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

export const refl = {
  schema: reflSchema,
  create: createRefl,
  problems: reflProblems,
  plan: {
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
  },
  followsReward: true,
} satisfies Method<ReflRecipe>;
