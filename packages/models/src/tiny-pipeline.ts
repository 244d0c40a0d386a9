import { type DType, noGrad, Parameters } from '@rldf/torch';
import { AutoencoderKL } from './autoencoder-kl.js';
import { CLIPTextModel, CLIPTextModelWithProjection } from './clip-text.js';
import { CLIPTokenizer, fromVocabulary } from './clip-tokenizer.js';
import type { CLIPTextConfig, UNet2DConditionConfig } from './configs.js';
import type { Pipeline } from './pipeline.js';
import { UNet2DConditionModel } from './unet.js';

const LENGTH = 12;
const LENGTHS = { model_max_length: LENGTH };
const UNET = {
  sample_size: 4,
  in_channels: 4,
  out_channels: 4,
  down_block_types: ['CrossAttnDownBlock2D', 'DownBlock2D'],
  up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D'],
  block_out_channels: [8, 16],
  layers_per_block: 1,
  norm_num_groups: 4,
  attention_head_dim: 2,
  cross_attention_dim: 16,
};

/**
 * A complete pipeline of the real classes with random weights, 8x8 pictures and about 50,000 parameters: for tests
 * of what is built on pipelines.
 */
export function tinyPipeline(seed = 0, dtype: DType = 'float32'): Pipeline {
  const { vocabulary, merges } = tinyVocabulary();
  const tokenizer = new CLIPTokenizer(fromVocabulary(vocabulary, merges), LENGTHS);
  return pipelineOf(seed, dtype, UNET, tokenizer, textConfig(vocabulary));
}

/** The same of GLIGEN's kind. Its gates are open, unlike those of random weights elsewhere, so that boxes are heard. */
export function tinyGligenPipeline(seed = 0, dtype: DType = 'float32'): Pipeline {
  const { vocabulary, merges } = tinyVocabulary();
  const tokenizer = new CLIPTokenizer(fromVocabulary(vocabulary, merges), LENGTHS);
  const unet = { ...UNET, attention_type: 'gated' as const };
  const pipeline = pipelineOf(seed, dtype, unet, tokenizer, textConfig(vocabulary));
  for (const [name, parameter] of pipeline.parameters.unet.entries)
    if (/\.alpha_(attn|dense)$|\.null_/.test(name)) noGrad(() => parameter.add_(0.5));
  return pipeline;
}

/** The same of Stable Diffusion XL's kind: two text encoders, summary and sizes in the time embedding, no attention on the first level. */
export function tinyXlPipeline(seed = 0, dtype: DType = 'float32'): Pipeline {
  const { vocabulary, merges } = tinyVocabulary();
  const files = fromVocabulary(vocabulary, merges);
  const unet = {
    ...UNET,
    down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D'],
    up_block_types: ['CrossAttnUpBlock2D', 'UpBlock2D'],
    attention_head_dim: [2, 4],
    transformer_layers_per_block: [1, 2],
    use_linear_projection: true,
    cross_attention_dim: 28,
    addition_embed_type: 'text_time' as const,
    addition_time_embed_dim: 4,
    projection_class_embeddings_input_dim: 6 + 6 * 4,
  };
  const text2 = {
    ...textConfig(vocabulary),
    hidden_size: 12,
    intermediate_size: 20,
    num_hidden_layers: 3,
    hidden_act: 'gelu',
    projection_dim: 6,
    pad_token_id: vocabulary['!']!,
  };
  const textEncoder2 = Parameters.random(seed + 3, { dtype });
  const pipeline = pipelineOf(seed, dtype, unet, new CLIPTokenizer(files, LENGTHS), textConfig(vocabulary));
  return {
    ...pipeline,
    textEncoder2: new CLIPTextModelWithProjection(text2, textEncoder2.at()),
    tokenizer2: new CLIPTokenizer(files, { ...LENGTHS, pad_token: '!' }),
    parameters: { ...pipeline.parameters, textEncoder2 },
    forceZerosForEmptyPrompt: true,
  };
}

function tinyVocabulary(): { vocabulary: { [token: string]: number }; merges: string[] } {
  const letters = [...'abcdefghijklmnopqrstuvwxyz0123456789,.!'];
  const merges = ['c a', 'ca t</w>', 'd o', 'do g</w>'];
  const tokens = [...letters, ...letters.map((letter) => `${letter}</w>`), 'ca', 'cat</w>', 'do', 'dog</w>'];
  const ids = [...tokens, '<|startoftext|>', '<|endoftext|>'].map((token, id) => [token, id] as const);
  return { vocabulary: Object.fromEntries(ids), merges };
}

function textConfig(vocabulary: { [token: string]: number }): CLIPTextConfig {
  return {
    vocab_size: Object.keys(vocabulary).length,
    hidden_size: 16,
    intermediate_size: 32,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    max_position_embeddings: LENGTH,
    bos_token_id: vocabulary['<|startoftext|>']!,
    eos_token_id: vocabulary['<|endoftext|>']!,
    pad_token_id: vocabulary['<|endoftext|>']!,
    hidden_act: 'quick_gelu',
  };
}

function pipelineOf(
  seed: number,
  dtype: DType,
  unet: UNet2DConditionConfig,
  tokenizer: CLIPTokenizer,
  text: CLIPTextConfig,
): Pipeline {
  const parameters = {
    unet: Parameters.random(seed, { dtype }),
    vae: Parameters.random(seed + 1, { dtype }),
    textEncoder: Parameters.random(seed + 2, { dtype }),
  };
  const vae = {
    down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D'],
    up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D'],
    block_out_channels: [4, 8],
    norm_num_groups: 4,
    latent_channels: 4,
    sample_size: 8,
    scaling_factor: 0.5,
  };
  return {
    unet: new UNet2DConditionModel(unet, parameters.unet.at()),
    vae: new AutoencoderKL(vae, parameters.vae.at()),
    textEncoder: new CLIPTextModel(text, parameters.textEncoder.at()),
    tokenizer,
    schedulerConfig: {
      _class_name: 'DDIMScheduler',
      num_train_timesteps: 1000,
      beta_start: 0.00085,
      beta_end: 0.012,
      beta_schedule: 'scaled_linear',
      clip_sample: false,
      set_alpha_to_one: false,
      steps_offset: 1,
      prediction_type: 'epsilon',
      timestep_spacing: 'leading',
    },
    parameters,
    defaults: { steps: 4, guidanceScale: 3 },
  };
}
