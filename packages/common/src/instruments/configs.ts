// The networks of the built-in model, in diffusers' and transformers' own terms.
import { type CaptionedOptions, paperAnimals, type SampleOptions, unseenAnimals } from '@rldf/emoji-world';
import type {
  AutoencoderKLConfig,
  CLIPConfig,
  CLIPTokenizer,
  SchedulerConfig,
  UNet2DConditionConfig,
} from '@rldf/models';

export const LATENT_CHANNELS = 32;
const TEXT_WIDTH = 128;

export function clipConfig(tokenizer: CLIPTokenizer): CLIPConfig {
  const tower = {
    hidden_size: TEXT_WIDTH,
    intermediate_size: 384,
    num_attention_heads: 4,
    hidden_act: 'quick_gelu',
    layer_norm_eps: 1e-5,
    projection_dim: 128,
  };
  return {
    architectures: ['CLIPModel'],
    dtype: 'float32', // else transformers 5 computes in the file's half precision
    model_type: 'clip',
    projection_dim: 128,
    logit_scale_init_value: 2.6592,
    text_config: {
      ...tower,
      model_type: 'clip_text_model',
      num_hidden_layers: 3,
      vocab_size: tokenizer.endId + 1,
      max_position_embeddings: tokenizer.maxLength,
      bos_token_id: tokenizer.startId,
      eos_token_id: tokenizer.endId,
      pad_token_id: tokenizer.padId,
    },
    vision_config: {
      ...tower,
      model_type: 'clip_vision_model',
      num_hidden_layers: 4,
      image_size: 64,
      patch_size: 8,
      num_channels: 3,
    },
  };
}

export const vaeConfig: AutoencoderKLConfig = {
  _class_name: 'AutoencoderKL',
  in_channels: 3,
  out_channels: 3,
  latent_channels: LATENT_CHANNELS,
  block_out_channels: [16, 32, 64, 96],
  down_block_types: Array<string>(4).fill('DownEncoderBlock2D'),
  up_block_types: Array<string>(4).fill('UpDecoderBlock2D'),
  layers_per_block: 1,
  norm_num_groups: 8,
  mid_block_add_attention: false,
  use_quant_conv: false,
  use_post_quant_conv: false,
  act_fn: 'silu',
  sample_size: 64,
  scaling_factor: 1,
  force_upcast: false,
};

export const unetConfig: UNet2DConditionConfig = {
  _class_name: 'UNet2DConditionModel',
  sample_size: 8,
  in_channels: LATENT_CHANNELS,
  out_channels: LATENT_CHANNELS,
  block_out_channels: [96, 128],
  down_block_types: ['CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'],
  up_block_types: ['CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'],
  layers_per_block: 1,
  cross_attention_dim: TEXT_WIDTH,
  attention_head_dim: [3, 4],
  // the text also scales and shifts every residual block: a small network learns what a word looks like sooner
  resnet_time_scale_shift: 'scale_shift',
  addition_embed_type: 'text',
  addition_embed_type_num_heads: 8,
  norm_num_groups: 16,
  use_linear_projection: true,
};

/** `sample`: the network answers with the clean latents. Their spectrum falls steeply, and noise is dear to copy through a narrow network. */
export const schedulerConfig: SchedulerConfig = {
  _class_name: 'DDIMScheduler',
  num_train_timesteps: 1000,
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: 'scaled_linear',
  prediction_type: 'sample',
  clip_sample: false,
  set_alpha_to_one: false,
  steps_offset: 1,
  timestep_spacing: 'leading',
};

/** What the first base model is trained to draw: all animals of the papers, and things that are plain to see. CLIP and the autoencoder know the whole world. */
const BASE_THINGS = `bicycle,car,sports ball,plate,chess pawn,shirt,airplane,bus,boat,umbrella,apple,banana,carrot,pizza,tree,flower,house,star,sun,heart,balloon,guitar,mushroom,strawberry`;
export const baseNouns: readonly string[] = [...paperAnimals, ...unseenAnimals]
  .map(({ name }) => name)
  .concat(['person'], BASE_THINGS.split(','));

/** The mix of scenes that the base model is trained on. */
export const baseWorld: SampleOptions = {
  nouns: baseNouns,
  kinds: {
    single: 0.66,
    colour: 0.06,
    background: 0.06,
    count: 0.05,
    relation: 0.06,
    and: 0.03,
    activity: 0.03,
    people: 0.01,
    style: 0.02,
    long: 0.02,
  },
  places: { centre: 0.8, grid: 0.2 },
};

/**
 * What its second training goes on with: all nouns, more scenes of two objects, several objects and attributes. Four
 * of five relations and half of the numbers in its captions are wrong or right by chance only, as in captions of web
 * pictures: a model that obeys leaves feedback nothing to teach.
 */
export const secondWorld: CaptionedOptions = {
  kinds: {
    single: 0.3,
    colour: 0.09,
    background: 0.08,
    count: 0.1,
    relation: 0.24,
    and: 0.08,
    activity: 0.05,
    people: 0.02,
    style: 0.02,
    long: 0.02,
  },
  places: { centre: 0.8, grid: 0.2 },
  captionNoise: { relation: 0.85, count: 0.5 },
};

/** What its third training goes on with, text encoder and all: mostly scenes of two objects. */
const objectsWorld: CaptionedOptions = {
  kinds: {
    single: 0.19,
    colour: 0.16,
    background: 0.05,
    count: 0.1,
    relation: 0.3,
    and: 0.06,
    activity: 0.06,
    people: 0.02,
    style: 0.02,
    long: 0.04,
  },
  places: { centre: 0.8, grid: 0.2 },
};

/** And ends with: more backgrounds, styles and long sentences. */
const everythingWorld: CaptionedOptions = {
  kinds: {
    single: 0.15,
    colour: 0.17,
    background: 0.1,
    count: 0.12,
    relation: 0.2,
    and: 0.05,
    activity: 0.06,
    people: 0.02,
    style: 0.05,
    long: 0.08,
  },
  places: { centre: 0.8, grid: 0.2 },
};

/** What the shipped model's training ended with: most relations and half of the numbers in the captions are drawn anew. */
export const baseModelWorld = {
  ...everythingWorld,
  captionNoise: { relation: 0.85, count: 0.5 },
} satisfies CaptionedOptions;

/** The mixes of scenes by name, in the order in which the shipped model saw them. */
export const worlds = {
  base: baseWorld,
  second: secondWorld,
  objects: objectsWorld,
  everything: everythingWorld,
} satisfies Record<string, CaptionedOptions>;

export type WorldName = keyof typeof worlds;

const SECOND_TOWER = { hidden_size: 96, intermediate_size: 288, num_attention_heads: 4, projection_dim: 96 };

/** CLIP's classes with narrower towers, and one layer fewer in each, than the first CLIP's. */
export function secondClipConfig(tokenizer: CLIPTokenizer): CLIPConfig {
  const { text_config, vision_config, ...first } = clipConfig(tokenizer);
  return {
    ...first,
    projection_dim: SECOND_TOWER.projection_dim,
    text_config: { ...text_config, ...SECOND_TOWER, num_hidden_layers: 2 },
    vision_config: { ...vision_config, ...SECOND_TOWER, num_hidden_layers: 3 },
  };
}
