// What `rldf pretrain` asks of a stage. A new one is a file that exports a `Stage`, and a line in the table of index.ts.

import type { WorldName } from '@rldf/common/instruments/configs';
import { type InstrumentCard, writeInstrument } from '@rldf/common/instruments/instruments';
import type { CaptionNoise } from '@rldf/emoji-world';
import type { StateDict } from '@rldf/torch';
import type { FitEvent, FitOptions } from './fit.js';

export interface Stage {
  /** What trained the shipped model. */
  defaults: StageDefaults;
  run(context: StageContext): AsyncGenerator<FitEvent>;
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
  /** Scenes encoded before a network on latents trains. Default 60,000. */
  scenes?: number;
}

export interface StageContext {
  /** Holds one folder a stage: what an earlier stage made is read from there. */
  folder: string;
  seed: number;
  sceneSeed: number;
  /** To be handed to `fitTrainee`; its folder is the stage's own. `seed` is the scenes'. */
  training: FitOptions & { batchSize: number; seed: number };
  /** unet, gligen: scenes encoded before it trains. */
  cachedScenes: number;
  /** unet, gligen: a model folder that the training starts from, with its text encoder, autoencoder and latent basis. */
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

/** What a stage says of its instrument; the rest of the card is the context's. */
type OwnCard = Pick<
  InstrumentCard,
  'name' | 'class' | 'role' | 'startedFrom' | 'threshold' | 'metrics' | 'description'
>;

/** The end of an instrument's stage: its measures are told, and the weights written with their card. */
export function writeWithCard(
  { seed, sceneSeed, output, log }: StageContext,
  { name, class: className, role, startedFrom, threshold, metrics, description }: OwnCard,
  weights: StateDict,
): void {
  const chosen = threshold === undefined ? {} : { threshold };
  log(JSON.stringify({ ...chosen, ...metrics }));
  const card: InstrumentCard = {
    ...{ name, class: className, role, seed, sceneSeed, split: 'train', startedFrom },
    ...chosen,
    ...{ metrics, description, licence: 'Apache-2.0' },
  };
  writeInstrument(output, card, weights);
}
