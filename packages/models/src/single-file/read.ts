/** Reading a checkpoint of one file: Stable Diffusion 1.x, 2.x and XL under the names of LDM and SGM. */

import { existsSync, readFileSync, statSync } from 'node:fs';
import {
  readHeader,
  readSafetensors,
  type StateDict,
  scope,
  shown,
  type Tensor,
  UserError,
} from '@rldf/torch';
import { renameOldAttention } from '../autoencoder-kl.js';
import type { CLIPTokenizer } from '../clip-tokenizer.js';
import { clipTokenizer } from '../clip-vocabulary.js';
import type { ModelFiles, WeightsPart } from '../model-files.js';
import { fromOpenClip } from '../open-clip.js';
import {
  KINDS,
  type Kind,
  kindOf,
  openClipLayers,
  type Shapes,
  schedulerConfig,
  TEXT,
  textConfig,
  textPrefix,
  UNET,
  unetConfig,
  VAE,
  vaeConfig,
} from './config.js';
import { emaName, isVaeAttention, unetFromLdm, vaeFromLdm } from './names.js';

type Json = { [key: string]: unknown };

/** Entry of the header that our own single files carry: the configurations of their parts, by diffusers' names. */
export const CONFIG_KEY = 'rldf_config';

/**
 * @param variant `ema` for the moving averages beside the U-Net's weights, where a checkpoint holds both
 * @throws UserError when the file holds something else, or not everything
 */
export function singleFile(file: string, variant: string | undefined): ModelFiles {
  if (!file.endsWith('.safetensors')) throw new UserError(notSafetensors(file));
  const { entries, metadata } = readHeader(file);
  const shapes: Shapes = new Map(entries.map(({ name, shape }) => [name, shape]));
  const kind = kindOf(file, shapes);
  const ema = averaged(file, shapes, variant);
  const own = ownConfigs(file, metadata[CONFIG_KEY]);
  const vae = vaeOf(file, shapes, kind);
  let told: { velocity: boolean; zeroTerminal: boolean } | undefined;
  const prediction = () => {
    told ??= predictionOf(file, shapes, metadata, kind);
    return told;
  };
  const inferred: { [part in WeightsPart | 'scheduler']: () => Json } = {
    unet: () => unetConfig(file, shapes, kind, prediction().velocity),
    vae: () => vaeConfig(vae.file, vae.shapes, kind, vae.prefix, prediction().velocity),
    text_encoder: () => textConfig(file, shapes, kind, 0),
    text_encoder_2: () => textConfig(file, shapes, kind, 1),
    scheduler: () => schedulerConfig(kind, prediction().velocity, prediction().zeroTerminal),
  };
  const config = (part: WeightsPart | 'scheduler') => ({
    config: own[part] ?? inferred[part](),
    where: `${file} (${part})`,
  });
  const weights: { [part in WeightsPart]: () => StateDict } = {
    unet: () => unetState(file, config('unet').config.layers_per_block as number, ema),
    vae: () => vaeState(vae, (config('vae').config.block_out_channels as unknown[]).length),
    text_encoder: () => textState(file, shapes, kind, 0),
    text_encoder_2: () => textState(file, shapes, kind, 1),
  };
  return {
    where: file,
    index: () => ({ ...indexOf(kind), ...own.index }),
    config,
    weights: (part) => ({ state: weights[part](), where: part === 'vae' ? vae.file : file }),
    tokenizer: (part): CLIPTokenizer =>
      clipTokenizer(kind === 'sd2' || part === 'tokenizer_2' ? '!' : '<|endoftext|>'),
    bytes: () => statSync(file).size + (vae.file === file ? 0 : statSync(vae.file).size),
    generation: () => (own.generation === undefined ? undefined : { config: own.generation, where: file }),
  };
}

/** @throws UserError: other formats are pickles, or are quantised */
function notSafetensors(file: string): string {
  if (/\.gguf$/.test(file))
    return `${file}: a quantised GGUF file — models are read from safetensors in float32, float16 or bfloat16. Use the checkpoint that it was made of.`;
  const target = file.replace(/\.[^./\\]*$/, '');
  return (
    `${file}: is no .safetensors file — .ckpt, .pt, .pth and .bin are pickles, which can run code, and are never opened. Convert it with: ` +
    `python -c "import torch, safetensors.torch as s; d = torch.load('${file}', map_location='cpu', weights_only=True); d = d.get('state_dict', d); s.save_file({k: v.contiguous() for k, v in d.items() if torch.is_tensor(v)}, '${target}.safetensors')"`
  );
}

