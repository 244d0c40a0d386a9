/**
 * What the tensors of adapter files are called: diffusers' names, new and old, PEFT's, kohya's, and the U-Net's block names of
 * the first Stable Diffusion code (LDM, SGM), which ComfyUI and other trainers write.
 */

import { UserError } from '@rldf/torch';
import type { LoraPart } from './lora-files.js';
import { fromKohyaName } from './lora-kohya.js';

export const PREFIXES: { readonly [part in LoraPart]: string } = {
  unet: 'unet',
  textEncoder: 'text_encoder',
  textEncoder2: 'text_encoder_2',
};
export const LORA_PARTS = Object.keys(PREFIXES) as readonly LoraPart[];

export interface LoraPlace {
  part: LoraPart;
  path: string;
  key: 'down' | 'up' | 'alpha';
  /** Whether the file named the layer's block as LDM does. */
  ldm: boolean;
}

/** Of `lora_A.NAME.weight`, the name is PEFT's of the adapter. */
const ENDINGS: readonly (readonly [ending: RegExp, key: LoraPlace['key']])[] = [
  [/[._](lora_A(\.[^.]+)?|lora_down|lora\.down|lora_linear_layer\.down)\.weight$/, 'down'],
  [/[._](lora_B(\.[^.]+)?|lora_up|lora\.up|lora_linear_layer\.up)\.weight$/, 'up'],
  [/\.alpha$/, 'alpha'],
];

/** Tensors that only other kinds of adapters have. */
const OTHER_KINDS: readonly (readonly [name: RegExp, kind: string])[] = [
  [/dora_scale|lora_magnitude_vector/, 'a DoRA'],
  [/hada_/, 'a LoHa'],
  [/lokr_/, 'a LoKr'],
  [/lora_mid/, 'a LoCon in Tucker decomposition'],
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
  const ending = ENDINGS.find(([ending]) => ending.test(name));
  const place = ending && other === undefined && locate(name.replace(ending[0], ''), layersPerBlock);
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
    `${file}: tensor ${name} — belongs to ${kind}; only LoRA (lora_A and lora_B, or lora_down and lora_up) is supported. ` +
      'Convert it, or use a LoRA.',
  );
}

/** Network and path of a module name in any of the layouts. */
function locate(module: string, layersPerBlock: number): Omit<LoraPlace, 'key'> | undefined {
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
  return TEXT_PATH.test(path) ? newPath('textEncoder', path, layersPerBlock) : undefined;
}

/** What PEFT, data-parallel training and torch.compile put in front of a network's own names. */
const WRAPPERS = /^((base_model\.model|module|_orig_mod)\.)+/;
/** LyCORIS flattens names as kohya does, and names no network. */
const LYCORIS = /^lycoris_(?=(text_model_)?)/;
/** What ComfyUI puts in front of the names of its own networks. */
const COMFY = /^((model\.)?diffusion_model|(text_encoders\.)?clip_l(\.transformer)?)\./;
const UNET_PATH =
  /^((down|up)_blocks|mid_block|conv_in|conv_out|time_embedding|time_embed|(in|out)put_blocks|middle_block|out)(\.|$)/;
const TEXT_PATH = /^(text_model|encoder\.layers)\./;

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

/** What LDM calls the layers of a residual block, and those outside of the blocks. */
const LDM_RESNET: { readonly [name: string]: string } = {
  'in_layers.2': 'conv1',
  'emb_layers.1': 'time_emb_proj',
  'out_layers.3': 'conv2',
  skip_connection: 'conv_shortcut',
};
const LDM_OUTSIDE: { readonly [name: string]: string } = {
  'time_embed.0': 'time_embedding.linear_1',
  'time_embed.2': 'time_embedding.linear_2',
  'input_blocks.0.0': 'conv_in',
  'out.2': 'conv_out',
};

/**
 * `input_blocks.1.1.proj_in` -> `down_blocks.0.attentions.0.proj_in`, for U-Nets of Stable Diffusion 1.x's and 2.x's kind:
 * LDM counts residual blocks through, each level's last input block being the downsampling, and upsamples within the last
 * output block of a level. Undefined for names of another layout.
 */
export function fromLdmPath(path: string, layersPerBlock: number): string | undefined {
  const outside = LDM_OUTSIDE[path];
  if (outside !== undefined) return outside;
  const match = /^(?:(input|output)_blocks\.(\d+)|middle_block)\.(\d+)\.(.+)$/.exec(path);
  if (match === null) return undefined;
  const [, side, block, place, rest] = match;
  const resnet = LDM_RESNET[rest!];
  // a block is a residual one, or one that samples down, and then attention and sampling up; the middle two with attention between
  const begins = side === undefined ? place !== '1' : place === '0';
  if (begins !== (resnet !== undefined || rest === 'op')) return undefined;
  const inner = resnet === undefined ? 'attentions' : 'resnets';
  const layer = resnet ?? rest!;
  if (side === undefined) return `mid_block.${inner}.${Math.floor(Number(place) / 2)}.${layer}`;
  const count = layersPerBlock + 1;
  const number = Number(block) - (side === 'input' ? 1 : 0);
  const [level, within] = [Math.floor(number / count), number % count];
  if (side === 'input' && rest === 'op') return `down_blocks.${level}.downsamplers.0.conv`;
  if (side === 'output' && rest === 'conv') return `up_blocks.${level}.upsamplers.0.conv`;
  return `${side === 'input' ? 'down' : 'up'}_blocks.${level}.${inner}.${within}.${layer}`;
}
