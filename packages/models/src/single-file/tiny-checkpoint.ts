import { type DType, noGrad, noiseKey, normal, Parameters, scope } from '@rldf/torch';
import { AutoencoderKL } from '../autoencoder-kl.js';
import { CLIPTextModel, CLIPTextModelWithProjection } from '../clip-text.js';
import { clipTokenizer } from '../clip-vocabulary.js';
import type { UNet2DConditionConfig } from '../configs.js';
import type { Pipeline } from '../pipeline.js';
import { UNet2DConditionModel } from '../unet.js';
import { type Kind, schedulerConfig } from './config.js';

/**
 * A pipeline as small as a single file can say (the names leave out groups of norms and sizes of heads, so these are Stable
 * Diffusion's), with CLIP's vocabulary and random weights: for tests of what reads and writes such files.
 */
export function tinyCheckpoint(kind: Kind, seed = 0, dtype: DType = 'float32'): Pipeline {
  const random = (which: number) => Parameters.random(seed + which, { dtype });
  const parameters: Pipeline['parameters'] = { unet: random(0), vae: random(1), textEncoder: random(2) };
  const xl = kind === 'xl';
  const heads = kind === 'sd1' ? 8 : [1, 1];
  const unet: UNet2DConditionConfig = {
    sample_size: xl ? 128 : 64,
    in_channels: 4,
    out_channels: 4,
    down_block_types: xl ? ['DownBlock2D', 'CrossAttnDownBlock2D'] : ['CrossAttnDownBlock2D', 'DownBlock2D'],
    up_block_types: xl ? ['CrossAttnUpBlock2D', 'UpBlock2D'] : ['UpBlock2D', 'CrossAttnUpBlock2D'],
    block_out_channels: [32, 64],
    layers_per_block: 2,
    cross_attention_dim: xl ? 80 : 32,
    transformer_layers_per_block: xl ? [1, 2] : 1,
    attention_head_dim: heads,
    use_linear_projection: kind !== 'sd1',
    ...(xl && {
      addition_embed_type: 'text_time',
      addition_time_embed_dim: 8,
      projection_class_embeddings_input_dim: 24 + 6 * 8,
    }),
  };
  const vae = {
    down_block_types: ['DownEncoderBlock2D', 'DownEncoderBlock2D'],
    up_block_types: ['UpDecoderBlock2D', 'UpDecoderBlock2D'],
    block_out_channels: [32, 64],
    layers_per_block: 1,
    latent_channels: 4,
    sample_size: xl ? 1024 : 512,
    scaling_factor: xl ? 0.13025 : 0.18215,
    ...(xl && { force_upcast: true }),
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
    hidden_act: kind === 'sd2' ? 'gelu' : 'quick_gelu',
  };
  const pipeline: Pipeline = {
    unet: new UNet2DConditionModel(unet, parameters.unet.at()),
    vae: new AutoencoderKL(vae, parameters.vae.at()),
    textEncoder: new CLIPTextModel(text, parameters.textEncoder.at()),
    tokenizer: clipTokenizer(kind === 'sd2' ? '!' : '<|endoftext|>'),
    schedulerConfig: schedulerConfig(kind, false, false),
    parameters,
    defaults: {},
  };
  if (xl) {
    parameters.textEncoder2 = random(3);
    const second = { ...text, hidden_size: 48, num_hidden_layers: 3, hidden_act: 'gelu', projection_dim: 24 };
    pipeline.textEncoder2 = new CLIPTextModelWithProjection(second, parameters.textEncoder2.at());
    pipeline.tokenizer2 = clipTokenizer('!');
    pipeline.forceZerosForEmptyPrompt = true;
  }
  shake(seed, { ...parameters });
  return pipeline;
}

/** Biases and norms begin as zeros and ones, among which nothing could be told that is in the wrong place. */
function shake(seed: number, networks: { [name: string]: Parameters | undefined }): void {
  noGrad(() =>
    scope(() => {
      for (const [network, parameters] of Object.entries(networks)) {
        for (const [name, tensor] of parameters?.entries ?? []) {
          const key = noiseKey(seed, `${network} ${name}`);
          tensor.add_(normal([key], tensor.shape, { dtype: tensor.dtype }).squeeze(0), 0.02);
        }
      }
    }),
  );
}