function ownConfigs(file: string, text: string | undefined): { [part: string]: Json | undefined } {
  if (text === undefined) return {};
  try {
    const value: unknown = JSON.parse(text);
    if (value !== null && typeof value === 'object' && !Array.isArray(value))
      return value as { [part: string]: Json };
  } catch {}
  throw new UserError(
    `${file}: ${CONFIG_KEY} in the header is ${shown(text)} — must be a JSON object of configurations. Write the file again.`,
  );
}

/** @throws UserError when other weights are asked for than there are */
function averaged(file: string, shapes: Shapes, variant: string | undefined): boolean {
  if (variant === undefined) return false;
  if (variant !== 'ema')
    throw new UserError(
      `${file}:${variant}: a single file has no variant ${shown(variant)} — after a colon only ema may follow, for the U-Net's moving average. Leave it out.`,
    );
  if (shapes.has(emaName('input_blocks.0.0.weight'))) return true;
  throw new UserError(
    `${file}:ema: the file holds no moving average of the U-Net (model_ema.) — it may hold it in place of the weights, as files called "emaonly" do. Leave :ema out.`,
  );
}

interface VaeSource {
  file: string;
  shapes: Shapes;
  prefix: string;
}

/** In the checkpoint, or beside it as AUTOMATIC1111 reads it: NAME.vae.safetensors. */
function vaeOf(file: string, shapes: Shapes, kind: Kind): VaeSource {
  const within = (prefix: string, all: Shapes) => all.has(`${prefix}decoder.conv_in.weight`);
  if (within(VAE, shapes)) return { file, shapes, prefix: VAE };
  const beside = file.replace(/\.safetensors$/, '.vae.safetensors');
  if (existsSync(beside)) {
    const found = new Map(readHeader(beside).entries.map(({ name, shape }) => [name, shape]));
    const prefix = [VAE, ''].find((prefix) => within(prefix, found));
    if (prefix !== undefined && found.has(`${prefix}encoder.down.0.block.0.conv1.weight`))
      return { file: beside, shapes: found, prefix };
    throw new UserError(
      `${beside}: its first tensor is called ${shown([...found.keys()][0])} — must hold a VAE under LDM’s names (encoder.down.0.block.0.conv1.weight, ...). Use such a file, or remove it.`,
    );
  }
  throw new UserError(
    `${file}: there is no VAE in it (first_stage_model.) — without one no picture can be encoded or decoded. Use a checkpoint "with baked VAE", or put a VAE for ${KINDS[kind]} beside it as ${beside}.`,
  );
}

/**
 * Whether the network predicts velocity, and whether its last timestep is pure noise. A checkpoint tells it by empty tensors, by
 * ModelSpec's metadata, or by a configuration beside it; Stable Diffusion 2.x by none of these, but by its weights.
 */
