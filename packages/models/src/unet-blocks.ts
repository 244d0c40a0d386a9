import { cat, type Init, type ParameterPath, scope, type Tensor } from '@rldf/torch';
import { atOnce, type BlockRunner } from './block-runner.js';
import type { Conditioning } from './conditioning.js';
import { Downsample2D, ResnetBlock2D, Upsample2D } from './resnet.js';
import { Transformer2DModel } from './transformer-2d.js';

/** What the blocks of one level share. */
export interface LevelOptions {
  /** ResNet blocks (and transformers) in this block. */
  layers: number;
  timeDim: number;
  groups: number;
  eps: number;
  /** Absent in the blocks without attention (`DownBlock2D`, `UpBlock2D`). */
  attention: AttentionLevelOptions | null;
  timeScaleShift: 'default' | 'scale_shift';
  /** Init of what ends a residual branch. */
  outInit?: Init;
}

export interface AttentionLevelOptions {
  heads: number;
  transformerLayers: number;
  crossAttentionDim: number;
  linearProjection: boolean;
  onlyCrossAttention: boolean;
  upcastAttention: boolean;
  /** Whether grounded objects are read (GLIGEN). */
  gated: boolean;
}

/** `DownBlock2D` and `CrossAttnDownBlock2D`: ResNet blocks with or without transformers, then halving. */
export class DownBlock {
  readonly #resnets: ResnetBlock2D[];
  readonly attentions: readonly Transformer2DModel[];
  readonly #downsample: Downsample2D | undefined;

  constructor(
    path: ParameterPath,
    options: LevelOptions & { inChannels: number; outChannels: number; downsamplePadding: number | null },
  ) {
    const { inChannels, outChannels, downsamplePadding } = options;
    this.#resnets = resnets(path, options, (layer) => (layer === 0 ? inChannels : outChannels), outChannels);
    this.attentions = transformers(path, options, options.layers, outChannels);
    if (downsamplePadding !== null) {
      this.#downsample = new Downsample2D(path.at('downsamplers', 0), outChannels, downsamplePadding);
    }
  }

  /** @returns the outputs of every layer in order, all kept for the skip connections; the last is the result */
  forward(
    x: Tensor,
    activatedTime: Tensor,
    conditioning: Conditioning,
    blocks: BlockRunner = atOnce,
  ): Tensor[] {
    return scope(() => {
      const outputs: Tensor[] = [];
      let hidden = x; // [B, C, H, W]
      for (const [layer, resnet] of this.#resnets.entries()) {
        const read = hidden;
        hidden = blocks.run(() => resnet.forward(read, activatedTime), [read]);
        hidden = this.attentions[layer]?.forward(hidden, conditioning, blocks) ?? hidden;
        outputs.push(hidden);
      }
      const read = hidden;
      const downsample = this.#downsample;
      if (downsample) outputs.push(blocks.run(() => downsample.forward(read), [read])); // [B, C, H/2, W/2]
      return outputs;
    });
  }
}

/** `UNetMidBlock2DCrossAttn`: ResNet block, transformer, ResNet block. */
export class MidBlock {
  readonly #resnets: ResnetBlock2D[];
  readonly attentions: readonly Transformer2DModel[];

  constructor(path: ParameterPath, options: Omit<LevelOptions, 'layers'> & { channels: number }) {
    const { channels } = options;
    this.#resnets = resnets(path, { ...options, layers: 2 }, () => channels, channels);
    this.attentions = transformers(path, options, 1, channels);
  }

  /** [B, C, H, W] -> [B, C, H, W] */
  forward(
    x: Tensor,
    activatedTime: Tensor,
    conditioning: Conditioning,
    blocks: BlockRunner = atOnce,
  ): Tensor {
    return scope(() => {
      const [first, second] = this.#resnets as [ResnetBlock2D, ResnetBlock2D];
      const hidden = blocks.run(() => first.forward(x, activatedTime), [x]);
      const attended = this.attentions[0]!.forward(hidden, conditioning, blocks);
      return blocks.run(() => second.forward(attended, activatedTime), [attended]);
    });
  }
}

/** `UpBlock2D` and `CrossAttnUpBlock2D`: each layer joins one skip connection, then doubling. */
export class UpBlock {
  /** How many skip connections the block takes. */
  readonly layers: number;
  readonly #resnets: ResnetBlock2D[];
  readonly attentions: readonly Transformer2DModel[];
  readonly #upsample: Upsample2D | undefined;

  /**
   * @param options `previousChannels`: of the block below; `skipChannels`: of the last skip connection, which
   *   comes from the level above; all other skips have `outChannels`
   */
  constructor(
    path: ParameterPath,
    options: LevelOptions & {
      previousChannels: number;
      skipChannels: number;
      outChannels: number;
      upsample: boolean;
    },
  ) {
    const { layers, previousChannels, skipChannels, outChannels, upsample } = options;
    const inChannels = (layer: number) =>
      (layer === 0 ? previousChannels : outChannels) + (layer === layers - 1 ? skipChannels : outChannels);
    this.layers = layers;
    this.#resnets = resnets(path, options, inChannels, outChannels);
    this.attentions = transformers(path, options, layers, outChannels);
    if (upsample) this.#upsample = new Upsample2D(path.at('upsamplers', 0), outChannels);
  }

  /**
   * @param x [B, C, H, W]
   * @param skips as many as `layers`, the first to be joined last (the order in which they were made)
   * @param size of the next level's skip connections: odd sizes do not survive halving and doubling
   * @returns [B, C, ...size]
   */
  forward(
    x: Tensor,
    skips: readonly Tensor[],
    activatedTime: Tensor,
    conditioning: Conditioning,
    size?: readonly [number, number],
    blocks: BlockRunner = atOnce,
  ): Tensor {
    return scope(() => {
      let hidden = x;
      for (const [layer, resnet] of this.#resnets.entries()) {
        const skip = skips[skips.length - 1 - layer]!;
        const read = hidden;
        const joined = () => resnet.forward(cat([read, skip], 1), activatedTime);
        hidden = blocks.run(joined, [read, skip]);
        hidden = this.attentions[layer]?.forward(hidden, conditioning, blocks) ?? hidden;
      }
      const read = hidden;
      const upsample = this.#upsample;
      return upsample ? blocks.run(() => upsample.forward(read, size), [read]) : hidden;
    });
  }
}

function resnets(
  path: ParameterPath,
  options: LevelOptions,
  inChannels: (layer: number) => number,
  outChannels: number,
): ResnetBlock2D[] {
  const { layers, timeDim, groups, eps, timeScaleShift, outInit } = options;
  return Array.from({ length: layers }, (_, layer) => {
    const shape = { inChannels: inChannels(layer), outChannels, timeDim, groups, eps, timeScaleShift };
    return new ResnetBlock2D(path.at('resnets', layer), outInit ? { ...shape, outInit } : shape);
  });
}

function transformers(
  path: ParameterPath,
  options: Omit<LevelOptions, 'layers'>,
  count: number,
  channels: number,
): Transformer2DModel[] {
  const { attention, groups, outInit } = options;
  if (attention === null) return [];
  const shape = { ...attention, channels, layers: attention.transformerLayers, normGroups: groups };
  return Array.from(
    { length: count },
    (_, layer) =>
      new Transformer2DModel(path.at('attentions', layer), outInit ? { ...shape, outInit } : shape),
  );
}
