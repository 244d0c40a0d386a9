/**
 * The configurations of a single-file checkpoint, which holds tensors only: read off their names and shapes, and for what these
 * do not say (heads, activations, the VAE's scale, the noise schedule) taken from the kind of model.
 */

import { shown, UserError } from '@rldf/torch';
import type {
  AutoencoderKLConfig,
  CLIPTextConfig,
  SchedulerConfig,
  UNet2DConditionConfig,
} from '../configs.js';

/** Stable Diffusion 1.x, 2.x and XL. */
export type Kind = 'sd1' | 'sd2' | 'xl';
/** Shapes of all tensors by their names in the file. */
export type Shapes = ReadonlyMap<string, readonly number[]>;

export const UNET = 'model.diffusion_model.';
export const VAE = 'first_stage_model.';
/** Where each kind keeps its text encoders; `open_clip` names its layers otherwise than transformers does. */
export const TEXT: { readonly [kind in Kind]: readonly { prefix: string; openClip: boolean }[] } = {
  sd1: [{ prefix: 'cond_stage_model.transformer.', openClip: false }],
  sd2: [{ prefix: 'cond_stage_model.model.', openClip: true }],
  xl: [
    { prefix: 'conditioner.embedders.0.transformer.', openClip: false },
    { prefix: 'conditioner.embedders.1.model.', openClip: true },
  ],
};

export const KINDS: { readonly [kind in Kind]: string } = {
  sd1: 'Stable Diffusion 1.x',
  sd2: 'Stable Diffusion 2.x',
  xl: 'Stable Diffusion XL',
};

/** What else lies in safetensors files, by a name that only these have. */
const OTHERS: readonly (readonly [name: RegExp, what: string, instead: string])[] = [
  [
    /\.?(lora_(up|down|A|B|mid)|lora\.(up|down)|hada_w1_a|lokr_w1|dora_scale)(\.|$)/,
    'an adapter',
    'Give it as an adapter, on the model it was trained on',
  ],
  [
    /^(model\.diffusion_model\.)?(double_blocks|single_blocks|joint_blocks|transformer_blocks|layers)\.\d+\./,
    'a diffusion transformer (Stable Diffusion 3, FLUX and the like)',
    'Use Stable Diffusion 1.x, 2.x or XL',
  ],
  [/^model\.diffusion_model\.position_net\./, 'a GLIGEN checkpoint', 'Use its folder in diffusers layout'],
  [/^edm_mean$/, 'Playground 2.5, trained in EDM’s formulation', 'Use Stable Diffusion 1.x, 2.x or XL'],
  [/^conditioner\.embedders\.0\.model\./, 'the refiner of Stable Diffusion XL', 'Use the base model'],
  [/^(control_model\.|controlnet_|input_hint_block)/, 'a ControlNet', 'Use the model that it controls'],
  [/string_to_param|^(emb_params|clip_[lg])$/, 'a textual inversion', 'Use a model'],
  [
    /^(down_blocks|up_blocks|mid_block)\./,
    'the U-Net of a folder in diffusers layout',
    'Give the whole folder, with model_index.json',
  ],
  [/^(module\.)?(motion_modules|.*\.motion_modules\.)/, 'AnimateDiff’s motion modules', 'Use a model'],
];

/** By the number of channels that the U-Net reads. */
const BY_CHANNELS: { readonly [channels: number]: string } = {
  5: 'a depth-conditioned model',
  7: 'an upscaler',
  8: 'InstructPix2Pix',
  9: 'an inpainting model',
};

/** @throws UserError naming what the file is instead, or what is missing in it */
export function kindOf(file: string, shapes: Shapes): Kind {
  const refuse = (what: string, instead: string) =>
    new UserError(
      `${file}: ${what} — a single file holds a whole Stable Diffusion 1.x, 2.x or XL under their first names (model.diffusion_model., first_stage_model., cond_stage_model. or conditioner.). ${instead}.`,
    );
  const names = [...shapes.keys()];
  const hasUNet = names.some((name) => name.startsWith(UNET));
  for (const [pattern, what, instead] of OTHERS) {
    if (names.some((name) => pattern.test(name))) throw refuse(`is ${what}`, instead);
  }
  const conv = shapes.get(`${UNET}input_blocks.0.0.weight`);
  const other = BY_CHANNELS[conv?.[1] ?? 0];
  if (other !== undefined)
    throw refuse(`is ${other} (its U-Net reads ${conv?.[1]} channels)`, 'Use a text-to-image model');
  const kinds = Object.entries(TEXT) as [Kind, (typeof TEXT)[Kind]][];
  const found = kinds.find(([, towers]) =>
    towers.every(({ prefix }) => names.some((name) => name.startsWith(prefix))),
  );
  if (hasUNet && found !== undefined) return found[0];
  if (hasUNet) {
    const half = names.some((name) => name.startsWith(TEXT.xl[0]!.prefix));
    throw refuse(
      half
        ? 'the second text encoder (conditioner.embedders.1.) is missing'
        : 'there is no text encoder in it',
      'Use a checkpoint that holds all parts',
    );
  }
  if (names.some((name) => /^(first_stage_model\.)?(encoder|decoder)\.(conv_in|down|up|mid)/.test(name)))
    throw refuse(
      'holds a VAE only',
      'Beside a checkpoint NAME.safetensors without one, it is read as NAME.vae.safetensors',
    );
  if (names.some((name) => /^input_blocks\./.test(name)))
    throw refuse('holds a U-Net only, without text encoder and VAE', 'Use a checkpoint that holds all parts');
  throw refuse(
    `its first tensor is called ${shown(names[0])}, which no part of a model has`,
    'Use such a checkpoint',
  );
}

