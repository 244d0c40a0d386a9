// What `rldf pretrain` asks of a stage. A new one is a file that exports a `Stage`, and a line in the table of index.ts.

import type { WorldName } from '@rldf/common/instruments/configs';
import type { CaptionNoise } from '@rldf/emoji-world';
import type { TrainingEvent, TrainingOptions } from './training.js';

export interface Stage {
  /** What trained the shipped model. */
  defaults: StageDefaults;
  run(context: StageContext): AsyncGenerator<TrainingEvent>;
}

export interface StageDefaults {
  /** Updates in all. */
  steps: number;
  /** Pictures an update. */
  batchSize: number;
  learningRate: number;
  /** Of the weights, and of what `sceneSeed` does not name. */
  seed: number;
  /** Of the training scenes. Default: the seed. */
  sceneSeed?: number;
}

export interface StageContext {
  /** Holds one folder a stage: what an earlier stage made is read from there. */
  folder: string;
  seed: number;
  sceneSeed: number;
  /** To be handed to `train`; its folder is the stage's own. `seed` is the scenes'. */
  training: TrainingOptions & { batchSize: number; seed: number };
  /** unet: scenes encoded before it trains. */
  cachedScenes: number;
  /** unet: a model folder that the training starts from, with its text encoder, autoencoder and latent basis. */
  from?: string | undefined;
  /** unet: the text encoder's learning rate as a share of the U-Net's; 0 keeps it as it is. */
  textRate: number;
  /** unet: weight of the text encoder's auxiliary task (layout.ts). */
  layoutWeight: number;
  /** unet: the mix of scenes. */
  world: WorldName;
  /** unet: how careless the captions are, if not as the world says. */
  captionNoise?: CaptionNoise | undefined;
  /** Where an instrument's weights and card go. Default: the stage's own folder. */
  output: string;
  log(line: string): void;
}
