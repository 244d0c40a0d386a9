/** CLIP weights under the names of OpenAI's and open_clip's code, which HPSv2 and LAION's models are published with. */

import { cat, type StateDict, shown, type Tensor, UserError } from '@rldf/torch';
import type { CLIPConfig } from './configs.js';

/** Whether a state dict has open_clip's names. */
export function isOpenClip(state: StateDict): boolean {
  return state.has('visual.conv1.weight');
}

interface Sizes {
  vision: { width: number; layers: number; patch: number; heads: number };
  text: { width: number; heads: number };
}

/** Heads cannot be told from weights: those of the published sizes, by the widths of both towers. */
const published: readonly Sizes[] = [
  { vision: { width: 768, layers: 12, patch: 32, heads: 12 }, text: { width: 512, heads: 8 } }, // ViT-B-32
  { vision: { width: 768, layers: 12, patch: 16, heads: 12 }, text: { width: 512, heads: 8 } }, // ViT-B-16
  { vision: { width: 1024, layers: 24, patch: 14, heads: 16 }, text: { width: 768, heads: 12 } }, // ViT-L-14
  { vision: { width: 1280, layers: 32, patch: 14, heads: 16 }, text: { width: 1024, heads: 16 } }, // ViT-H-14
  { vision: { width: 1408, layers: 40, patch: 14, heads: 16 }, text: { width: 1024, heads: 16 } }, // ViT-g-14
  { vision: { width: 1664, layers: 48, patch: 14, heads: 16 }, text: { width: 1280, heads: 20 } }, // ViT-bigG-14
];

/** `model_cfg` of open_clip_config.json, as far as it tells more than the weights do. */
export interface OpenClipConfig {
  quick_gelu?: boolean;
  vision_cfg?: { width?: number; head_width?: number };
  text_cfg?: { heads?: number };
}

/**
 * The config of such weights, key for key as transformers writes it.
 * @param config of the model, where its folder has one
 * @param activation of the MLPs, where there is no config: `gelu`; OpenAI's own weights want `quick_gelu`
 * @throws UserError for weights of another kind, or of a size that is none of the published ones and has no config
 */
export function openClipConfigOf(
  state: StateDict,
  where: string,
  config: OpenClipConfig = {},
  activation = config.quick_gelu === true ? 'quick_gelu' : 'gelu',
): CLIPConfig {
  const shapeOf = (name: string): number[] => {
    const found = state.get(name);
    if (found !== undefined) return found.shape;
    throw new UserError(
      `${where}: tensor "${name}" is missing — not the weights of a CLIP with a vision transformer. Use one of ViT-B/32, L/14, H/14 or bigG.`,
    );
  };
  const [width = 0, , patch = 0] = shapeOf('visual.conv1.weight');
  const [positions = 0] = shapeOf('visual.positional_embedding');
  const [vocabulary = 0, textWidth = 0] = shapeOf('token_embedding.weight');
  const layers = (prefix: string) => {
    let count = 0;
    while (state.has(`${prefix}transformer.resblocks.${count}.ln_1.weight`)) count++;
    return count;
  };
  const [visionLayers, textLayers] = [layers('visual.'), layers('')];
  const known = published.find(
    ({ vision, text }) =>
      vision.width === width &&
      vision.patch === patch &&
      vision.layers === visionLayers &&
      text.width === textWidth,
  );
  const headWidth = config.vision_cfg?.head_width ?? (config.vision_cfg === undefined ? undefined : 64);
  const heads = {
    vision: headWidth === undefined ? known?.vision.heads : width / headWidth,
    text: config.text_cfg?.heads ?? known?.text.heads,
  };
  if (heads.vision === undefined || heads.text === undefined) {
    throw new UserError(
      `${where}: a vision tower of ${visionLayers} layers of ${width} with patches of ${patch}, and a text tower of ${textWidth} — none of the published sizes, and how many heads they have cannot be told from weights. Put the model's open_clip_config.json beside the file.`,
    );
  }
  const inner = (prefix: string) => shapeOf(`${prefix}transformer.resblocks.0.mlp.c_fc.weight`)[0] ?? 0;
  return {
    projection_dim: shapeOf('visual.proj')[1] ?? 0,
    vision_config: {
      hidden_size: width,
      intermediate_size: inner('visual.'),
      num_hidden_layers: visionLayers,
      num_attention_heads: heads.vision,
      hidden_act: activation,
      image_size: Math.round(Math.sqrt(positions - 1)) * patch,
      patch_size: patch,
    },
    text_config: {
      hidden_size: textWidth,
      intermediate_size: inner(''),
      num_hidden_layers: textLayers,
      num_attention_heads: heads.text,
      hidden_act: activation,
      vocab_size: vocabulary,
      max_position_embeddings: shapeOf('positional_embedding')[0] ?? 77,
      eos_token_id: vocabulary - 1, // open_clip takes the state at the highest id
    },
  };
}

