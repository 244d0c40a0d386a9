/**
 * What the tensors of single-file checkpoints are called: the names of the first Stable Diffusion code (LDM; SGM for XL), and
 * diffusers' names of the same tensors. Each pair of functions is an inverse of the other.
 */

/** How LDM's numbers of a U-Net's blocks are counted. */
export interface UNetLayout {
  layersPerBlock: number;
  /** Whether each level attends, the highest resolution first: sampling up comes after the attention. */
  attends: readonly boolean[];
}

type Pair = readonly [ldm: string, diffusers: string];

const UNET_OUTSIDE: readonly Pair[] = [
  ['time_embed.0', 'time_embedding.linear_1'],
  ['time_embed.2', 'time_embedding.linear_2'],
  ['label_emb.0.0', 'add_embedding.linear_1'],
  ['label_emb.0.2', 'add_embedding.linear_2'],
  ['input_blocks.0.0', 'conv_in'],
  ['out.0', 'conv_norm_out'],
  ['out.2', 'conv_out'],
];
const UNET_RESNET: readonly Pair[] = [
  ['in_layers.0', 'norm1'],
  ['in_layers.2', 'conv1'],
  ['emb_layers.1', 'time_emb_proj'],
  ['out_layers.0', 'norm2'],
  ['out_layers.3', 'conv2'],
  ['skip_connection', 'conv_shortcut'],
];
const VAE_OUTSIDE: readonly Pair[] = ['encoder', 'decoder'].flatMap((side): Pair[] => [
  [`${side}.norm_out`, `${side}.conv_norm_out`],
  ...['conv_in', 'conv_out'].map((name): Pair => [`${side}.${name}`, `${side}.${name}`]),
]);
const VAE_ATTENTION: readonly Pair[] = [
  ['norm', 'group_norm'],
  ['q', 'to_q'],
  ['k', 'to_k'],
  ['v', 'to_v'],
  ['proj_out', 'to_out.0'],
];
const toDiffusers = (pairs: readonly Pair[], name: string) => pairs.find(([ldm]) => ldm === name)?.[1];
const toLdm = (pairs: readonly Pair[], name: string) =>
  pairs.find(([, diffusers]) => diffusers === name)?.[0];

/** Module and leaf of a name that ends in one. */
function parted(name: string): readonly [module: string, leaf: string] | undefined {
  const end = /^(.+)\.(weight|bias)$/.exec(name);
  return end === null ? undefined : [end[1]!, end[2]!];
}

/** `input_blocks.1.0.in_layers.2.weight` -> `down_blocks.0.resnets.0.conv1.weight`; undefined for what is no such name. */
export function unetFromLdm(name: string, layersPerBlock: number): string | undefined {
  const [module, leaf] = parted(name) ?? [];
  if (module === undefined) return undefined;
  const path = toDiffusers(UNET_OUTSIDE, module) ?? blockFromLdm(module, layersPerBlock);
  return path === undefined ? undefined : `${path}.${leaf}`;
}

/** A block is a residual one, or one that samples down, then attention, then sampling up; the middle has attention between two. */
function blockFromLdm(module: string, layersPerBlock: number): string | undefined {
  const match = /^(?:(input|output)_blocks\.(\d+)|middle_block)\.(\d+)\.(.+)$/.exec(module);
  if (match === null) return undefined;
  const [, side, block, place, rest = ''] = match;
  const resnet = toDiffusers(UNET_RESNET, rest);
  const inner = resnet === undefined ? 'attentions' : 'resnets';
  if (side === undefined)
    return resnet === undefined && place !== '1'
      ? undefined
      : `mid_block.${inner}.${Math.floor(Number(place) / 2)}.${resnet ?? rest}`;
  const count = layersPerBlock + 1;
  const number = Number(block) - (side === 'input' ? 1 : 0);
  const level = Math.floor(number / count);
  if (side === 'input' && place === '0' && rest === 'op') return `down_blocks.${level}.downsamplers.0.conv`;
  if (side === 'output' && rest === 'conv') return `up_blocks.${level}.upsamplers.0.conv`;
  if (place !== (resnet === undefined ? '1' : '0') || rest === 'op' || rest === 'conv') return undefined;
  return `${side === 'input' ? 'down' : 'up'}_blocks.${level}.${inner}.${number % count}.${resnet ?? rest}`;
}

