/**
 * LoRA files as kohya-ss/sd-scripts writes them for Stable Diffusion 1.x and 2.x, which ComfyUI, A1111 and diffusers
 * read: names flattened with `_`, alpha as a tensor beside each pair, ModelSpec and `ss_` metadata.
 */

import { type StateDict, type Tensor, tensor } from '@rldf/torch';
import type { LoraLayer, LoraPart } from './lora-files.js';

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
  ...['skip_connection', 'time_embed'],
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

/** The tensors of a file, named as kohya's trainers do. */
export function kohyaTensors(layers: readonly LoraLayer[]): StateDict {
  return new Map(
    layers.flatMap(({ part, path, down, up, alpha }): [string, Tensor][] => {
      const name = kohyaName(part, path);
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
 * type) and the least of `ss_`. Stable Diffusion 2.x is told by text features of 1,024 numbers; any other
 * size counts as the architecture of 1.x.
 *
 * @param title of the adapter
 */
export function kohyaMetadata(layers: readonly LoraLayer[], title: string): { [key: string]: string } {
  const crossAttention = layers.find(({ part, path }) => part === 'unet' && path.endsWith('attn2.to_k'));
  const text = layers.find(({ part, path }) => part === 'textEncoder' && path.endsWith('q_proj'));
  const v2 = (crossAttention ?? text)?.down.shape[1] === 1024;
  const one = (values: readonly number[]) => (new Set(values).size === 1 ? String(values[0]) : 'Dynamic');
  return {
    format: 'pt',
    'modelspec.sai_model_spec': '1.0.0',
    'modelspec.architecture': `stable-diffusion-${v2 ? 'v2-512' : 'v1'}/lora`,
    'modelspec.implementation': 'diffusers',
    'modelspec.title': title,
    ss_network_module: 'networks.lora',
    ss_network_dim: one(layers.map(({ down }) => down.shape[0]!)),
    ss_network_alpha: one(layers.map(({ alpha }) => alpha)),
    ss_base_model_version: v2 ? 'sd_v2' : 'sd_v1',
    ss_v2: v2 ? 'True' : 'False',
  };
}
