import { mkdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import {
  type DType,
  keep,
  type Parameters,
  refuseNonFinite,
  type StateDict,
  scope,
  type Tensor,
  UserError,
  writeSafetensors,
} from '@rldf/torch';
import {
  adaptable,
  adapterType,
  branchShapes,
  LoraAdapter,
  type LoraModule,
  type WeightModule,
} from './lora.js';
import { checkSize, keepFactors, type WeightLayer, weightUpdate } from './lora-kinds.js';
import { kohyaMetadata, kohyaTensors, withOneAlpha } from './lora-kohya.js';
import { LORA_PARTS, PREFIXES } from './lora-names.js';
import { adapterFile, LORA_FILE, readAdapter } from './lora-read.js';

/** The networks that can have an adapter; XL has a second text encoder. */
export interface LoraNetworks {
  unet: Parameters;
  textEncoder: Parameters;
  textEncoder2?: Parameters;
}

/** Adapters of the networks. */
export type LoraPair = { [part in LoraPart]?: LoraAdapter };

export type LoraPart = keyof LoraNetworks;

/** One adapted layer as files know it: of which network, where, and what is added to its weight. */
export interface LoraLayer {
  part: LoraPart;
  /** Name of the layer in its network; of a text encoder with `text_model.` in front. */
  path: string;
  /** [rank, in] or [rank, in, k, k] */
  down: Tensor;
  /** [out, rank] or [out, rank, 1, 1] */
  up: Tensor;
  /** The update is alpha / rank · up · down. */
  alpha: number;
}

/**
 * Layouts of adapter files: diffusers' own, PEFT's names with `unet.`, `text_encoder.` or `text_encoder_2.` in front and ranks and
 * alphas in the metadata; or that of kohya's trainers.
 */
export type LoraFormat = 'diffusers' | 'kohya';

export interface WriteLoraOptions {
  dtype?: DType;
  /** More entries for the file's header. */
  metadata?: { [key: string]: string };
  format?: LoraFormat;
  /** Of XL's U-Net in kohya's layout; 2 by default. */
  layersPerBlock?: number;
}

/**
 * Writes adapters as diffusers' `save_lora_weights` does, so that diffusers scales them as we do. Strength is not part
 * of the file.
 *
 * @param path a `.safetensors` file, or a folder that gets `pytorch_lora_weights.safetensors`
 * @param options `metadata`: more entries for the file's header
 * @returns the file written
 */
export function saveLora(path: string, adapters: LoraPair, options: WriteLoraOptions = {}): string {
  const layers = LORA_PARTS.flatMap((part) =>
    (adapters[part]?.modules ?? []).map(
      ({ path, branch: { down, up }, alpha }): LoraLayer => ({ part, path, down, up, alpha }),
    ),
  );
  return writeLora(path, layers, options);
}

/** Writes layers of one or more networks into one file. Like `saveLora`, but without the networks. */
export function writeLora(
  path: string,
  layers: readonly LoraLayer[],
  options: WriteLoraOptions = {},
): string {
  const file = path.endsWith('.safetensors') ? path : join(path, LORA_FILE);
  mkdirSync(dirname(file), { recursive: true });
  scope(() => {
    const ready = layers.map((layer) => {
      const stored = (matrix: Tensor) =>
        matrix
          .detach()
          .to({ dtype: options.dtype ?? matrix.dtype, device: 'cpu' })
          .contiguous();
      return { ...layer, down: stored(layer.down), up: stored(layer.up) };
    });
    const kohya = options.format === 'kohya';
    const title = basename(file, '.safetensors');
    const ofKohya = kohya ? withOneAlpha(ready) : [];
    const metadata = kohya ? kohyaMetadata(ofKohya, title) : peftMetadata(ready);
    const tensors = kohya ? kohyaTensors(ofKohya, options) : peftTensors(ready);
    refuseNonFinite(
      file,
      tensors,
      'nothing was written. Use smaller strengths, float32, or an adapter of before the training diverged.',
    );
    writeSafetensors(file, tensors, { ...options.metadata, ...metadata });
  });
  return file;
}

/**
 * Loads adapters onto the networks, from files of PEFT, diffusers and kohya's trainers.
 *
 * @param path as of `adapterFile`
 * @throws UserError when the file does not fit the networks
 */
export function loadLora(path: string, networks: LoraNetworks, strength = 1): LoraPair {
  const file = adapterFile(path);
  return scope(() => {
    const { layers, others } = readAdapter(file, { layersPerBlock: layersPerBlockOf(networks.unet) });
    const modules = layers.map((layer) => ({
      part: layer.part,
      module: toModule(file, layer, networkOf(file, layer, networks)),
    }));
    const updates = others.map((layer) => ({
      part: layer.part,
      module: toUpdate(file, layer, networkOf(file, layer, networks)),
    }));
    const pair: LoraPair = {};
    for (const part of LORA_PARTS) {
      const own = modules.filter((entry) => entry.part === part).map(({ module }) => module);
      const whole = updates.filter((entry) => entry.part === part).map(({ module }) => module);
      if (own.length + whole.length === 0) continue;
      pair[part] = new LoraAdapter(own, whole);
      pair[part].strength = strength;
    }
    return pair;
  });
}

/** Residual blocks on the U-Net's first level. */
function layersPerBlockOf(unet: Parameters): number {
  let count = 0;
  while (unet.layers.has(`down_blocks.0.resnets.${count}.conv1`)) count++;
  return Math.max(1, count);
}

function networkOf(
  file: string,
  { part, path }: LoraLayer | WeightLayer,
  networks: LoraNetworks,
): Parameters {
  const network = networks[part];
  if (network !== undefined) return network;
  throw new UserError(
    `${file}: layer ${path} — is for a second text encoder, as Stable Diffusion XL has, which this model has not. ` +
      'Use an adapter made for this architecture.',
  );
}

function toModule(file: string, { path, down, up, alpha }: LoraLayer, parameters: Parameters): LoraModule {
  const layer = adaptable(parameters, path, file);
  const { device } = layer.weight;
  const dtype = adapterType(layer);
  const rank = down.shape[0]!;
  const shapes = branchShapes(layer, rank);
  const load = (matrix: Tensor, shape: readonly number[]) => {
    // a convolution of kernel 1 is a linear layer, and files have it as either
    const squeezed = (sizes: readonly number[]) =>
      `${sizes.length > 2 && sizes.slice(2).every((size) => size === 1) ? sizes.slice(0, 2) : sizes}`;
    if (squeezed(matrix.shape) === squeezed(shape)) {
      return keep(matrix.reshape(shape).to({ dtype, device }).clone());
    }
    throw new UserError(
      `${file}: layer ${path} — a matrix has shape [${matrix.shape}], expected [${shape}]. ` +
        'Use an adapter made for this model.',
    );
  };
  const branch = { down: load(down, shapes.down), up: load(up, shapes.up), scale: 1 };
  return { path, layer, branch, rank, alpha };
}

/** The tensors of the update are copied to where the weight is. */
function toUpdate(file: string, layer: WeightLayer, parameters: Parameters): WeightModule {
  const { path } = layer;
  const target = adaptable(parameters, path, file);
  const where = `${file}: layer ${path}`;
  checkSize(where, layer.factors, target.weight);
  const { device } = target.weight;
  const factors = keepFactors(layer.factors, device);
  const of = (original: Tensor) => weightUpdate({ ...layer, factors }, original);
  return { path, layer: target, update: { tensors: Object.values(factors), of, scale: 1 } };
}

function peftTensors(layers: readonly LoraLayer[]): StateDict {
  return new Map(
    layers.flatMap(({ part, path, down, up }): [string, Tensor][] => [
      [`${PREFIXES[part]}.${path}.lora_A.weight`, down],
      [`${PREFIXES[part]}.${path}.lora_B.weight`, up],
    ]),
  );
}

/** The part of PEFT's LoraConfig that its loader needs, under the network's name. */
function peftMetadata(layers: readonly LoraLayer[]): { [key: string]: string } {
  const config = LORA_PARTS.map((part) => {
    const own = layers
      .filter((layer) => layer.part === part)
      .map(({ path, down, alpha }) => ({
        path: path.replace(/^text_model\./, ''), // as transformers 5 names them
        rank: down.shape[0]!,
        alpha,
      }));
    if (own.length === 0) return {};
    const { rank, alpha } = own[0]!;
    const pattern = (key: 'rank' | 'alpha', usual: number) =>
      Object.fromEntries(
        own.filter((layer) => layer[key] !== usual).map((layer) => [layer.path, layer[key]]),
      );
    const prefix = PREFIXES[part];
    return {
      [`${prefix}.r`]: rank,
      [`${prefix}.lora_alpha`]: alpha,
      [`${prefix}.rank_pattern`]: pattern('rank', rank),
      [`${prefix}.alpha_pattern`]: pattern('alpha', alpha),
      [`${prefix}.target_modules`]: own.map(({ path }) => path),
    };
  });
  return { format: 'pt', lora_adapter_metadata: JSON.stringify(Object.assign({}, ...config)) };
}