function predictionOf(
  file: string,
  shapes: Shapes,
  metadata: { readonly [key: string]: string },
  kind: Kind,
): { velocity: boolean; zeroTerminal: boolean } {
  const zeroTerminal = shapes.has('ztsnr');
  const yaml = file.replace(/\.safetensors$/, '.yaml');
  const said = existsSync(yaml)
    ? /^\s*parameterization:\s*["']?(v|eps)\b/m.exec(readFileSync(yaml, 'utf8'))?.[1]
    : undefined;
  const spec = metadata['modelspec.prediction_type'];
  const velocity =
    said !== undefined
      ? said === 'v'
      : shapes.has('v_pred') || spec === 'v' || /-768-v$/.test(metadata['modelspec.architecture'] ?? '')
        ? true
        : spec === 'epsilon' || kind !== 'sd2'
          ? false
          : looksLikeVelocity(file, shapes);
  return { velocity, zeroTerminal };
}

/**
 * Stable Diffusion 2.x's own files do not say. The first base model stopped at a known step; else the scale of a norm of the
 * last attention tells the networks that were trained to predict velocity, as ComfyUI decides.
 */
function looksLikeVelocity(file: string, shapes: Shapes): boolean {
  const blocks = [...shapes.keys()].flatMap((name) => {
    const [, block] =
      /^model\.diffusion_model\.output_blocks\.(\d+)\.1\.transformer_blocks\.0\.norm1\.bias$/.exec(name) ??
      [];
    return block === undefined ? [] : [Number(block)];
  });
  return scope(() => {
    const { tensors } = readSafetensors(file);
    if (tensors.get('global_step')?.numel === 1 && tensors.get('global_step')!.item() === 875_000)
      return false;
    const bias = tensors.get(`${UNET}output_blocks.${Math.max(...blocks)}.1.transformer_blocks.0.norm1.bias`);
    if (bias === undefined) return false;
    const values = bias.to('float32');
    return values.sub(values.mean()).square().mean().sqrt().item() > 0.09;
  });
}

function indexOf(kind: Kind): Json {
  const xl = kind === 'xl';
  return {
    _class_name: xl ? 'StableDiffusionXLPipeline' : 'StableDiffusionPipeline',
    scheduler: ['diffusers', schedulerConfig(kind, false, false)._class_name],
    text_encoder: ['transformers', 'CLIPTextModel'],
    tokenizer: ['transformers', 'CLIPTokenizer'],
    ...(xl && {
      force_zeros_for_empty_prompt: true,
      text_encoder_2: ['transformers', 'CLIPTextModelWithProjection'],
      tokenizer_2: ['transformers', 'CLIPTokenizer'],
    }),
    unet: ['diffusers', 'UNet2DConditionModel'],
    vae: ['diffusers', 'AutoencoderKL'],
  };
}

/** Tensors whose names begin with a prefix, without it. */
function below(file: string, prefix: string): (readonly [name: string, tensor: Tensor])[] {
  return [...readSafetensors(file).tensors].flatMap(([name, tensor]) =>
    name.startsWith(prefix) ? [[name.slice(prefix.length), tensor] as const] : [],
  );
}

function unetState(file: string, layersPerBlock: number, ema: boolean): StateDict {
  const { tensors } = readSafetensors(file);
  const state: StateDict = new Map();
  for (const name of tensors.keys()) {
    if (!name.startsWith(UNET)) continue;
    const ldm = name.slice(UNET.length);
    const source = ema ? emaName(ldm) : name;
    const tensor = tensors.get(source);
    if (tensor === undefined)
      throw new UserError(
        `${file}:ema: tensor "${source}" is missing — the moving average is incomplete. Leave :ema out.`,
      );
    // a name of no layer stays as it is, and is refused by it
    state.set(unetFromLdm(ldm, layersPerBlock) ?? name, tensor);
  }
  return state;
}

function vaeState({ file, prefix }: VaeSource, levels: number): StateDict {
  const state: StateDict = new Map();
  for (const [name, tensor] of below(file, prefix)) {
    if (/^(loss|model_ema)\./.test(name)) continue; // of its training
    const path = vaeFromLdm(name, levels) ?? name;
    state.set(path, isVaeAttention(path) && tensor.shape.length > 2 ? tensor.flatten(1) : tensor);
  }
  return renameOldAttention(state);
}

/** What trainers leave beside a text tower: constants, and halves of CLIP that draw nothing. */
const UNREAD = /(^|\.)(position_ids|logit_scale|attn_mask)$|^(vision_model|visual)(\.|_projection)/;

function textState(file: string, shapes: Shapes, kind: Kind, which: 0 | 1): StateDict {
  const { prefix, openClip } = TEXT[kind][which]!;
  const all = below(file, prefix).filter(([name]) => !UNREAD.test(name));
  if (!openClip) {
    const missing = textPrefix(shapes, prefix) === '' ? 'text_model.' : '';
    const own = all.filter(([name]) => !name.startsWith('text_projection'));
    return new Map(own.map(([name, tensor]) => [`${missing}${name}`, tensor]));
  }
  const layers = openClipLayers(shapes, prefix, kind);
  const read = all.filter(([name]) => {
    const [, layer = '0'] = /^transformer\.resblocks\.(\d+)\./.exec(name) ?? [];
    return Number(layer) < layers && (name !== 'text_projection' || kind === 'xl');
  });
  return fromOpenClip(new Map(read), file);
}
