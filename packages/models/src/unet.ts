import {
  autocast,
  Conv2d,
  type Device,
  type DType,
  GroupNorm,
  type Init,
  type ParameterPath,
  scope,
  shown,
  type Tensor,
  UserError,
} from '@rldf/torch';
import type { GatedSelfAttentionDense } from './attention.js';
import { atOnce, type BlockRunner } from './block-runner.js';
import type { Conditioning, PreparedConditioning } from './conditioning.js';
import { checkFields, unetFields } from './config-fields.js';
import { checkGroups, perLevel, refuseUnsupported, type UNet2DConditionConfig } from './configs.js';
import {
  SizesTimeEmbedding,
  sinusoidalEmbedding,
  TextTimeEmbedding,
  TimestepEmbedding,
} from './embeddings.js';
import { TextBoxProjection } from './grounding.js';
import { type AttentionLevelOptions, DownBlock, MidBlock, UpBlock } from './unet-blocks.js';

const SUPPORTED: { readonly [key: string]: readonly unknown[] } = {
  act_fn: ['silu', 'swish'],
  addition_embed_type: [null, 'text', 'text_time'],
  attention_type: ['default', 'gated'],
  center_input_sample: [false],
  class_embed_type: [null],
  class_embeddings_concat: [false],
  cross_attention_norm: [null],
  downsample_padding: [1, 0],
  dual_cross_attention: [false],
  encoder_hid_dim: [null],
  encoder_hid_dim_type: [null],
  mid_block_scale_factor: [1],
  mid_block_type: ['UNetMidBlock2DCrossAttn'],
  num_attention_heads: [null],
  num_class_embeds: [null],
  resnet_out_scale_factor: [1],
  resnet_skip_time_act: [false],
  resnet_time_scale_shift: ['default', 'scale_shift'],
  reverse_transformer_layers_per_block: [null],
  time_cond_proj_dim: [null],
  time_embedding_act_fn: [null],
  time_embedding_type: ['positional'],
  timestep_post_act: [null],
};

const ATTENTION_BLOCKS: { readonly [type: string]: boolean } = {
  DownBlock2D: false,
  CrossAttnDownBlock2D: true,
  UpBlock2D: false,
  CrossAttnUpBlock2D: true,
};

export interface UNetOptions {
  /** Names the config in error messages. */
  where?: string;
  /**
   * How the layers that end a residual branch begin when the parameters are drawn at random: as torch draws
   * them, or at zero as latent diffusion was trained (Rombach et al. 2022), which starts as the identity.
   */
  residualInit?: 'default' | 'zeros';
}

/**
 * The denoising network of Stable Diffusion 1.x, 2.x (Rombach et al. 2022) and XL (Podell et al. 2023); diffusers' class of this name.
 *
 * Has no dropout: two passes over the same input agree, so the probability ratio before an update is 1.
 */
export class UNet2DConditionModel {
  readonly config: UNet2DConditionConfig;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly #timeChannels: number;
  readonly #convIn: Conv2d;
  readonly #timeEmbedding: TimestepEmbedding;
  /** Of the text, or of its summary and the picture's sizes: added to the time embedding. */
  readonly #addedEmbedding: TextTimeEmbedding | SizesTimeEmbedding | undefined;
  /** Of GLIGEN: what its gated layers read of objects and their places. */
  readonly #positionNet: TextBoxProjection | undefined;
  readonly #downBlocks: DownBlock[] = [];
  readonly #midBlock: MidBlock;
  readonly #upBlocks: UpBlock[] = [];
  readonly #convNormOut: GroupNorm;
  readonly #convOut: Conv2d;
  /** How blocks run in `forward`. */
  blocks: BlockRunner = atOnce;
  /** Narrower than the weights: what products, convolutions and attention compute in, while weights and sums stay as wide. */
  computeType: 'bfloat16' | 'float16' | undefined;