/** Buffers that old files carry along. */
const constants = /^(attn_mask|input_resolution|context_length|vocab_size|visual\.attn_mask)$/;

/** open_clip's names -> transformers'. The joint projections of attention are cut in three, matrices that are applied from the right turned. */
export function fromOpenClip(state: StateDict, where: string): StateDict {
  const renamed: StateDict = new Map();
  for (const [name, tensor] of state) {
    if (constants.test(name)) continue;
    for (const [own, value] of renameOne(name, tensor, where)) renamed.set(own, value);
  }
  return renamed;
}

const whole: ReadonlyMap<string, string> = new Map([
  ['logit_scale', 'logit_scale'],
  ['visual.class_embedding', 'vision_model.embeddings.class_embedding'],
  ['visual.conv1.weight', 'vision_model.embeddings.patch_embedding.weight'],
  ['visual.positional_embedding', 'vision_model.embeddings.position_embedding.weight'],
  ['visual.ln_pre.weight', 'vision_model.pre_layrnorm.weight'],
  ['visual.ln_pre.bias', 'vision_model.pre_layrnorm.bias'],
  ['visual.ln_post.weight', 'vision_model.post_layernorm.weight'],
  ['visual.ln_post.bias', 'vision_model.post_layernorm.bias'],
  ['token_embedding.weight', 'text_model.embeddings.token_embedding.weight'],
  ['positional_embedding', 'text_model.embeddings.position_embedding.weight'],
  ['ln_final.weight', 'text_model.final_layer_norm.weight'],
  ['ln_final.bias', 'text_model.final_layer_norm.bias'],
]);

const turned: ReadonlyMap<string, string> = new Map([
  ['visual.proj', 'visual_projection.weight'],
  ['text_projection', 'text_projection.weight'],
]);

const inLayer: ReadonlyMap<string, string> = new Map([
  ['ln_1', 'layer_norm1'],
  ['ln_2', 'layer_norm2'],
  ['attn.out_proj', 'self_attn.out_proj'],
  ['mlp.c_fc', 'mlp.fc1'],
  ['mlp.c_proj', 'mlp.fc2'],
]);

function renameOne(name: string, tensor: Tensor, where: string): [string, Tensor][] {
  const plain = whole.get(name);
  if (plain !== undefined) return [[plain, tensor]];
  const matrix = turned.get(name);
  if (matrix !== undefined) return [[matrix, tensor.transpose(0, 1)]];
  const [, vision, layer, inner = ''] = /^(visual\.)?transformer\.resblocks\.(\d+)\.(.+)$/.exec(name) ?? [];
  const path = `${vision === undefined ? 'text_model' : 'vision_model'}.encoder.layers.${layer}`;
  const joint = /^attn\.in_proj_(weight|bias)$/.exec(inner)?.[1];
  if (joint !== undefined) {
    const size = (tensor.shape[0] ?? 0) / 3;
    return ['q_proj', 'k_proj', 'v_proj'].map((part, i) => [
      `${path}.self_attn.${part}.${joint}`,
      tensor.narrow(0, i * size, size),
    ]);
  }
  const [, stem = '', kind] = /^(.+)\.(weight|bias)$/.exec(inner) ?? [];
  const own = inLayer.get(stem);
  if (layer !== undefined && own !== undefined) return [[`${path}.${own}.${kind}`, tensor]];
  throw new UserError(
    `${where}: tensor ${shown(name)} is not known — of open_clip's models those with plain towers are read (ViT-B/32, L/14, H/14, bigG). Use one of these.`,
  );
}

/**
 * The inverse of `fromOpenClip` for a text tower; tensors that open_clip has no name for keep theirs.
 * New tensors are of the current `scope()`.
 */
export function textToOpenClip(state: StateDict): StateDict {
  const renamed: StateDict = new Map();
  for (const [name, tensor] of state) {
    const projection = /^text_model\.encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)$/.exec(
      name,
    );
    if (projection !== null) {
      const [, layer, which, kind] = projection;
      if (which !== 'q') continue; // the three become one
      const parts = ['q', 'k', 'v'].map((part) => state.get(name.replace('.q_proj.', `.${part}_proj.`))!);
      renamed.set(`transformer.resblocks.${layer}.attn.in_proj_${kind}`, cat(parts, 0));
    } else if (name === 'text_projection.weight') {
      renamed.set('text_projection', tensor.transpose(0, 1).contiguous());
    } else renamed.set(textName(name) ?? name, tensor);
  }
  return renamed;
}

function textName(name: string): string | undefined {
  const known = [...whole].find(([, own]) => own === name)?.[0];
  if (known !== undefined) return known;
  const [, layer, stem, kind] = /^text_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name) ?? [];
  const theirs = [...inLayer].find(([, own]) => own === stem)?.[0];
  return theirs && `transformer.resblocks.${layer}.${theirs}.${kind}`;
}
