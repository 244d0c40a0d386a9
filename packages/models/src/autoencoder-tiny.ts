import { Conv2d, F, type ParameterPath, scope, type Tensor } from '@rldf/torch';
import { autoencoderTinyFields, checkFields } from './config-fields.js';
import { type AutoencoderTinyConfig, perLevel, refuseUnsupported } from './configs.js';

const SUPPORTED: { readonly [key: string]: readonly unknown[] } = {
  act_fn: ['relu'],
  upsample_fn: ['nearest'],
  upsampling_scaling_factor: [2],
};

type Layer = (x: Tensor) => Tensor;

/** Small deterministic autoencoder of plain convolutions (TAESD; diffusers' class of this name). */
export class AutoencoderTiny {
  readonly config: AutoencoderTinyConfig;
  readonly latentChannels: number;
  readonly scalingFactor: number;
  readonly shiftFactor: number;
  /** Pixels per latent in each direction. */
  readonly downFactor: number;
  readonly #encoder: Layer[];
  readonly #decoder: Layer[];

  /** @throws UserError when the config asks for something that is not built */
  constructor(config: AutoencoderTinyConfig, path: ParameterPath, where = 'AutoencoderTiny config') {
    refuseUnsupported(where, config, SUPPORTED);
    checkFields(where, config, autoencoderTinyFields);
    const encoderBlocks = config.num_encoder_blocks ?? [1, 3, 3, 3];
    const decoderBlocks = config.num_decoder_blocks ?? [3, 3, 3, 1];
    const usual = [64, 64, 64, 64];
    perLevel(
      where,
      'encoder_block_out_channels',
      config.encoder_block_out_channels ?? usual,
      encoderBlocks.length,
    );
    perLevel(
      where,
      'decoder_block_out_channels',
      config.decoder_block_out_channels ?? usual,
      decoderBlocks.length,
    );
    this.config = config;
    this.latentChannels = config.latent_channels ?? 4;
    this.scalingFactor = config.scaling_factor ?? 1;
    this.shiftFactor = config.shift_factor ?? 0;
    this.downFactor = 2 ** (encoderBlocks.length - 1);
    this.#encoder = encoderLayers(path.at('encoder', 'layers'), config, encoderBlocks, this.latentChannels);
    this.#decoder = decoderLayers(path.at('decoder', 'layers'), config, this.latentChannels);
  }

  /** images [B, in_channels, H, W] in [-1, 1] -> latents [B, latent_channels, h, w] */
  encode(images: Tensor): Tensor {
    return scope(() => this.#encoder.reduce((x, layer) => layer(x), images.add(1).div(2)));
  }

  /** latents [B, latent_channels, h, w] -> images [B, out_channels, H, W], about [-1, 1] */
  decode(latents: Tensor): Tensor {
    return scope(() => {
      const bounded = latents.div(3).tanh().mul(3);
      return this.#decoder
        .reduce((x, layer) => layer(x), bounded)
        .mul(2)
        .sub(1);
    });
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

function encoderLayers(
  path: ParameterPath,
  config: AutoencoderTinyConfig,
  blocks: readonly number[],
  latentChannels: number,
): Layer[] {
  const widths = config.encoder_block_out_channels ?? [64, 64, 64, 64];
  const layers: Layer[] = [];
  const add = (make: (at: ParameterPath) => Layer) => layers.push(make(path.at(layers.length)));
  for (const [level, count] of blocks.entries()) {
    const width = widths[level]!;
    if (level === 0) add((at) => convolution(at, config.in_channels ?? 3, width));
    else add((at) => convolution(at, width, width, { stride: 2, bias: false }));
    for (let block = 0; block < count; block++) add((at) => tinyBlock(at, width));
  }
  add((at) => convolution(at, widths[widths.length - 1]!, latentChannels));
  return layers;
}

function decoderLayers(path: ParameterPath, config: AutoencoderTinyConfig, latentChannels: number): Layer[] {
  const widths = config.decoder_block_out_channels ?? [64, 64, 64, 64];
  const blocks = config.num_decoder_blocks ?? [3, 3, 3, 1];
  const layers: Layer[] = [];
  const add = (make: (at: ParameterPath) => Layer) => layers.push(make(path.at(layers.length)));
  add((at) => convolution(at, latentChannels, widths[0]!));
  add(() => (x) => x.relu());
  for (const [level, count] of blocks.entries()) {
    const width = widths[level]!;
    const final = level === blocks.length - 1;
    for (let block = 0; block < count; block++) add((at) => tinyBlock(at, width));
    if (!final) add(() => (x) => F.interpolateNearest(x, [2 * x.shape[2]!, 2 * x.shape[3]!]));
    add((at) => convolution(at, width, final ? (config.out_channels ?? 3) : width, { bias: final }));
  }
  return layers;
}

function convolution(
  path: ParameterPath,
  inChannels: number,
  outChannels: number,
  options: { stride?: number; bias?: boolean } = {},
): Layer {
  const conv = new Conv2d(path, inChannels, outChannels, 3, { padding: 1, ...options });
  return (x) => conv.forward(x);
}

/** Three convolutions with ReLU between, added to the input, ReLU. */
function tinyBlock(path: ParameterPath, width: number): Layer {
  const [first, second, third] = [0, 2, 4].map((index) =>
    convolution(path.at('conv', index), width, width),
  ) as [Layer, Layer, Layer];
  return (x) =>
    scope(() =>
      third(second(first(x).relu()).relu())
        .add(x)
        .relu(),
    );
}
