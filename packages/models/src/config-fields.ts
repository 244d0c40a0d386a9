/**
 * What may stand in the config files that networks and schedulers read: kinds and ranges, checked before anything is
 * computed or allocated. A key that is absent or null takes its default; keys that nobody reads may hold anything.
 */

import { shown, UserError } from '@rldf/torch';

export interface FieldRule {
  holds(value: unknown): boolean;
  /** Ends "must be ...". */
  says: string;
}

/** @throws UserError naming the first key that breaks its rule */
export function checkFields(
  where: string,
  config: { readonly [key: string]: unknown },
  rules: { readonly [key: string]: FieldRule },
): void {
  for (const [key, { holds, says }] of Object.entries(rules)) {
    const value = Object.hasOwn(config, key) ? config[key] : undefined;
    if (value === undefined || value === null || holds(value)) continue;
    throw new UserError(
      `${where}: ${key} is ${shown(value)} — must be ${says}. Restore the file, or use another model.`,
    );
  }
}

export const whole = (least: number, most: number): FieldRule => ({
  holds: (value) => Number.isInteger(value) && (value as number) >= least && (value as number) <= most,
  says: `a whole number from ${least} to ${most}`,
});
export const numberFrom = (least: number, most: number): FieldRule => ({
  holds: (value) => typeof value === 'number' && value >= least && value <= most,
  says: `a number from ${least} to ${most}`,
});
const text: FieldRule = { holds: (value) => typeof value === 'string', says: 'text' };
const flag: FieldRule = { holds: (value) => typeof value === 'boolean', says: 'true or false' };

export const listOf = (rule: FieldRule, least: number, most: number): FieldRule => ({
  holds: (value) =>
    Array.isArray(value) && value.length >= least && value.length <= most && value.every(rule.holds),
  says: `a list of ${least === most ? least : `${least} to ${most}`}, each ${rule.says}`,
});
const either = (one: FieldRule, other: FieldRule): FieldRule => ({
  holds: (value) => one.holds(value) || other.holds(value),
  says: `${one.says}, or ${other.says}`,
});

/** Levels of resolution; each halves the picture. */
const levels = 12;
const perLevel = (rule: FieldRule) => either(rule, listOf(rule, 1, levels));
const channels = whole(1, 65_536);
const layers = whole(1, 256);
const pixels = whole(1, 8192);
const size = either(pixels, listOf(pixels, 2, 2));
const epsilon = numberFrom(1e-20, 1);
/** Latents are divided by it. */
const scaling = numberFrom(1e-6, 1e6);
const shift = numberFrom(-1e6, 1e6);

export const unetFields: { readonly [key: string]: FieldRule } = {
  sample_size: size,
  in_channels: channels,
  out_channels: channels,
  flip_sin_to_cos: flag,
  freq_shift: numberFrom(-1, 1),
  down_block_types: listOf(text, 1, levels),
  up_block_types: listOf(text, 1, levels),
  only_cross_attention: perLevel(flag),
  block_out_channels: listOf(channels, 1, levels),
  layers_per_block: perLevel(layers),
  norm_num_groups: channels,
  norm_eps: epsilon,
  cross_attention_dim: perLevel(channels),
  transformer_layers_per_block: perLevel(layers),
  attention_head_dim: perLevel(channels),
  use_linear_projection: flag,
  upcast_attention: flag,
  conv_in_kernel: whole(1, 31),
  conv_out_kernel: whole(1, 31),
  time_embedding_dim: channels,
  addition_embed_type_num_heads: channels,
  addition_time_embed_dim: channels,
  projection_class_embeddings_input_dim: channels,
};

export const autoencoderKLFields: { readonly [key: string]: FieldRule } = {
  in_channels: channels,
  out_channels: channels,
  down_block_types: listOf(text, 1, levels),
  up_block_types: listOf(text, 1, levels),
  block_out_channels: listOf(channels, 1, levels),
  layers_per_block: layers,
  latent_channels: channels,
  norm_num_groups: channels,
  scaling_factor: scaling,
  shift_factor: shift,
  use_quant_conv: flag,
  use_post_quant_conv: flag,
  mid_block_add_attention: flag,
  force_upcast: flag,
};

export const autoencoderTinyFields: { readonly [key: string]: FieldRule } = {
  in_channels: channels,
  out_channels: channels,
  encoder_block_out_channels: listOf(channels, 1, levels),
  decoder_block_out_channels: listOf(channels, 1, levels),
  latent_channels: channels,
  num_encoder_blocks: listOf(layers, 1, levels),
  num_decoder_blocks: listOf(layers, 1, levels),
  scaling_factor: scaling,
  shift_factor: shift,
};

export const textFields: { readonly [key: string]: FieldRule } = {
  vocab_size: whole(1, 10_000_000),
  hidden_size: channels,
  intermediate_size: channels,
  projection_dim: channels,
  num_hidden_layers: layers,
  num_attention_heads: channels,
  max_position_embeddings: whole(1, 65_536),
  layer_norm_eps: epsilon,
  hidden_act: text,
  eos_token_id: whole(0, 10_000_000),
};

/** A schedule has a beta for each timestep; at 1 nothing would be left of the picture. */
const beta = numberFrom(1e-12, 0.999999);

export const schedulerFields: { readonly [key: string]: FieldRule } = {
  num_train_timesteps: whole(2, 100_000),
  beta_start: beta,
  beta_end: beta,
  trained_betas: listOf(beta, 2, 100_000),
  timestep_spacing: text,
  steps_offset: whole(0, 99_999),
  rescale_betas_zero_snr: flag,
  set_alpha_to_one: flag,
  skip_prk_steps: flag,
  clip_sample: flag,
  clip_sample_range: numberFrom(1e-6, 1e6),
  variance_type: text,
  final_sigmas_type: text,
  solver_order: whole(1, 3),
  lower_order_final: flag,
  euler_at_final: flag,
  predict_x0: flag,
  use_karras_sigmas: flag,
  use_exponential_sigmas: flag,
  sigma_min: numberFrom(1e-6, 1e6),
  sigma_max: numberFrom(1e-6, 1e6),
  original_inference_steps: whole(1, 100_000),
  timestep_scaling: numberFrom(1e-6, 1e6),
  lambda_min_clipped: { holds: (value) => typeof value === 'number', says: 'a number' },
};

export const generationFields: { readonly [key: string]: FieldRule } = {
  num_inference_steps: whole(1, 100_000),
  guidance_scale: numberFrom(0, 1000),
};
