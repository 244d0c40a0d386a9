import { Conv2d, GroupNorm, type ParameterPath, type StateDict, scope, type Tensor } from '@rldf/torch';
import { Attention } from './attention.js';
import { autoencoderKLFields, checkFields } from './config-fields.js';
import { type AutoencoderKLConfig, checkGroups, perLevel, refuseUnsupported } from './configs.js';
import { Downsample2D, ResnetBlock2D, Upsample2D } from './resnet.js';

const EPS = 1e-6;

const SUPPORTED: { readonly [key: string]: readonly unknown[] } = {
  act_fn: ['silu', 'swish'],
  latents_mean: [null],
  latents_std: [null],
};

/** What the encoder says of a picture: the mean and log-variance of its latents, both [B, latent_channels, h, w]. */
export interface LatentDistribution {
  mean: Tensor;
  logvar: Tensor;
}

/** Picture autoencoder of Stable Diffusion (Rombach et al. 2022; diffusers' class of this name). */
export class AutoencoderKL {
  readonly config: AutoencoderKLConfig;
  readonly latentChannels: number;
  /** Latents of the diffusion model are (encoded - shift) * scalingFactor. */
  readonly scalingFactor: number;
  readonly shiftFactor: number;
  /** Pixels per latent in each direction. */
  readonly downFactor: number;
  readonly #encoder: Encoder;
  readonly #decoder: Decoder;
  readonly #quantConv: Conv2d | undefined;
  readonly #postQuantConv: Conv2d | undefined;

  /** @throws UserError when the config asks for something that is not built, or contradicts itself */
  constructor(config: AutoencoderKLConfig, path: ParameterPath, where = 'AutoencoderKL config') {
    refuseUnsupported(where, config, SUPPORTED);
    checkFields(where, config, autoencoderKLFields);
    const channels = config.block_out_channels ?? [64];
    const groups = config.norm_num_groups ?? 32;
    const latentChannels = config.latent_channels ?? 4;
    const blocks = { channels, groups, layers: config.layers_per_block ?? 1 };
    const attention = config.mid_block_add_attention ?? true;
    checkGroups(where, channels, groups);
    for (const [key, type] of [
      ['down_block_types', 'DownEncoderBlock2D'] as const,
      ['up_block_types', 'UpDecoderBlock2D'] as const,
    ]) {
      for (const name of perLevel(where, key, config[key] ?? type, channels.length)) {
        refuseUnsupported(where, { [key]: name }, { [key]: [type] });
      }
    }

    this.config = config;
    this.latentChannels = latentChannels;
    this.scalingFactor = config.scaling_factor ?? 0.18215;
    this.shiftFactor = config.shift_factor ?? 0;
    this.downFactor = 2 ** (channels.length - 1);
    this.#encoder = new Encoder(path.at('encoder'), {
      ...blocks,
      attention,
      inChannels: config.in_channels ?? 3,
      outChannels: 2 * latentChannels,
    });
    this.#decoder = new Decoder(path.at('decoder'), {
      ...blocks,
      attention,
      inChannels: latentChannels,
      outChannels: config.out_channels ?? 3,
    });
    if (config.use_quant_conv ?? true) {
      this.#quantConv = new Conv2d(path.at('quant_conv'), 2 * latentChannels, 2 * latentChannels, 1);
    }
    if (config.use_post_quant_conv ?? true) {
      this.#postQuantConv = new Conv2d(path.at('post_quant_conv'), latentChannels, latentChannels, 1);
    }
  }

  /**
   * @param images [B, in_channels, H, W] in [-1, 1]; H and W multiples of `downFactor`
   * @returns unscaled; a sample is mean + exp(logvar / 2) * noise
   */
  encode(images: Tensor): LatentDistribution {
    return scope(() => {
      const hidden = this.#encoder.forward(images); // [B, 2 latent_channels, h, w]
      const moments = this.#quantConv ? this.#quantConv.forward(hidden) : hidden;
      const [mean, logvar] = moments.chunk(2, 1) as [Tensor, Tensor];
      return { mean, logvar: logvar.clamp(-30, 20) };
    });
  }

  /**
   * @param latents unscaled, [B, latent_channels, h, w]
   * @returns images [B, out_channels, H, W], about [-1, 1]
   */
  decode(latents: Tensor): Tensor {
    return scope(() =>
      this.#decoder.forward(this.#postQuantConv ? this.#postQuantConv.forward(latents) : latents),
    );
  }

  /** Latents of the diffusion model -> latents of `decode`. */
  unscale(latents: Tensor): Tensor {
    return scope(() => latents.div(this.scalingFactor).add(this.shiftFactor));
  }

  /** Latents of `encode` -> latents of the diffusion model. */
  scale(latents: Tensor): Tensor {
    return scope(() => latents.sub(this.shiftFactor).mul(this.scalingFactor));
  }
}

interface CoderOptions {
  channels: readonly number[];
  layers: number;
  groups: number;
  /** Attention between the two ResNet blocks in the middle. */
  attention: boolean;
  inChannels: number;
  outChannels: number;
}

/** Down blocks, middle, norm, convolution. */
class Encoder {
  readonly #convIn: Conv2d;
  readonly #blocks: { resnets: ResnetBlock2D[]; downsample: Downsample2D | undefined }[];
  readonly #middle: Middle;
  readonly #normOut: GroupNorm;
  readonly #convOut: Conv2d;