/** How many entries `PREFIX0.`, `PREFIX1.`, ... there are. */
function count(shapes: Shapes, prefix: string): number {
  const starts = new Set<string>();
  for (const name of shapes.keys()) {
    if (name.startsWith(prefix)) starts.add(/^\d+/.exec(name.slice(prefix.length))?.[0] ?? '');
  }
  starts.delete('');
  return starts.size;
}

function shapeOf(file: string, shapes: Shapes, name: string): readonly number[] {
  const shape = shapes.get(name);
  if (shape !== undefined && shape.length > 0) return shape;
  throw new UserError(
    `${file}: tensor "${name}" is missing — the file is incomplete, or of another kind. Use a checkpoint that holds all parts.`,
  );
}

const same = <T>(list: readonly T[]): T | readonly T[] =>
  list.every((item) => item === list[0]) ? list[0]! : list;

/** @param at the U-Net's prefix in the file */
export function unetConfig(
  file: string,
  shapes: Shapes,
  kind: Kind,
  velocity: boolean,
): UNet2DConditionConfig {
  const shape = (name: string) => shapeOf(file, shapes, `${UNET}${name}`);
  const has = (name: string) => shapes.has(`${UNET}${name}`);
  const inputs = count(shapes, `${UNET}input_blocks.`);
  const samplings = Array.from({ length: inputs }, (_, i) => i).filter((i) =>
    has(`input_blocks.${i}.0.op.weight`),
  );
  const levels = samplings.length + 1;
  const layers = (samplings[0] ?? inputs) - 1;
  const firsts = Array.from({ length: levels }, (_, level) => level * (layers + 1) + 1);
  const channels = firsts.map((block) => shape(`input_blocks.${block}.0.out_layers.3.weight`)[0]!);
  const attends = firsts.map((block) => has(`input_blocks.${block}.1.norm.weight`));
  const middle = count(shapes, `${UNET}middle_block.1.transformer_blocks.`);
  const depths = firsts.map((block, level) =>
    attends[level]
      ? count(shapes, `${UNET}input_blocks.${block}.1.transformer_blocks.`)
      : level === levels - 1
        ? middle
        : 1,
  );
  const [, inChannels] = shape('input_blocks.0.0.weight');
  const linear = shape('middle_block.1.proj_in.weight').length === 2;
  const added = shapes.get(`${UNET}label_emb.0.0.weight`)?.[1];
  const pooled = kind === 'xl' ? shapeOf(file, shapes, `${TEXT.xl[1]!.prefix}text_projection`)[1]! : 0;
  return {
    _class_name: 'UNet2DConditionModel',
    sample_size: { sd1: 64, sd2: velocity ? 96 : 64, xl: 128 }[kind],
    in_channels: inChannels!,
    out_channels: shape('out.2.weight')[0]!,
    down_block_types: attends.map((yes) => (yes ? 'CrossAttnDownBlock2D' : 'DownBlock2D')),
    up_block_types: attends.map((yes) => (yes ? 'CrossAttnUpBlock2D' : 'UpBlock2D')).reverse(),
    block_out_channels: channels,
    layers_per_block: layers,
    cross_attention_dim: shape('middle_block.1.transformer_blocks.0.attn2.to_k.weight')[1]!,
    transformer_layers_per_block: same(depths),
    attention_head_dim: kind === 'sd1' ? 8 : channels.map((width) => Math.max(1, width / 64)),
    use_linear_projection: linear,
    ...(kind === 'sd2' && velocity && { upcast_attention: true }),
    ...(added !== undefined && {
      addition_embed_type: 'text_time',
      addition_time_embed_dim: (added - pooled) / 6,
      projection_class_embeddings_input_dim: added,
    }),
  };
}

