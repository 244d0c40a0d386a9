import { Conv2d, GroupNorm, type Init, Linear, type ParameterPath, scope, type Tensor } from '@rldf/torch';
import { BasicTransformerBlock } from './attention.js';
import { atOnce, type BlockRunner } from './block-runner.js';
import type { Conditioning } from './conditioning.js';

export interface Transformer2DOptions {
  channels: number;
  heads: number;
  layers: number;
  crossAttentionDim: number;
  normGroups: number;
  /** Projects in and out by linear layers on [B, HW, C] (SD 2.x) instead of 1x1 convolutions (SD 1.x). */
  linearProjection: boolean;
  onlyCrossAttention: boolean;
  upcastAttention: boolean;
  gated: boolean;
  /** Of the output projection, which ends a residual branch. */
  outInit?: Init;
}

/** Transformer over the pixels of a feature map, attending to the text; added to its input. */
export class Transformer2DModel {
  readonly #linearProjection: boolean;
  readonly #innerDim: number;
  readonly #norm: GroupNorm;
  readonly #projectIn: Linear | Conv2d;
  readonly blocks: readonly BasicTransformerBlock[];
  readonly #projectOut: Linear | Conv2d;

  constructor(path: ParameterPath, options: Transformer2DOptions) {
    const { channels, heads, linearProjection } = options;
    const headDim = Math.floor(channels / heads);
    const innerDim = heads * headDim;
    const outInit = options.outInit ? { init: options.outInit } : {};
    this.#linearProjection = linearProjection;
    this.#innerDim = innerDim;
    this.#norm = new GroupNorm(path.at('norm'), options.normGroups, channels, 1e-6);
    this.#projectIn = linearProjection
      ? new Linear(path.at('proj_in'), channels, innerDim)
      : new Conv2d(path.at('proj_in'), channels, innerDim, 1);
    this.blocks = Array.from(
      { length: options.layers },
      (_, layer) =>
        new BasicTransformerBlock(path.at('transformer_blocks', layer), {
          ...options,
          dim: innerDim,
          headDim,
        }),
    );
    this.#projectOut = linearProjection
      ? new Linear(path.at('proj_out'), innerDim, channels, outInit)
      : new Conv2d(path.at('proj_out'), innerDim, channels, 1, outInit);
  }

  /** [B, C, H, W] -> [B, C, H, W] */
  forward(x: Tensor, conditioning: Conditioning, blocks: BlockRunner = atOnce): Tensor {
    return scope(() => {
      const [batch, channels, height, width] = x.shape as [number, number, number, number];
      const toSequence = (map: Tensor) =>
        map.permute([0, 2, 3, 1]).reshape([batch, height * width, map.shape[1]!]); // [B, HW, C]
      const toMap = (sequence: Tensor, depth: number) =>
        sequence.reshape([batch, height, width, depth]).permute([0, 3, 1, 2]); // [B, C, H, W]

      const enter = () => {
        const normed = this.#norm.forward(x);
        return this.#linearProjection
          ? this.#projectIn.forward(toSequence(normed))
          : toSequence(this.#projectIn.forward(normed)); // [B, HW, innerDim]
      };
      let hidden = blocks.run(enter, [x]);
      for (const block of this.blocks) {
        const read = hidden;
        hidden = blocks.run(() => block.forward(read, conditioning), [read]);
      }
      const read = hidden;
      const leave = () => {
        const out = this.#linearProjection
          ? toMap(this.#projectOut.forward(read), channels)
          : this.#projectOut.forward(toMap(read, this.#innerDim));
        return out.add(x);
      };
      return blocks.run(leave, [read, x]);
    });
  }
}
