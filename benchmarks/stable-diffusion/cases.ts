// What `npm run bench -- stable-diffusion` draws and trains: two sizes of one architecture, and the shipped recipes made short.
import { fileURLToPath } from 'node:url';
import type { Device } from '@rldf/torch';
import { findConfigs, type ModelConfigs } from 'rldf/run';

export type SizeName = 'sd15' | 'tiny';

export interface Size {
  configs: Pick<ModelConfigs, 'unet' | 'vae' | 'text_encoder' | 'scheduler'>;
  /** As `rldf plan --model` knows it, if its configurations ship. */
  planned?: string;
  /** Of the measured drawings, and of the exact comparison. */
  steps: number;
  exactSteps: number;
  batches: readonly number[];
  /** Seconds of drawing in turns, for each batch. */
  seconds: number;
  trainings: readonly TrainingCase[];
  /** Steps that a reward's gradient is followed through: with each step run again, and in one graph. */
  depths: { again: readonly number[]; whole: readonly number[] };
}

export interface TrainingCase {
  name: string;
  /** In recipes/stable-diffusion. */
  recipe: string;
  overrides: readonly string[];
  /** Whether an adapter is trained, which is exported and drawn with by both sides. */
  adapter?: boolean;
}

const sd15 = findConfigs('sd-1.5') as ModelConfigs;

/** The same kinds of blocks with few channels, 64 x 64 pixels. */
const tinyConfigs: Size['configs'] = {
  unet: {
    ...sd15.unet,
    sample_size: 8,
    block_out_channels: [32, 64, 64, 64],
    norm_num_groups: 8,
    cross_attention_dim: 32,
  },
  vae: { ...sd15.vae, block_out_channels: [8, 16, 16, 16], norm_num_groups: 4, sample_size: 64 },
  text_encoder: {
    ...sd15.text_encoder,
    vocab_size: 1000,
    hidden_size: 32,
    intermediate_size: 64,
    projection_dim: 32,
    num_hidden_layers: 2,
    num_attention_heads: 4,
  },
  scheduler: sd15.scheduler,
};

/** Two epochs of one update, of which the second is measured; at full size as many pictures at once as the recipes say. */
function trainings(
  pictures: { sample: number; train: number; few: number; many: number },
  steps: number,
): readonly TrainingCase[] {
  const { sample, train, few, many } = pictures;
  const short = [`sample.steps=${steps}`, 'epochs=2', 'train.updatesPerEpoch=1'];
  const of = (count: number, atOnce: number) => [
    ...short,
    `sample.promptsPerEpoch=${count}`,
    `sample.batchSize=${count}`,
    `train.batchSize=${atOnce}`,
  ];
  return [
    { name: 'DDPO, LoRA', recipe: 'ddpo-lora', overrides: of(sample, train), adapter: true },
    { name: 'DDPO, whole U-Net', recipe: 'ddpo-compressibility', overrides: of(few, few) },
    {
      name: 'RWR, whole U-Net',
      recipe: 'rwr-compressibility',
      overrides: [...of(few, few), 'train.innerEpochs=1'],
    },
    {
      name: 'AlignProp, LoRA, 3 steps followed',
      recipe: 'alignprop-aesthetic',
      overrides: [...of(many, many), 'reward=jpeg-estimate', 'train.window={ kind: fixed, steps: 3 }'],
      adapter: true,
    },
    {
      name: 'DRaFT-1, LoRA',
      recipe: 'draft-1-aesthetic',
      overrides: [...of(few, few), 'reward=jpeg-estimate'],
    },
    {
      name: 'TexForce, LoRA of the text encoder',
      recipe: 'texforce-incompressibility',
      overrides: [...of(few, few), 'train.schedule=constant', 'train.warmup=0'],
      adapter: true,
    },
  ];
}

export const sizes: Record<SizeName, Size> = {
  sd15: {
    configs: sd15,
    planned: 'sd-1.5',
    steps: 12,
    exactSteps: 4,
    batches: [1, 4, 8],
    seconds: 8,
    trainings: trainings({ sample: 8, train: 4, few: 4, many: 8 }, 5),
    depths: { again: [1, 2, 4, 8], whole: [1, 2] },
  },
  tiny: {
    configs: tinyConfigs,
    steps: 3,
    exactSteps: 3,
    batches: [1, 2],
    seconds: 0.5,
    trainings: trainings({ sample: 4, train: 2, few: 2, many: 2 }, 3),
    depths: { again: [1, 2], whole: [1, 2] },
  },
};

/** One way to compute, and how each side is told. */
export interface Precision {
  name: string;
  dtype: 'float32' | 'float16' | 'bfloat16';
  /** Of products and convolutions in float32: as PyTorch begins (convolutions only), nowhere, or everywhere. */
  tf32: 'default' | 'off' | 'all';
  environment: Record<string, string>;
  /** Instead of the size's. */
  batches?: readonly number[];
}

export const exact: Precision = {
  name: 'float32, no TF32',
  dtype: 'float32',
  tf32: 'off',
  environment: { NVIDIA_TF32_OVERRIDE: '0' },
};

export function precisions(device: Device): readonly Precision[] {
  const plain: Precision = { name: 'float32', dtype: 'float32', tf32: 'default', environment: {} };
  if (device === 'cpu') return [plain, { ...plain, name: 'bfloat16', dtype: 'bfloat16' }];
  const tf32 = { NVIDIA_TF32_OVERRIDE: '1' }; // else ours is without it
  return [
    { ...plain, name: 'float32, TF32 in convolutions', environment: tf32 },
    {
      ...plain,
      name: 'float32, TF32 everywhere',
      tf32: 'all',
      environment: { ...tf32, TORCH_ALLOW_TF32_CUBLAS_OVERRIDE: '1' },
      batches: [1, 4],
    },
    { ...plain, name: 'float16', dtype: 'float16' },
  ];
}

export const prompts = [
  'a cat',
  'a photo of a dog on a beach',
  'two horses',
  'a red car',
  'a bird in a tree',
  'a house by the sea at night',
  'an apple',
  'a bicycle',
];

const file = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export const recipeFile = (name: string) => file(`../../recipes/stable-diffusion/${name}.yaml`);
export const commandLine = fileURLToPath(import.meta.resolve('rldf/command'));