  /** @throws UserError when the config asks for something that is not built, or contradicts itself */
  constructor(config: UNet2DConditionConfig, path: ParameterPath, options: UNetOptions = {}) {
    const where = options.where ?? 'UNet2DConditionModel config';
    refuseUnsupported(where, config, SUPPORTED);
    checkFields(where, config, unetFields);
    const channels = config.block_out_channels ?? [320, 640, 1280, 1280];
    const levels = channels.length;
    const all = <T>(key: string, value: T | readonly T[]) => perLevel(where, key, value, levels);
    const downTypes = all('down_block_types', config.down_block_types ?? DEFAULT_DOWN);
    const upTypes = all('up_block_types', config.up_block_types ?? DEFAULT_UP);
    const layers = all('layers_per_block', config.layers_per_block ?? 2);
    const heads = all('attention_head_dim', config.attention_head_dim ?? 8);
    const crossAttentionDims = all('cross_attention_dim', config.cross_attention_dim ?? 1280);
    const transformerLayers = all('transformer_layers_per_block', config.transformer_layers_per_block ?? 1);
    const onlyCross = all('only_cross_attention', config.only_cross_attention ?? false);
    const groups = config.norm_num_groups ?? 32;
    const eps = config.norm_eps ?? 1e-5;
    checkGroups(where, channels, groups);

    const first = channels[0]!;
    const last = channels[levels - 1]!;
    const timeDim = config.time_embedding_dim ?? 4 * first;
    const inKernel = config.conv_in_kernel ?? 3;
    const outKernel = config.conv_out_kernel ?? 3;
    const outInit: { outInit?: Init } = options.residualInit === 'zeros' ? { outInit: 'zeros' } : {};
    const timeScaleShift = config.resnet_time_scale_shift ?? 'default';
    const common = { timeDim, groups, eps, timeScaleShift, ...outInit };
    const attention = (level: number, onlyCrossAttention: boolean): AttentionLevelOptions => ({
      heads: heads[level]!,
      transformerLayers: transformerLayers[level]!,
      crossAttentionDim: crossAttentionDims[level]!,
      linearProjection: config.use_linear_projection ?? false,
      onlyCrossAttention,
      upcastAttention: config.upcast_attention ?? false,
      gated: config.attention_type === 'gated',
    });

    this.config = config;
    this.inChannels = config.in_channels ?? 4;
    this.outChannels = config.out_channels ?? 4;
    this.#timeChannels = first;
    this.#convIn = new Conv2d(path.at('conv_in'), this.inChannels, first, inKernel, {
      padding: Math.floor((inKernel - 1) / 2),
    });
    this.#timeEmbedding = new TimestepEmbedding(path.at('time_embedding'), first, timeDim);
    if (config.addition_embed_type === 'text') {
      const textDim = crossAttentionDims[0]!;
      const textHeads = config.addition_embed_type_num_heads ?? 64;
      this.#addedEmbedding = new TextTimeEmbedding(path.at('add_embedding'), textDim, timeDim, textHeads);
    }
    if (config.addition_embed_type === 'text_time') {
      this.#addedEmbedding = new SizesTimeEmbedding(path.at('add_embedding'), config, timeDim, where);
    }

    if (config.attention_type === 'gated') {
      const width = crossAttentionDims[0]!;
      this.#positionNet = new TextBoxProjection(path.at('position_net'), width, width);
    }

    for (let level = 0; level < levels; level++) {
      const attends = hasAttention(where, 'down_block_types', downTypes[level]!, 'Down');
      const block = new DownBlock(path.at('down_blocks', level), {
        ...common,
        layers: layers[level]!,
        inChannels: channels[Math.max(level - 1, 0)]!,
        outChannels: channels[level]!,
        downsamplePadding: level === levels - 1 ? null : (config.downsample_padding ?? 1),
        attention: attends ? attention(level, onlyCross[level]!) : null,
      });
      this.#downBlocks.push(block);
    }

    this.#midBlock = new MidBlock(path.at('mid_block'), {
      ...common,
      channels: last,
      attention: attention(levels - 1, false),
    });

    for (let step = 0; step < levels; step++) {
      const level = levels - 1 - step; // the deepest level comes first
      const attends = hasAttention(where, 'up_block_types', upTypes[step]!, 'Up');
      const block = new UpBlock(path.at('up_blocks', step), {
        ...common,
        layers: layers[level]! + 1,
        previousChannels: channels[Math.min(level + 1, levels - 1)]!,
        skipChannels: channels[Math.max(level - 1, 0)]!,
        outChannels: channels[level]!,
        upsample: level > 0,
        attention: attends ? attention(level, onlyCross[level]!) : null,
      });
      this.#upBlocks.push(block);
    }

    this.#convNormOut = new GroupNorm(path.at('conv_norm_out'), groups, first, eps);
    this.#convOut = new Conv2d(path.at('conv_out'), first, this.outChannels, outKernel, {
      padding: Math.floor((outKernel - 1) / 2),
      ...(options.residualInit === 'zeros' ? { init: 'zeros' } : {}),
    });
  }

  /** Whether it can be told objects with their places (GLIGEN). */
  get grounded(): boolean {
    return this.#positionNet !== undefined;
  }

  /** The layers that are told objects with their places, from the input to the output. */
  get gatedLayers(): readonly GatedSelfAttentionDense[] {
    const levels = [...this.#downBlocks, this.#midBlock, ...this.#upBlocks];
    return levels.flatMap(({ attentions }) =>
      attentions.flatMap(({ blocks }) => blocks.flatMap(({ fuser }) => fuser ?? [])),
    );
  }

  /** What it computes in. */
  get dtype(): DType {
    return this.computeType ?? this.#convIn.weight.dtype;
  }

  get device(): Device {
    return this.#convIn.weight.device;
  }

  /**
   * The same conditioning with all that does not depend on the latents or the timestep computed: the keys and values of
   * the text, and what it adds to the time embedding. Differentiable. Made once for a trajectory, it saves time at each
   * step; made before the weights change, it is wrong afterwards.
   *
   * @returns the given tensors and, in `prepared`, new ones: `free(result.prepared)` frees these
   */
  prepare(conditioning: Conditioning): Conditioning {
    const prepared = this.#typed(() =>
      scope(() => {
        const told = this.#withObjects(this.#inOwnType(conditioning));
        const results: PreparedConditioning = new Map();
        if (this.#addedEmbedding) results.set(this.#addedEmbedding, [this.#addedEmbedding.forward(told)]);
        for (const { attentions } of [...this.#downBlocks, this.#midBlock, ...this.#upBlocks]) {
          for (const block of attentions.flatMap(({ blocks }) => blocks)) block.prepare(told, results);
        }
        return results;
      }),
    );
    return { ...conditioning, prepared };
  }

  /**
   * Predicts noise, velocity or sample, as the model was trained.
   *
   * @param latents [B, in_channels, H, W]; any H and W of at least 2^(levels - 1)
   * @param timesteps [B], integral or fractional, in [0, num_train_timesteps)
   * @returns [B, out_channels, H, W] in the dtype of the latents
   */
  forward(latents: Tensor, timesteps: Tensor, conditioning: Conditioning): Tensor {
    if (latents.shape.length !== 4 || latents.shape[1] !== this.inChannels) {
      throw new UserError(
        `UNet2DConditionModel.forward: latents have shape [${latents.shape}] — expected [batch, ` +
          `${this.inChannels}, height, width]. Pass latents of the autoencoder this network was trained with.`,
      );
    }
    return this.#typed(() =>
      scope(() => {
        const { dtype } = this.#convIn.weight;
        const wanted = latents.dtype;
        const plain = this.#inOwnType(conditioning);
        const own = plain.prepared ? plain : this.#withObjects(plain);
        const blocks = this.#runner();
        const sinusoid = sinusoidalEmbedding(timesteps, this.#timeChannels, {
          flipSinToCos: this.config.flip_sin_to_cos ?? true,
          frequencyShift: this.config.freq_shift ?? 0,
        }); // [B, C0]
        let embedding = this.#timeEmbedding.forward(sinusoid.to(dtype)); // [B, timeDim]
        if (this.#addedEmbedding) {
          const [known] = own.prepared?.get(this.#addedEmbedding) ?? [];
          embedding = embedding.add(known ?? this.#addedEmbedding.forward(own));
        }
        const time = blocks.outer(embedding.silu());
        const told = blocks.outer(own);
        const noisy = blocks.outer(latents.to(dtype));

        const skips = [blocks.run(() => this.#convIn.forward(noisy), [noisy])]; // [B, C0, H, W] and what follows
        for (const block of this.#downBlocks)
          skips.push(...block.forward(skips[skips.length - 1]!, time, told, blocks));

        let hidden = this.#midBlock.forward(skips[skips.length - 1]!, time, told, blocks);
        for (const block of this.#upBlocks) {
          const joined = skips.splice(skips.length - block.layers);
          const next = skips[skips.length - 1]?.shape;
          hidden = block.forward(hidden, joined, time, told, next && [next[2]!, next[3]!], blocks);
        }
        const read = hidden;
        const out = () => this.#convOut.forward(this.#convNormOut.forward(read).silu()); // [B, out_channels, H, W]
        return blocks.last(() => out().to(wanted), [read]);
      }),
    );
  }

  #typed<T>(fn: () => T): T {
    return autocast(this.computeType ?? 'float32', fn, this.device === 'cpu' ? 'cpu' : 'cuda');
  }

  /** `blocks`, whose every run is in the type that is computed in. */
  #runner(): BlockRunner {
    const { blocks } = this;
    if (this.computeType === undefined) return blocks;
    return {
      outer: (tree) => blocks.outer(tree),
      run: (block, reads) => blocks.run(() => this.#typed(block), reads),
      last: (block, reads) => blocks.last(() => this.#typed(block), reads),
    };
  }

  #withObjects(conditioning: Conditioning): Conditioning {
    const { grounding } = conditioning;
    if (grounding === undefined) return conditioning;
    if (this.#positionNet !== undefined)
      return { ...conditioning, objects: this.#positionNet.forward(grounding) };
    throw new UserError(
      `UNet2DConditionModel: the conditioning has boxes — this network has no position net (attention_type is ${shown(this.config.attention_type ?? 'default')}). Leave the boxes out, or use a model of GLIGEN's kind.`,
    );
  }

  #inOwnType(conditioning: Conditioning): Conditioning {
    const { dtype } = this.#convIn.weight;
    const { hiddenStates, pooled } = conditioning;
    return {
      ...conditioning,
      hiddenStates: hiddenStates.to(dtype),
      ...(pooled && { pooled: pooled.to(dtype) }),
    };
  }
}

const DEFAULT_DOWN = ['CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'DownBlock2D'];
const DEFAULT_UP = ['UpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'];

function hasAttention(where: string, key: string, type: string, direction: 'Down' | 'Up'): boolean {
  const attends =
    type.includes(direction) && Object.hasOwn(ATTENTION_BLOCKS, type) ? ATTENTION_BLOCKS[type] : undefined;
  if (attends !== undefined) return attends;
  throw new UserError(
    `${where}: ${key} contains ${shown(type)} — not supported yet; supported: "${direction}Block2D" or ` +
      `"CrossAttn${direction}Block2D". Use a model built of these blocks.`,
  );
}
