/**
 * What the tensors of adapter files are called: diffusers' names, new and old, PEFT's, kohya's, and the U-Net's block names of
 * the first Stable Diffusion code (LDM, SGM), which ComfyUI and other trainers write.
 */

import { basename, dirname } from 'node:path';
import { UserError } from '@rldf/torch';
import type { LoraPart } from './lora-files.js';
import type { Factor } from './lora-kinds.js';
import { fromKohyaName } from './lora-kohya.js';
import { unetFromLdm } from './single-file/names.js';

export const PREFIXES: { readonly [part in LoraPart]: string } = {
  unet: 'unet',
  textEncoder: 'text_encoder',
  textEncoder2: 'text_encoder_2',
};
export const LORA_PARTS = Object.keys(PREFIXES) as readonly LoraPart[];

export interface LoraPlace {
  part: LoraPart;
  path: string;
  key: Factor | 'alpha';
  /** Whether the file named the layer's block as LDM does. */
  ldm: boolean;
}

/** Of `lora_A.NAME.weight`, the name is PEFT's of the adapter. */
const ENDINGS: readonly (readonly [ending: RegExp, key: LoraPlace['key']])[] = [
  [/[._](lora_A(\.[^.]+)?|lora_down|lora\.down|lora_linear_layer\.down)\.weight$/, 'down'],
  [/[._](lora_B(\.[^.]+)?|lora_up|lora\.up|lora_linear_layer\.up)\.weight$/, 'up'],
  [/\.alpha$/, 'alpha'],
  [/[._]lora_mid\.weight$/, 'mid'],
  [/\.dora_scale$/, 'dora_scale'],
  [/\.lora_magnitude_vector(\.[^.]+){0,2}$/, 'magnitude'],
];
/** LoHa's and LoKr's tensors are called the same in all layouts. */
const FACTOR = /\.(hada_(w[12]_[ab]|t[12])|lokr_(w[12]|w[12]_[ab]|t2))$/;

/** Tensors that only other kinds of adapters have. */
const OTHER_KINDS: readonly (readonly [name: RegExp, kind: string])[] = [
  [/lora_E$|ranknum/, 'an AdaLoRA'],
  [/lora_embedding_/, 'a LoRA of embeddings'],
  [/lora_[AB](\.[^.]+)?\.bias$|lora_(up|down)\.bias$/, 'a LoRA with biases'],
  [/\.(oft_|boft_)|oft_(blocks|diag|r|s)$/, 'an OFT'],
  [/ia3_|\.on_input$/, 'an IA3'],
  [/vera_lambda/, 'a VeRA'],
  [/glora|\.[ab][12]\.weight$/, 'a GLoRA'],
  [/\.(diff|diff_b|set_weight|w_norm|b_norm)$/, 'a difference of whole weights'],
  [/^(emb_params|bundle_emb\.)|string_to_param/, 'a textual inversion'],
  [/modules_to_save/, 'an adapter with whole layers beside it (modules_to_save)'],
];

/** Networks that this architecture has not. */
const OTHER_NETWORKS: readonly (readonly [name: RegExp, network: string])[] = [
  [/^(lora_te3_|text_encoder_3\.)/, 'a third text encoder, as Stable Diffusion 3 has'],
  [
    /^(lora_transformer_|transformer\.|(lora_unet_|(model\.)?diffusion_model\.)((double|single|joint)_)?(blocks|layers|transformer_blocks)[._])/,
    'a diffusion transformer',
  ],
  [/^(lora_prior_|prior\.|lora_controlnet)/, 'another network'],
];

/**
 * Network, layer and role of a tensor.
 * @param layersPerBlock of the U-Net, by which LDM counts its blocks
 * @throws UserError for what is no LoRA of a U-Net or a text encoder
 */
export function placeOf(file: string, name: string, layersPerBlock: number): LoraPlace {
  refuseOtherKinds(file, name);
  const other = OTHER_NETWORKS.find(([pattern]) => pattern.test(name));
  const factor = FACTOR.exec(name)?.[1] as Factor | undefined;
  const ending = factor ? ([FACTOR, factor] as const) : ENDINGS.find(([ending]) => ending.test(name));
  const place = ending && other === undefined && locate(file, name.replace(ending[0], ''), layersPerBlock);
  if (ending && place) return { ...place, key: ending[1] };
  throw new UserError(
    `${file}: tensor ${name} — ${
      other === undefined ? 'belongs to no layer of the U-Net or the text encoder' : `is for ${other[1]}`
    }. Use an adapter made for this architecture.`,
  );
}

