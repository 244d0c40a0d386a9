// Whole updates of DDPO and AlignProp beside TRL 0.23, the last version with trainers of them: drawn, scored and learned from on
// both sides, there by TRL's own trainers and pipeline. Ours is set as TRL is; docs/methods/ddpo.md names what stays different.
import type { SchedulerConfig } from '@rldf/models';
import { noiseKey, Random, type StateDict, type Tensor, tensor } from '@rldf/torch';
import {
  behavioursOf,
  checkRecipe,
  followedSteps,
  methodOf,
  promptsOfEpoch,
  trainedSteps,
} from 'rldf/training';
import { type CaseOf, UPDATES } from './comparison.js';
import { copies, integers, SEED } from './fitting.js';
import {
  awaken,
  contextOf,
  drawn,
  learned,
  type Made,
  pattern,
  prompts,
  put,
  type Recipe,
  rewardOf,
  shuffled,
  tinyModel,
  WORDS,
} from './tiny.js';

const sample = {
  steps: 4,
  promptsPerEpoch: 2,
  picturesPerPrompt: 4,
  batchSize: 3, // cut otherwise than TRL does
  guidanceScale: 3,
};
const PICTURES = sample.promptsPerEpoch * sample.picturesPerPrompt;
const train = {
  unet: 'lora',
  rank: 4, // TRL's, as is alpha
  alpha: 4,
  batchSize: 3,
  learningRate: 3e-4,
  weightDecay: 0.2,
  maxGradNorm: 0.05,
};

interface Setting {
  name: string;
  /** Denoising steps, if not `sample.steps`. */
  steps?: number;
  method: 'ddpo' | 'alignprop';
  epochs: number;
  updatesPerEpoch: number;
  /** Of the recipe's `train`. */
  train: Record<string, unknown> & { unet?: 'lora' | 'full' };
  scheduler?: Partial<SchedulerConfig>;
  /** Of TRL's configuration, beside what all have. */
  config: Record<string, unknown>;
  /** Further data of an epoch. */
  epochData(epoch: number, made: Made): Record<string, Tensor>;
  /** The metric that is compared, and others by what the other side calls them. */
  loss: string;
  more: Record<string, string>;
}

/** What both of TRL's trainers are told. */
const configOf = ({ train: own, steps }: Setting) => ({
  sample_num_steps: steps ?? sample.steps,
  sample_eta: 1,
  sample_guidance_scale: sample.guidanceScale,
  train_learning_rate: own.learningRate ?? train.learningRate,
  train_adam_weight_decay: train.weightDecay,
  train_max_grad_norm: own.maxGradNorm ?? train.maxGradNorm,
  negative_prompts: '',
});

const passesOf = ({ train: own }: Pick<Setting, 'train'>) => (own.innerEpochs as number | undefined) ?? 1;

const beside =
  (setting: Setting): CaseOf =>
  (context) => {
    const { method, epochs, updatesPerEpoch } = setting;
    const name = `TRL’s ${setting.name}`;
    const full = setting.train.unet === 'full';
    const { folder, pipeline } = tinyModel(context, name, setting.scheduler);
    const recipe = checkRecipe({
      method,
      epochs,
      prompts: WORDS,
      reward: 'aesthetic', // not loaded: the context scores
      seed: SEED,
      sample: { ...sample, steps: setting.steps ?? sample.steps, eta: 1 },
      train: { ...train, updatesPerEpoch, ...setting.train },
    }) as Recipe;
    const wanted = pattern();
    const training = methodOf(recipe).create(recipe, pipeline, contextOf(wanted));
    const own = learned(training, pipeline, false, full);
    awaken(own);
    const data: StateDict = new Map([['pattern', wanted]]);
    for (let epoch = 0; epoch < epochs; epoch++) {
      const chosen = promptsOfEpoch(prompts, { seed: SEED, epoch, ...sample });
      const behaviours = behavioursOf(recipe as never, pipeline.tokenizer, epoch, chosen);
      const made = { recipe, pipeline, chosen, behaviours };
      put(data, `${epoch}.`, () => ({ ...drawn(made), ...setting.epochData(epoch, made) }));
    }
    return {
      name,
      side: 'trl',
      question: {
        ask: method,
        model: folder,
        lora: !full,
        epochs,
        prompts: WORDS,
        config: { ...configOf(setting), ...setting.config },
      },
      ...(updatesPerEpoch * passesOf(setting) > 1 && { each: 'epoch' as const }),
      start: copies(own),
      data,
      async train() {
        const losses: number[] = [];
        const norms: number[] = [];
        const more = Object.fromEntries(Object.keys(setting.more).map((key) => [key, [] as number[]]));
        for await (const event of training.run(0)) {
          if (event.kind !== 'step') continue;
          losses.push(event.metrics[setting.loss] as number);
          norms.push(event.metrics['gradient/norm'] as number);
          for (const [key, metric] of Object.entries(setting.more))
            more[key]?.push(event.metrics[metric] as number);
        }
        const weights = copies(learned(training, pipeline, false, full));
        training.free();
        return { losses, norms, weights, more };
      },
    };
  };

/** The order of the pictures in each pass, and of each picture's steps, those that are learned from first. */
function orders(epoch: number, { recipe, behaviours }: Made, passes: number): Record<string, Tensor> {
  const all = Array.from({ length: sample.steps }, (_, step) => step);
  return Object.fromEntries(
    Array.from({ length: passes }, (_, pass) => {
      const steps = behaviours.flatMap(({ path }) => {
        const trained = trainedSteps(recipe as never, path, pass);
        return [...trained, ...all.filter((step) => !trained.has(step))];
      });
      return [
        [`order.${pass}`, shuffled(SEED, epoch, pass, PICTURES)],
        [`steps.${pass}`, integers(steps).reshape([PICTURES, sample.steps])],
      ] as const;
    }).flat(),
  );
}

