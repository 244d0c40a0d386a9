/** Writing a checkpoint of one file, as trainers and ComfyUI, A1111 and diffusers' `from_single_file` read it. */

import { type StateDict, type Tensor, tensor, UserError, zeros } from '@rldf/torch';
import type {
  AutoencoderKLConfig,
  CLIPTextConfig,
  SchedulerConfig,
  UNet2DConditionConfig,
} from '../configs.js';
import { textToOpenClip } from '../open-clip.js';
import { type Kind, TEXT, UNET, VAE } from './config.js';
import { isVaeAttention, type UNetLayout, unetToLdm, vaeToLdm } from './names.js';
import { CONFIG_KEY } from './read.js';

/** One network: its configuration, and its tensors in diffusers' names. */
export interface Part<Config> {
  config: Config;
  state: StateDict;
}

export interface WholeModel {
  unet: Part<UNet2DConditionConfig>;
  vae: Part<AutoencoderKLConfig>;
  textEncoder: Part<CLIPTextConfig>;
  textEncoder2?: Part<CLIPTextConfig>;
  scheduler: SchedulerConfig;
  /** Whether no negative prompt is zeros, of XL. */
  forceZerosForEmptyPrompt?: boolean;
  generation?: { [key: string]: unknown };
}

/**
 * The tensors of a single file and its metadata: ModelSpec's, which other tools read, and the configurations, which rldf reads.
 * New tensors are of the current `scope()`.
 *
 * @param where names the file in messages
 * @throws UserError when a part has layers that these files have no name for
 */
export function toSingleFile(
  where: string,
  model: WholeModel,
): { tensors: StateDict; metadata: { [key: string]: string } } {
  const kind = kindToWrite(model);
  const tensors: StateDict = new Map();
  const put = (part: string, name: string, path: string | undefined, value: Tensor) => {
    if (path !== undefined) return void tensors.set(path, value);
    throw new UserError(
      `${where}: ${part} has the layer ${name} — single files have no name for it. Write a folder: --format diffusers.`,
    );
  };

  const layout = layoutOf(where, model.unet.config);
  for (const [name, value] of model.unet.state) {
    const path = unetToLdm(name, layout);
    put('the U-Net', name, path && `${UNET}${path}`, value);
  }
  const levels = model.vae.config.block_out_channels?.length ?? 1;
  for (const [name, value] of model.vae.state) {
    const path = vaeToLdm(name, levels);
    put(
      'the VAE',
      name,
      path && `${VAE}${path}`,
      isVaeAttention(name) ? value.unsqueeze(2).unsqueeze(3) : value,
    );
  }
  const encoders = [model.textEncoder, ...(model.textEncoder2 ? [model.textEncoder2] : [])];
  for (const [which, part] of encoders.entries()) {
    const { prefix, openClip } = TEXT[kind][which]!;
    const state = openClip ? openClipTensors(part, kind) : part.state;
    for (const [name, value] of state) {
      const foreign = openClip ? name.startsWith('text_model.') : !name.startsWith('text_model.');
      put('the text encoder', name, foreign ? undefined : `${prefix}${name}`, value);
    }
  }
  const velocity = model.scheduler.prediction_type === 'v_prediction';
  if (velocity) tensors.set('v_pred', tensor([]));
  if (model.scheduler.rescale_betas_zero_snr === true) tensors.set('ztsnr', tensor([]));
  return { tensors, metadata: metadataOf(model, kind, velocity) };
}

function kindToWrite({ textEncoder, textEncoder2 }: WholeModel): Kind {
  if (textEncoder2 !== undefined) return 'xl';
  return textEncoder.config.hidden_act === 'gelu' ? 'sd2' : 'sd1';
}

/** @throws UserError for U-Nets that LDM’s numbering of blocks cannot say */
function layoutOf(where: string, config: UNet2DConditionConfig): UNetLayout {
  const layers = [config.layers_per_block ?? 2].flat();
  if (new Set(layers).size !== 1)
    throw new UserError(
      `${where}: layers_per_block is [${layers}] — the blocks of a single file have one number on all levels. Write a folder: --format diffusers.`,
    );
  const types = config.down_block_types ?? [];
  return { layersPerBlock: layers[0]!, attends: types.map((type) => type.startsWith('CrossAttn')) };
}

/** In open_clip's names. */
function openClipTensors({ config, state }: Part<CLIPTextConfig>, kind: Kind): StateDict {
  const written = textToOpenClip(state);
  if (kind !== 'sd2') return written;
  // The last layer, which Stable Diffusion 2.x does not read, and the projection: readers expect that they are there.
  const layers = config.num_hidden_layers ?? 12;
  const last = new RegExp(`^transformer\\.resblocks\\.${layers - 1}\\.`);
  for (const [name, value] of [...written]) {
    if (last.test(name)) written.set(name.replace(last, `transformer.resblocks.${layers}.`), value);
  }
  const { dtype, shape } = written.get('positional_embedding')!;
  written.set('text_projection', zeros([shape[1]!, shape[1]!], { dtype }));
  return written;
}

function metadataOf(model: WholeModel, kind: Kind, velocity: boolean): { [key: string]: string } {
  const { unet, vae, textEncoder, textEncoder2, scheduler, generation } = model;
  const size = model.unet.config.sample_size;
  const [height, width] = [size ?? 64].flat() as number[];
  const scale = 2 ** ((vae.config.block_out_channels?.length ?? 1) - 1);
  const v2 = velocity ? 'stable-diffusion-v2-768-v' : 'stable-diffusion-v2-512';
  return {
    format: 'pt',
    'modelspec.sai_model_spec': '1.0.0',
    'modelspec.architecture': {
      sd1: 'stable-diffusion-v1',
      sd2: v2,
      xl: 'stable-diffusion-xl-v1-base',
    }[kind],
    'modelspec.implementation': 'https://github.com/Stability-AI/generative-models',
    'modelspec.prediction_type': velocity ? 'v' : 'epsilon',
    'modelspec.resolution': `${(width ?? height!) * scale}x${height! * scale}`,
    [CONFIG_KEY]: JSON.stringify({
      unet: unet.config,
      vae: vae.config,
      text_encoder: textEncoder.config,
      ...(textEncoder2 && {
        text_encoder_2: textEncoder2.config,
        index: { force_zeros_for_empty_prompt: model.forceZerosForEmptyPrompt ?? false },
      }),
      scheduler,
      ...(generation && { generation }),
    }),
  };
}