  constructor(path: ParameterPath, options: CoderOptions) {
    const { channels, layers, groups, inChannels, outChannels } = options;
    const last = channels[channels.length - 1]!;
    this.#convIn = new Conv2d(path.at('conv_in'), inChannels, channels[0]!, 3, { padding: 1 });
    this.#blocks = channels.map((width, level) => {
      const block = path.at('down_blocks', level);
      return {
        resnets: resnets(block, layers, channels[Math.max(level - 1, 0)]!, width, groups),
        downsample:
          level < channels.length - 1 ? new Downsample2D(block.at('downsamplers', 0), width, 0) : undefined,
      };
    });
    this.#middle = new Middle(path.at('mid_block'), last, groups, options.attention);
    this.#normOut = new GroupNorm(path.at('conv_norm_out'), groups, last, EPS);
    this.#convOut = new Conv2d(path.at('conv_out'), last, outChannels, 3, { padding: 1 });
  }

  /** [B, inChannels, H, W] -> [B, outChannels, h, w] */
  forward(images: Tensor): Tensor {
    let hidden = this.#convIn.forward(images);
    for (const { resnets, downsample } of this.#blocks) {
      for (const resnet of resnets) hidden = resnet.forward(hidden);
      if (downsample) hidden = downsample.forward(hidden);
    }
    hidden = this.#middle.forward(hidden);
    return this.#convOut.forward(this.#normOut.forward(hidden).silu());
  }
}

/** Middle, up blocks (one ResNet block more than the encoder's), norm, convolution. */
class Decoder {
  readonly #convIn: Conv2d;
  readonly #middle: Middle;
  readonly #blocks: { resnets: ResnetBlock2D[]; upsample: Upsample2D | undefined }[];
  readonly #normOut: GroupNorm;
  readonly #convOut: Conv2d;

  constructor(path: ParameterPath, options: CoderOptions) {
    const { layers, groups, inChannels, outChannels } = options;
    const channels = [...options.channels].reverse(); // the deepest level comes first
    const last = channels[channels.length - 1]!;
    this.#convIn = new Conv2d(path.at('conv_in'), inChannels, channels[0]!, 3, { padding: 1 });
    this.#middle = new Middle(path.at('mid_block'), channels[0]!, groups, options.attention);
    this.#blocks = channels.map((width, step) => {
      const block = path.at('up_blocks', step);
      return {
        resnets: resnets(block, layers + 1, channels[Math.max(step - 1, 0)]!, width, groups),
        upsample: step < channels.length - 1 ? new Upsample2D(block.at('upsamplers', 0), width) : undefined,
      };
    });
    this.#normOut = new GroupNorm(path.at('conv_norm_out'), groups, last, EPS);
    this.#convOut = new Conv2d(path.at('conv_out'), last, outChannels, 3, { padding: 1 });
  }

  /** [B, inChannels, h, w] -> [B, outChannels, H, W] */
  forward(latents: Tensor): Tensor {
    let hidden = this.#middle.forward(this.#convIn.forward(latents));
    const layers = this.#blocks.flatMap(({ resnets, upsample }) => [
      ...resnets,
      ...(upsample ? [upsample] : []),
    ]);
    for (const layer of layers) {
      const next = layer.forward(hidden);
      hidden.free(); // the last maps are as large as pictures of 256 channels
      hidden = next;
    }
    return this.#convOut.forward(this.#normOut.forward(hidden).silu());
  }
}

/** ResNet block, one-headed attention over the pixels if wanted, ResNet block. */
class Middle {
  readonly #resnets: ResnetBlock2D[];
  readonly #norm: GroupNorm | undefined;
  readonly #attention: Attention | undefined;

  constructor(path: ParameterPath, channels: number, groups: number, attention: boolean) {
    this.#resnets = resnets(path, 2, channels, channels, groups);
    if (!attention) return;
    const attentionPath = path.at('attentions', 0);
    this.#norm = new GroupNorm(attentionPath.at('group_norm'), groups, channels, EPS);
    this.#attention = new Attention(attentionPath, {
      queryDim: channels,
      heads: 1,
      headDim: channels,
      bias: true,
    });
  }

  /** [B, C, H, W] -> [B, C, H, W] */
  forward(x: Tensor): Tensor {
    const hidden = this.#resnets[0]!.forward(x);
    return this.#resnets[1]!.forward(this.#attend(hidden));
  }

  #attend(x: Tensor): Tensor {
    if (!this.#norm || !this.#attention) return x;
    const sequence = this.#norm.forward(x).flatten(2).transpose(1, 2); // [B, HW, C]
    return this.#attention.forward(sequence).transpose(1, 2).reshape(x.shape).add(x);
  }
}

function resnets(
  path: ParameterPath,
  count: number,
  inChannels: number,
  outChannels: number,
  groups: number,
): ResnetBlock2D[] {
  return Array.from({ length: count }, (_, layer) => {
    const shape = { inChannels: layer === 0 ? inChannels : outChannels, outChannels };
    return new ResnetBlock2D(path.at('resnets', layer), { ...shape, timeDim: null, groups, eps: EPS });
  });
}

const OLD_ATTENTION_NAMES: { readonly [old: string]: string } = {
  query: 'to_q',
  key: 'to_k',
  value: 'to_v',
  proj_attn: 'to_out.0',
};

/** Weights under the attention names of diffusers before 0.15 (`query`, ..., `proj_attn`) -> today's names. */
export function renameOldAttention(state: StateDict): StateDict {
  const pattern = /(\.attentions\.\d+\.)(query|key|value|proj_attn)\./;
  return new Map(
    [...state].map(([name, tensor]) => [
      name.replace(pattern, (_, prefix: string, old: string) => `${prefix}${OLD_ATTENTION_NAMES[old]}.`),
      tensor,
    ]),
  );
}
