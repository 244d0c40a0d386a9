// What `npm run bench -- full-size` draws and trains.
import { findConfigs, type ModelConfigs } from 'rldf/run';

export const names = ['sd15', 'sd21', 'sdxl', 'gligen'] as const;
export type Name = (typeof names)[number];

export interface Case {
  configs: ModelConfigs;
  /** Of the weights that are trained beside: float32, or what leaves room on a machine of 24 GB. */
  precision: 'float32' | 'bfloat16';
  objects?: [phrase: string, box: [number, number, number, number]][];
}

const configs = (name: string) => findConfigs(name) as ModelConfigs;

export const cases: Record<Name, () => Case> = {
  sd15: () => ({ configs: configs('sd-1.5'), precision: 'float32' }),
  sd21: () => ({ configs: configs('sd-2.1'), precision: 'float32' }),
  sdxl: () => ({ configs: configs('sdxl-base-1.0'), precision: 'bfloat16' }),
  gligen: () => ({
    configs: configs('gligen-text-box'),
    precision: 'float32',
    objects: [
      ['a cat', [0.1, 0.2, 0.5, 0.8]],
      ['a dog', [0.55, 0.3, 0.95, 0.9]],
    ],
  }),
};

export const prompt = 'a photo of a cat and a dog';
export const size: [height: number, width: number] = [256, 256];
export const steps = 2;
export const guidance = 5;

/** One epoch of one update. */
export const trainings = {
  ddpo: {
    method: 'ddpo',
    reward: 'jpeg-compressibility',
    train: { clipNats: 1.6, timestepFraction: 0.5, checkpointing: false },
  },
  alignprop: {
    method: 'alignprop',
    reward: 'jpeg-estimate',
    train: { window: { kind: 'fixed', steps: 2 }, checkpointing: true },
  },
  'ip-rldf': {
    method: 'ip-rldf',
    reward: 'jpeg-compressibility',
    relabel: false,
    rescale: 1,
    rounds: 1,
    train: { checkpointing: false },
  },
} as const;

export type TrainingName = keyof typeof trainings;

/** The recipe of a training of a model's folder. */
export function recipeOf(
  name: TrainingName,
  model: string,
  precision: Case['precision'],
  threads: number,
): object {
  const { train, ...rest } = trainings[name];
  return {
    ...rest,
    model,
    precision,
    threads,
    size: [...size],
    prompts: [prompt, 'a photo of a horse'],
    epochs: 1,
    sample: {
      steps,
      guidanceScale: guidance,
      promptsPerEpoch: name === 'ddpo' ? 1 : 2,
      picturesPerPrompt: name === 'ddpo' ? 2 : 1,
      batchSize: 1,
    },
    train: { unet: 'lora', rank: 4, learningRate: 1e-3, batchSize: 1, updatesPerEpoch: 1, ...train },
    evaluate: { maxPrompts: 1 },
    report: { maxPrompts: 1 },
  };
}
