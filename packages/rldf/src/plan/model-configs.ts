/** Models that are planned for from their configurations alone: no weights, no tokenizer. */

import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  type AutoencoderKLConfig,
  type CLIPTextConfig,
  readJson,
  type SchedulerConfig,
  type UNet2DConditionConfig,
} from '@rldf/models';

/** The configurations of one model, as its folder in diffusers' layout holds them. */
export interface ModelConfigs {
  /** In words. */
  name: string;
  /** Other names, without the owner's: `stable-diffusion-v1-5` stands for `anybody/stable-diffusion-v1-5`. */
  knownAs: readonly string[];
  unet: UNet2DConditionConfig;
  vae: AutoencoderKLConfig;
  text_encoder: CLIPTextConfig;
  /** Of Stable Diffusion XL. */
  text_encoder_2?: CLIPTextConfig;
  scheduler: SchedulerConfig;
}

const folder = fileURLToPath(new URL('../../assets/configs/', import.meta.url));

/** Names of the configurations that ship with rldf, such as `sd-1.5`. */
export function configNames(): string[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith('.json'))
    .map((file) => file.replace(/\.json$/, ''))
    .sort();
}

/** The configurations known under a name, or under the last part of `owner/name`. */
export function findConfigs(name: string): ModelConfigs | undefined {
  const wanted = basename(name).toLowerCase();
  for (const known of configNames()) {
    const configs = readJson(join(folder, `${known}.json`)) as unknown as ModelConfigs;
    if (known === wanted || configs.knownAs.includes(wanted)) return configs;
  }
  return undefined;
}
