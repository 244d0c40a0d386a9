import { type DType, Parameters } from '@rldf/torch';
import { AutoencoderKL } from '../autoencoder-kl.js';
import { CLIPTextModel } from '../clip-text.js';
import { clipTokenizer } from '../clip-vocabulary.js';
import type { Pipeline } from '../pipeline.js';
import { UNet2DConditionModel } from '../unet.js';
import { schedulerConfig } from './config.js';

/**
 * A pipeline as small as a single file can say (the names leave out groups of norms and sizes of heads, so these are Stable
 * Diffusion's), with CLIP's vocabulary and random weights: for tests of what reads and writes such files.
 */
export function tinyCheckpoint(kind: 'sd1' | 'sd2', seed = 0, dtype: DType = 'float32'): Pipeline {
  const parameters = {
    unet: Parameters.random(seed, { dtype }),
    vae: Parameters.random(seed + 1, { dtype }),
    textEncoder: Parameters.random(seed + 2, { dtype }),
  };
  const first = kind === 'sd1';
  const unet = {
    sample_size: 64,
    in_channels: 4,
    out_channels: 4,
    down_block_types: ['CrossAttnDownBlock2D', 'DownBlock2D'],
    up_block_types: ['UpBlock2D', 'CrossAttnUpBlock2D'],
    block_out_channels: first ? [32, 64] : [64, 128],
    layers_per_block: 2,
    cross_attention_dim: 32,
    attention_head_dim: first ? 8 : [1, 2],
    use_linear_projection: !first,
  };
  const vae = {
    down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D'],
    up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D'],
    block_out_channels: [32, 64],
    layers_per_block: 1,
    latent_channels: 4,
    sample_size: 512,
    scaling_factor: 0.18215,
  };
  const text = {
    vocab_size: 49408,
    hidden_size: 32,
    intermediate_size: 64,
    num_hidden_layers: 2,
    num_attention_heads: 1,
    max_position_embeddings: 77,
    bos_token_id: 0,
    eos_token_id: 2,
    pad_token_id: 1,
    hidden_act: first ? 'quick_gelu' : 'gelu',
  };
  return {
    unet: new UNet2DConditionModel(unet, parameters.unet.at()),
    vae: new AutoencoderKL(vae, parameters.vae.at()),
    textEncoder: new CLIPTextModel(text, parameters.textEncoder.at()),
    tokenizer: clipTokenizer(first ? '<|endoftext|>' : '!'),
    schedulerConfig: schedulerConfig(kind, false, false),
    parameters,
    defaults: {},
  };
}