const rewards = (epoch: number) =>
  tensor(Array.from({ length: PICTURES }, (_, i) => rewardOf(epoch, i)), { dtype: 'float64' }); // biome-ignore format: one thought

interface PolicySetting extends Pick<Setting, 'name' | 'epochs' | 'updatesPerEpoch' | 'train' | 'scheduler'> {
  /** How many of an update's pictures TRL works on at once. */
  trlBatch: number;
  config: Record<string, unknown>;
}

const CLIP = { clipMeanLogProb: 2e-3, advantageClip: 1.2 };

const ddpo = ({ trlBatch, config, ...setting }: PolicySetting): CaseOf => {
  const passes = passesOf(setting);
  return beside({
    ...setting,
    method: 'ddpo',
    train: { ...CLIP, ...setting.train },
    config: {
      sample_batch_size: 4,
      sample_num_batches_per_epoch: PICTURES / 4,
      train_batch_size: trlBatch,
      train_gradient_accumulation_steps: PICTURES / setting.updatesPerEpoch / trlBatch,
      train_num_inner_epochs: passes,
      train_clip_range: CLIP.clipMeanLogProb,
      train_adv_clip_max: CLIP.advantageClip,
      ...config,
    },
    epochData: (epoch, made) => ({ rewards: rewards(epoch), ...orders(epoch, made, passes) }),
    loss: 'loss/policy',
    more: {
      'mean size of an advantage': 'advantage/meanAbsolute',
      ...(passes * setting.updatesPerEpoch > 1 && {
        'approximate KL': 'policy/approxKl', // until the second update the policy is that which drew
        'share that is clipped': 'policy/clipFraction',
      }),
    },
  });
};

const statistics = { bufferSize: 12, minimumCount: 8 };
const trackedIn = {
  per_prompt_stat_tracking: true,
  per_prompt_stat_tracking_buffer_size: statistics.bufferSize,
  per_prompt_stat_tracking_min_count: statistics.minimumCount,
};
/** No prompt has ever enough: the whole batch is the measure. */
const untracked = { bufferSize: 1e6, minimumCount: 1e6 };

/** @param trlBatch of 1, when each picture decides for itself which steps are followed */
const alignProp = (
  { trlBatch, ...setting }: Pick<Setting, 'name' | 'steps' | 'epochs' | 'updatesPerEpoch' | 'train'> & { trlBatch: number },
  config: Record<string, unknown>,
): CaseOf =>
  beside({
    ...setting,
    method: 'alignprop',
    config: {
      train_batch_size: trlBatch,
      train_gradient_accumulation_steps: PICTURES / setting.updatesPerEpoch / trlBatch,
      ...config,
    },
    epochData: (epoch, made) => ({
      'order.0': integers(
        new Random(noiseKey(SEED, 'shuffle', epoch)).shuffle(Array.from({ length: PICTURES }, (_, i) => i)),
      ),
      followed: followed(made),
    }),
    loss: 'loss/reward',
    more: {},
  }); // biome-ignore format: its parameters are a table

function followed({ recipe, behaviours }: Made): Tensor {
  const steps = Array.from({ length: (recipe.sample as { steps: number }).steps }, (_, step) => step);
  const rows = behaviours.flatMap((behaviour) => {
    const own = followedSteps(recipe as never, behaviour);
    return steps.map((step) => (own.has(step) ? 1 : 0));
  });
  return integers(rows).reshape([PICTURES, steps.length]);
}

export const trlCases: Record<string, CaseOf> = {
  'trl-ddpo': ddpo({
    name: 'DDPO, LoRA',
    epochs: UPDATES,
    updatesPerEpoch: 1,
    trlBatch: 2,
    train: { promptStatistics: statistics },
    config: trackedIn,
  }),
  'trl-ddpo-twice': ddpo({
    name: 'DDPO, LoRA, two passes of two updates, half of the steps',
    epochs: UPDATES / 2,
    updatesPerEpoch: 2,
    trlBatch: 4,
    train: { promptStatistics: statistics, innerEpochs: 2, timestepFraction: 0.5 },
    config: { ...trackedIn, train_timestep_fraction: 0.5 },
  }),
  'trl-ddpo-full': ddpo({
    name: 'DDPO, all of the U-Net, velocity, no statistics of prompts',
    epochs: UPDATES / 2,
    updatesPerEpoch: 2,
    trlBatch: 1,
    train: { unet: 'full', promptStatistics: untracked, learningRate: 1e-4 },
    scheduler: { prediction_type: 'v_prediction' },
    config: { per_prompt_stat_tracking: false },
  }),
  'trl-alignprop': alignProp(
    {
      name: 'AlignProp, LoRA, the last two steps',
      epochs: UPDATES,
      updatesPerEpoch: 1,
      trlBatch: 4,
      train: { window: { kind: 'fixed', steps: 2 } },
    },
    { truncated_backprop_rand: false, truncated_backprop_timestep: sample.steps - 2 },
  ),
  'trl-alignprop-full': alignProp(
    {
      name: 'AlignProp, all of the U-Net, each step by itself',
      steps: 8, // with few, none of a picture's steps may be followed, where TRL fails
      epochs: 3,
      updatesPerEpoch: 2,
      trlBatch: 1,
      train: { unet: 'full', window: { kind: 'trl-per-step' }, learningRate: 1e-4 },
    },
    { truncated_backprop_rand: true, truncated_rand_backprop_minmax: [0, 8] },
  ),
};
