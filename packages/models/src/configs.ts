/**
 * Configurations as diffusers and transformers write them, key for key. Keys that a file leaves out take the
 * defaults of the library that wrote it; keys that ask for something not built yet are refused by the network
 * that reads them.
 */

import { shown, UserError } from '@rldf/torch';

export type PerLevel<T> = T | readonly T[];

export interface UNet2DConditionConfig {
  _class_name?: string;
  sample_size?: number | readonly [number, number] | null;
  in_channels?: number;
  out_channels?: number;
  flip_sin_to_cos?: boolean;
  freq_shift?: number;
  down_block_types?: readonly string[];
  mid_block_type?: string | null;
  up_block_types?: readonly string[];
  only_cross_attention?: PerLevel<boolean>;
  block_out_channels?: readonly number[];
  layers_per_block?: PerLevel<number>;
  downsample_padding?: number;
  norm_num_groups?: number;
  norm_eps?: number;
  cross_attention_dim?: PerLevel<number>;
  transformer_layers_per_block?: PerLevel<number>;
  /** Despite its name the number of heads: diffusers kept the old name when `num_attention_heads` is null. */
  attention_head_dim?: PerLevel<number>;
  use_linear_projection?: boolean;
  upcast_attention?: boolean;
  /** gated: with GLIGEN's layers, which read objects with their places. */
  attention_type?: 'default' | 'gated';
  conv_in_kernel?: number;
  conv_out_kernel?: number;
  time_embedding_dim?: number | null;
  resnet_time_scale_shift?: 'default' | 'scale_shift';
  addition_embed_type?: 'text' | 'text_time' | null;
  addition_embed_type_num_heads?: number;
  addition_time_embed_dim?: number | null;
  projection_class_embeddings_input_dim?: number | null;
  [key: string]: unknown;
}

export interface AutoencoderKLConfig {
  _class_name?: string;
  in_channels?: number;
  out_channels?: number;
  down_block_types?: readonly string[];
  up_block_types?: readonly string[];
  block_out_channels?: readonly number[];
  layers_per_block?: number;
  latent_channels?: number;
  norm_num_groups?: number;
  sample_size?: number | readonly [number, number];
  scaling_factor?: number;
  shift_factor?: number | null;
  use_quant_conv?: boolean;
  use_post_quant_conv?: boolean;
  mid_block_add_attention?: boolean;
  /** Whether a decoder in half precision overflows, so that it must run in float32. */
  force_upcast?: boolean;
  [key: string]: unknown;
}

export interface AutoencoderTinyConfig {
  _class_name?: string;
  in_channels?: number;
  out_channels?: number;
  encoder_block_out_channels?: readonly number[];
  decoder_block_out_channels?: readonly number[];
  act_fn?: string;
  upsample_fn?: string;
  latent_channels?: number;
  upsampling_scaling_factor?: number;
  num_encoder_blocks?: readonly number[];
  num_decoder_blocks?: readonly number[];
  scaling_factor?: number;
  shift_factor?: number | null;
  [key: string]: unknown;
}

interface CLIPTowerConfig {
  hidden_size?: number;
  intermediate_size?: number;
  projection_dim?: number;
  num_hidden_layers?: number;
  num_attention_heads?: number;
  hidden_act?: string;
  layer_norm_eps?: number;
  [key: string]: unknown;
}

export interface CLIPTextConfig extends CLIPTowerConfig {
  vocab_size?: number;
  max_position_embeddings?: number;
  eos_token_id?: number;
}

export interface CLIPVisionConfig extends CLIPTowerConfig {
  num_channels?: number;
  image_size?: number;
  patch_size?: number;
}

export interface CLIPConfig {
  text_config: CLIPTextConfig;
  vision_config: CLIPVisionConfig;
  projection_dim?: number;
  logit_scale_init_value?: number;
  [key: string]: unknown;
}

export interface SchedulerConfig {
  _class_name?: string;
  num_train_timesteps?: number;
  beta_start?: number;
  beta_end?: number;
  beta_schedule?: 'linear' | 'scaled_linear' | 'squaredcos_cap_v2';
  trained_betas?: readonly number[] | null;
  prediction_type?: 'epsilon' | 'v_prediction' | 'sample';
  timestep_spacing?: 'leading' | 'trailing' | 'linspace';
  steps_offset?: number;
  set_alpha_to_one?: boolean;
  clip_sample?: boolean;
  clip_sample_range?: number;
  [key: string]: unknown;
}

/**
 * Refuses the keys whose value asks for something the network does not do.
 *
 * @param where names the config in the message, such as `unet/config.json`
 * @param supported for each key the values that may stand there; an absent key or null counts as the first
 */
export function refuseUnsupported(
  where: string,
  config: { readonly [key: string]: unknown },
  supported: { readonly [key: string]: readonly unknown[] },
): void {
  for (const [key, allowed] of Object.entries(supported)) {
    const value = config[key] ?? allowed[0];
    if (allowed.includes(value)) continue;
    const choices = allowed.map((choice) => JSON.stringify(choice)).join(' or ');
    throw new UserError(
      `${where}: ${key} is ${shown(value)} — not supported yet; supported: ${choices}. ` +
        'Use a model whose config has one of these values.',
    );
  }
}

/** One value for every level: repeats a single value, checks the length of a list. */
export function perLevel<T>(where: string, key: string, value: PerLevel<T>, levels: number): readonly T[] {
  if (!Array.isArray(value)) return Array.from({ length: levels }, () => value as T);
  if (value.length === levels) return value as readonly T[];
  throw new UserError(
    `${where}: ${key} has ${value.length} entries ${shown(value)} — the network has ${levels} levels. ` +
      'Give one value or one per level.',
  );
}

/** Checks that channels can be cut into groups of equal size. */
export function checkGroups(where: string, channels: readonly number[], groups: number): void {
  const wrong = channels.find((count) => count % groups !== 0);
  if (wrong === undefined) return;
  throw new UserError(
    `${where}: block_out_channels ${JSON.stringify(channels)} with norm_num_groups ${groups} — ${wrong} is no ` +
      `multiple of ${groups}. Change one of the two.`,
  );
}