/** @param at the VAE's prefix in the file, which may be another than the U-Net's */
export function vaeConfig(
  file: string,
  shapes: Shapes,
  kind: Kind,
  at: string,
  velocity: boolean,
): AutoencoderKLConfig {
  const shape = (name: string) => shapeOf(file, shapes, `${at}${name}`);
  const levels = count(shapes, `${at}encoder.down.`);
  const channels = Array.from(
    { length: levels },
    (_, i) => shape(`encoder.down.${i}.block.0.conv1.weight`)[0]!,
  );
  return {
    _class_name: 'AutoencoderKL',
    in_channels: shape('encoder.conv_in.weight')[1]!,
    out_channels: shape('decoder.conv_out.weight')[0]!,
    down_block_types: channels.map(() => 'DownEncoderBlock2D'),
    up_block_types: channels.map(() => 'UpDecoderBlock2D'),
    block_out_channels: channels,
    layers_per_block: count(shapes, `${at}encoder.down.0.block.`),
    latent_channels: shape('decoder.conv_in.weight')[1]!,
    sample_size: { sd1: 512, sd2: velocity ? 768 : 512, xl: 1024 }[kind],
    scaling_factor: kind === 'xl' ? 0.13025 : 0.18215,
    ...(kind === 'xl' && { force_upcast: true }),
    ...(!shapes.has(`${at}quant_conv.weight`) && { use_quant_conv: false, use_post_quant_conv: false }),
    ...(!shapes.has(`${at}encoder.mid.attn_1.q.weight`) && { mid_block_add_attention: false }),
  };
}

/** Layers of open_clip's text tower that the model reads. */
export function openClipLayers(shapes: Shapes, prefix: string, kind: Kind): number {
  const layers = count(shapes, `${prefix}transformer.resblocks.`);
  // SD 2.x reads the last but one of 24 layers; some trainers save no more than the 23 that are read
  return kind === 'sd2' && layers !== 23 ? layers - 1 : layers;
}

/** @param which 0, or 1 for XL's second text encoder */
export function textConfig(file: string, shapes: Shapes, kind: Kind, which: 0 | 1): CLIPTextConfig {
  const { prefix, openClip } = TEXT[kind][which]!;
  const tower = openClip ? '' : textPrefix(shapes, prefix);
  const shape = (name: string) => shapeOf(file, shapes, `${prefix}${tower}${name}`);
  const position = openClip ? 'positional_embedding' : 'embeddings.position_embedding.weight';
  const [length, width] = shape(position) as [number, number];
  const [tokens] = shape(openClip ? 'token_embedding.weight' : 'embeddings.token_embedding.weight');
  const layer = openClip ? 'transformer.resblocks.0.mlp.c_fc.weight' : 'encoder.layers.0.mlp.fc1.weight';
  const second = kind === 'xl' && which === 1;
  return {
    architectures: [second ? 'CLIPTextModelWithProjection' : 'CLIPTextModel'],
    model_type: 'clip_text_model',
    vocab_size: tokens!,
    hidden_size: width,
    intermediate_size: shape(layer)[0]!,
    projection_dim: second ? shape('text_projection')[1]! : kind === 'sd2' ? 512 : width,
    num_hidden_layers: openClip
      ? openClipLayers(shapes, prefix, kind)
      : count(shapes, `${prefix}${tower}encoder.layers.`),
    num_attention_heads: Math.max(1, width / 64),
    max_position_embeddings: length,
    hidden_act: openClip ? 'gelu' : 'quick_gelu',
    layer_norm_eps: 1e-5,
    bos_token_id: 0,
    eos_token_id: 2,
    pad_token_id: 1,
  };
}

/** Some checkpoints leave `text_model.` out, as transformers 5 does. */
export const textPrefix = (shapes: Shapes, prefix: string): string =>
  shapes.has(`${prefix}embeddings.position_embedding.weight`) ? '' : 'text_model.';

/** What the model was trained to predict, and on which schedule. */
export function schedulerConfig(kind: Kind, velocity: boolean, zeroTerminal: boolean): SchedulerConfig {
  return {
    _class_name: kind === 'xl' ? 'EulerDiscreteScheduler' : velocity ? 'DDIMScheduler' : 'PNDMScheduler',
    num_train_timesteps: 1000,
    beta_start: 0.00085,
    beta_end: 0.012,
    beta_schedule: 'scaled_linear',
    clip_sample: false,
    set_alpha_to_one: false,
    skip_prk_steps: true,
    steps_offset: 1,
    timestep_spacing: zeroTerminal ? 'trailing' : 'leading',
    trained_betas: null,
    prediction_type: velocity ? 'v_prediction' : 'epsilon',
    ...(zeroTerminal && { rescale_betas_zero_snr: true }),
  };
}