/** @throws UserError when the name is one of another kind of adapter, by that kind */
export function refuseOtherKinds(file: string, name: string): void {
  const kind = OTHER_KINDS.find(([pattern]) => pattern.test(name))?.[1];
  if (kind === undefined) return;
  throw new UserError(
    `${file}: tensor ${name} — belongs to ${kind}; only LoRA, LoCon, LoHa, LoKr and DoRA are supported. ` +
      'Convert it, or use a LoRA.',
  );
}

/** Network and path of a module name in any of the layouts. */
function locate(file: string, module: string, layersPerBlock: number): Omit<LoraPlace, 'key'> | undefined {
  const kohya = fromKohyaName(module.replace(LYCORIS, (_, text) => (text ? 'lora_te_' : 'lora_unet_')));
  if (kohya) return newPath(kohya.part, kohya.path, layersPerBlock);
  const wrapped = module.replace(WRAPPERS, '');
  const part = LORA_PARTS.find((part) => wrapped.startsWith(`${PREFIXES[part]}.`));
  if (part !== undefined) {
    const path = wrapped.slice(PREFIXES[part].length + 1).replace(WRAPPERS, '');
    return newPath(part, path, layersPerBlock);
  }
  // no network is named in files of PEFT, of `save_attn_procs` and of ComfyUI
  const path = wrapped.replace(COMFY, '');
  if (UNET_PATH.test(path)) return newPath('unet', path, layersPerBlock);
  if (!TEXT_PATH.test(path)) return undefined;
  // PEFT's folders are named by who saves them, mostly as the networks' own
  const second =
    /^(text_encoders\.)?clip_g/.test(wrapped) || basename(dirname(file)) === PREFIXES.textEncoder2;
  return newPath(second ? 'textEncoder2' : 'textEncoder', path, layersPerBlock);
}

/** What PEFT, data-parallel training and torch.compile put in front of a network's own names. */
const WRAPPERS = /^((base_model\.model|module|_orig_mod)\.)+/;
/** LyCORIS flattens names as kohya does, and names no network. */
const LYCORIS = /^lycoris_(?=(text_model_)?)/;
/** What ComfyUI puts in front of the names of its own networks. */
const COMFY = /^((model\.)?diffusion_model|(text_encoders\.)?clip_[lg](\.transformer)?)\./;
const UNET_PATH =
  /^((down|up)_blocks|mid_block|conv_in|conv_out|time_embedding|time_embed|label_emb|add_embedding|(in|out)put_blocks|middle_block|out)(\.|$)/;
const TEXT_PATH = /^((text_model|encoder\.layers)\.|text_projection$)/;

function newPath(part: LoraPart, path: string, layersPerBlock: number): Omit<LoraPlace, 'key'> {
  if (part !== 'unet') return { part, path: newTextPath(path), ldm: false };
  const known = fromLdmPath(path, layersPerBlock);
  return { part, path: newUnetPath(known ?? path), ldm: known !== undefined };
}

/** diffusers before 0.22 named attention after its processors: `attn1.processor.to_q`. */
function newUnetPath(path: string): string {
  return path.replace(/\.processor\.(to_[qkv])$/, '.$1').replace(/\.processor\.to_out$/, '.to_out.0');
}

/** With `text_model.`, which transformers 5 leaves out; diffusers once named the projections as in its own attention. */
function newTextPath(path: string): string {
  const projection = path.replace(/self_attn\.to_(q|k|v|out)$/, 'self_attn.$1_proj');
  return projection.startsWith('encoder.') ? `text_model.${projection}` : projection;
}

/**
 * `input_blocks.1.1.proj_in` -> `down_blocks.0.attentions.0.proj_in`, for U-Nets of Stable Diffusion 1.x's, 2.x's and XL's kind.
 * Undefined for names of another layout.
 */
export function fromLdmPath(path: string, layersPerBlock: number): string | undefined {
  return unetFromLdm(`${path}.weight`, layersPerBlock)?.replace(/\.weight$/, '');
}