/** The inverse of `unetFromLdm`; undefined for layers that LDM's networks have not. */
export function unetToLdm(name: string, { layersPerBlock, attends }: UNetLayout): string | undefined {
  const [module, leaf] = parted(name) ?? [];
  if (module === undefined) return undefined;
  const outside = toLdm(UNET_OUTSIDE, module);
  if (outside !== undefined) return `${outside}.${leaf}`;
  const match =
    /^(?:(down|up)_blocks\.(\d+)|mid_block)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)$/.exec(
      module,
    );
  if (match === null) return undefined;
  const [, side, step, kind, index, rest = ''] = match;
  const inner = kind === 'resnets' ? toLdm(UNET_RESNET, rest) : rest;
  if (inner === undefined) return undefined;
  if (side === undefined) {
    const place = kind === 'resnets' ? 2 * Number(index) : 1;
    return `middle_block.${place}.${inner}.${leaf}`;
  }
  const count = layersPerBlock + 1;
  if (kind === 'downsamplers') return `input_blocks.${(Number(step) + 1) * count}.0.op.${leaf}`;
  if (kind === 'upsamplers') {
    const place = attends[attends.length - 1 - Number(step)] ? 2 : 1;
    return `output_blocks.${Number(step) * count + layersPerBlock}.${place}.conv.${leaf}`;
  }
  const number = Number(step) * count + Number(index) + (side === 'down' ? 1 : 0);
  return `${side === 'down' ? 'input' : 'output'}_blocks.${number}.${kind === 'resnets' ? 0 : 1}.${inner}.${leaf}`;
}

/** `decoder.up.3.block.0.conv1.weight` -> `decoder.up_blocks.0.resnets.0.conv1.weight`; undefined for what is no such name. */
export function vaeFromLdm(name: string, levels: number): string | undefined {
  const [module, leaf] = parted(name) ?? [];
  if (module === undefined) return undefined;
  const path = vaeModuleFromLdm(module, levels);
  return path === undefined ? undefined : `${path}.${leaf}`;
}

function vaeModuleFromLdm(module: string, levels: number): string | undefined {
  if (module === 'quant_conv' || module === 'post_quant_conv') return module;
  const outside = toDiffusers(VAE_OUTSIDE, module);
  if (outside !== undefined) return outside;
  const [, side, middle, block] = /^(encoder|decoder)\.mid\.(attn_1|block_[12])\.(.+)$/.exec(module) ?? [];
  if (side !== undefined && middle === 'attn_1') {
    const inner = toDiffusers(VAE_ATTENTION, block!);
    return inner && `${side}.mid_block.attentions.0.${inner}`;
  }
  if (side !== undefined)
    return `${side}.mid_block.resnets.${Number(middle!.at(-1)) - 1}.${resnetFromLdm(block!)}`;
  const match = /^(encoder\.down|decoder\.up)\.(\d+)\.(?:block\.(\d+)\.(.+)|(?:down|up)sample\.conv)$/.exec(
    module,
  );
  if (match === null) return undefined;
  const [, half, level, index, rest] = match;
  const down = half === 'encoder.down';
  const place = down ? `encoder.down_blocks.${level}` : `decoder.up_blocks.${levels - 1 - Number(level)}`;
  if (index === undefined) return `${place}.${down ? 'down' : 'up'}samplers.0.conv`;
  return `${place}.resnets.${index}.${resnetFromLdm(rest!)}`;
}

/** The inverse of `vaeFromLdm`. */
export function vaeToLdm(name: string, levels: number): string | undefined {
  const [module, leaf] = parted(name) ?? [];
  if (module === undefined) return undefined;
  if (module === 'quant_conv' || module === 'post_quant_conv') return name;
  const outside = toLdm(VAE_OUTSIDE, module);
  if (outside !== undefined) return `${outside}.${leaf}`;
  const [, side, kind, index, rest] =
    /^(encoder|decoder)\.mid_block\.(resnets|attentions)\.(\d)\.(.+)$/.exec(module) ?? [];
  if (side !== undefined && kind === 'attentions') {
    const inner = toLdm(VAE_ATTENTION, rest!);
    return inner && `${side}.mid.attn_1.${inner}.${leaf}`;
  }
  if (side !== undefined) return `${side}.mid.block_${Number(index) + 1}.${resnetToLdm(rest!)}.${leaf}`;
  const match =
    /^(encoder\.down|decoder\.up)_blocks\.(\d+)\.(?:resnets\.(\d+)\.(.+)|(?:down|up)samplers\.0\.conv)$/.exec(
      module,
    );
  if (match === null) return undefined;
  const [, half, step, block, layer] = match;
  const place = half === 'encoder.down' ? `${half}.${step}` : `${half}.${levels - 1 - Number(step)}`;
  if (block === undefined) return `${place}.${half === 'encoder.down' ? 'down' : 'up'}sample.conv.${leaf}`;
  return `${place}.block.${block}.${resnetToLdm(layer!)}.${leaf}`;
}

const resnetFromLdm = (layer: string) => (layer === 'nin_shortcut' ? 'conv_shortcut' : layer);
const resnetToLdm = (layer: string) => (layer === 'conv_shortcut' ? 'nin_shortcut' : layer);

/** Whether a VAE's tensor is a 1 x 1 convolution in LDM and a linear layer in diffusers. */
export const isVaeAttention = (diffusersName: string): boolean =>
  /\.mid_block\.attentions\.0\.to_(q|k|v|out\.0)\.weight$/.test(diffusersName);

/** LDM's copies of a U-Net's moving average are called as the originals without their dots. */
export const emaName = (name: string): string => `model_ema.diffusion_model${name.replaceAll('.', '')}`;
