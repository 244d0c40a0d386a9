/**
 * LoRA files as kohya-ss/sd-scripts writes them for Stable Diffusion 1.x, 2.x and XL, which ComfyUI, A1111 and diffusers
 * read: names flattened with `_`, alpha as a tensor beside each pair, ModelSpec and `ss_` metadata.
 */

import { type StateDict, type Tensor, tensor, UserError } from '@rldf/torch';
import type { LoraLayer, LoraPart } from './lora-files.js';
import { unetToLdm } from './single-file/names.js';

const PREFIXES: { readonly [part in LoraPart]: string } = {
  unet: 'lora_unet_',
  textEncoder: 'lora_te_',
  textEncoder2: 'lora_te2_',
};
/** Some trainers count the text encoders where there is but one. */
const COUNTED = /^lora_te1_/;

/** Words of layer paths that hold a `_` of their own. */
const WORDS = [
  ...['down_blocks', 'up_blocks', 'mid_block', 'transformer_blocks', 'to_q', 'to_k', 'to_v', 'to_out'],
  ...['proj_in', 'proj_out', 'conv_in', 'conv_out', 'conv_shortcut', 'time_emb_proj', 'time_embedding'],
  ...['linear_1', 'linear_2', 'add_embedding', 'q_proj', 'k_proj', 'v_proj', 'out_proj', 'text_model'],
  ...['self_attn', 'text_projection'],
  // of LDM
  ...['input_blocks', 'middle_block', 'output_blocks', 'in_layers', 'emb_layers', 'out_layers'],
  ...['skip_connection', 'time_embed', 'label_emb'],
];
const SPLIT = new RegExp(`(?:^|_)(${WORDS.join('|')}|[^_]+)(?=_|$)`, 'g');

/** `down_blocks.0.attentions.0.proj_in` of the U-Net -> `lora_unet_down_blocks_0_attentions_0_proj_in` */
export function kohyaName(part: LoraPart, path: string): string {
  return PREFIXES[part] + path.replaceAll('.', '_');
}

/** The inverse of `kohyaName`, with LDM's names of blocks left as they are; undefined for names of another layout. */
export function fromKohyaName(name: string): { part: LoraPart; path: string } | undefined {
  const plain = name.replace(COUNTED, PREFIXES.textEncoder);
  for (const part of Object.keys(PREFIXES) as LoraPart[]) {
    if (!plain.startsWith(PREFIXES[part])) continue;
    const words = [...plain.slice(PREFIXES[part].length).matchAll(SPLIT)].map((match) => match[1]!);
    return { part, path: words.join('.') };
  }
  return undefined;
}

/** What kohya's names depend on: in files for XL the text encoders are counted, and the U-Net's layers named as SGM does. */
interface KohyaOptions {
  /** Residual blocks on each level of XL's U-Net, by which SGM counts them; 2 in Stable Diffusion XL. */
  layersPerBlock?: number | undefined;
}

/** Whether layers are of Stable Diffusion XL: it has a second text encoder, several transformer layers in a block, and texts of 2,048. */
function isXl(layers: readonly LoraLayer[]): boolean {
  return layers.some(
    ({ part, path, down }) =>
      part === 'textEncoder2' ||
      (part === 'unet' &&
        (/transformer_blocks\.[1-9]|^add_embedding\./.test(path) ||
          (/attn2\.to_[kv]$/.test(path) && down.shape[1] === 2048))),
  );
}

/** @throws UserError for layers of an XL U-Net that SGM has no name for */
function nameFor(layer: LoraLayer, xl: boolean, { layersPerBlock = 2 }: KohyaOptions): string {
  const { part, path } = layer;
  if (!xl) return kohyaName(part, path);
  if (part === 'textEncoder') return kohyaName(part, path).replace('lora_te_', 'lora_te1_');
  if (part !== 'unet') return kohyaName(part, path);
  // all of XL's levels that sample up attend
  const ldm = unetToLdm(`${path}.weight`, { layersPerBlock, attends: [false, true, true] });
  if (ldm !== undefined) return kohyaName(part, ldm.replace(/\.weight$/, ''));
  throw new UserError(
    `layer ${path} — kohya's files for XL have no name for it. Write the adapter in diffusers' layout.`,
  );
}

/**
 * The layers with one alpha in each network, the others' share of it in their up matrices: of several alphas in a file like
 * kohya's, diffusers 0.42 takes the most frequent one for all layers.
 */
export function withOneAlpha(layers: readonly LoraLayer[]): LoraLayer[] {
  const counts = new Map<string, number>();
  const keyOf = ({ part, alpha }: LoraLayer) => `${part} ${alpha}`;
  for (const layer of layers) counts.set(keyOf(layer), (counts.get(keyOf(layer)) ?? 0) + 1);
  const usual = new Map<LoraPart, LoraLayer>();
  for (const layer of layers) {
    const known = usual.get(layer.part);
    if (!known || counts.get(keyOf(layer))! > counts.get(keyOf(known))!) usual.set(layer.part, layer);
  }
  return layers.map((layer) => {
    const { alpha } = usual.get(layer.part)!;
    if (layer.alpha === alpha || alpha === 0) return layer;
    const up = layer.up.to('float32').mul(layer.alpha / alpha);
    return { ...layer, alpha, up: up.to(layer.up.dtype) };
  });
}

/** The tensors of a file, named as kohya's trainers do. */
export function kohyaTensors(layers: readonly LoraLayer[], options: KohyaOptions = {}): StateDict {
  const xl = isXl(layers);
  return new Map(
    layers.flatMap((layer): [string, Tensor][] => {
      const { down, up, alpha } = layer;
      const name = nameFor(layer, xl, options);
      return [
        [`${name}.alpha`, tensor(alpha)],
        [`${name}.lora_down.weight`, down],
        [`${name}.lora_up.weight`, up],
      ];
    }),
  );
}

/**
 * The metadata that viewers and trainers look at: ModelSpec 1.0.0 (architecture, implementation, title, prediction
 * type) and the least of `ss_`. Stable Diffusion XL is told as in `isXl`, 2.x by text features of 1,024 numbers; any other
 * size counts as the architecture of 1.x.
 *
 * @param title of the adapter
 */
export function kohyaMetadata(layers: readonly LoraLayer[], title: string): { [key: string]: string } {
  const xl = isXl(layers);
  const crossAttention = layers.find(({ part, path }) => part === 'unet' && path.endsWith('attn2.to_k'));
  const text = layers.find(({ part, path }) => part === 'textEncoder' && path.endsWith('q_proj'));
  const v2 = !xl && (crossAttention ?? text)?.down.shape[1] === 1024;
  const one = (values: readonly number[]) => (new Set(values).size === 1 ? String(values[0]) : 'Dynamic');
  return {
    format: 'pt',
    'modelspec.sai_model_spec': '1.0.0',
    'modelspec.architecture': `stable-diffusion-${xl ? 'xl-v1-base' : v2 ? 'v2-512' : 'v1'}/lora`,
    'modelspec.implementation': xl ? 'https://github.com/Stability-AI/generative-models' : 'diffusers',
    'modelspec.title': title,
    ss_network_module: 'networks.lora',
    ss_network_dim: one(layers.map(({ down }) => down.shape[0]!)),
    ss_network_alpha: one(layers.map(({ alpha }) => alpha)),
    ss_base_model_version: xl ? 'sdxl_base_v1-0' : v2 ? 'sd_v2' : 'sd_v1',
    ss_v2: v2 ? 'True' : 'False',
  };
}
