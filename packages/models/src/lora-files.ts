import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import {
  type DType,
  isFloating,
  keep,
  type Parameters,
  readSafetensors,
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
import { configAlpha, configRank, PEFT_WEIGHTS, type PeftConfigs, peftConfigs } from './lora-config.js';
import {
  checkFactors,
  checkSize,
  downOf,
  type Factors,
  keepFactors,
  kindOf,
  rankOf,
  type WeightLayer,
  weightUpdate,
} from './lora-kinds.js';
import { kohyaMetadata, kohyaTensors, withOneAlpha } from './lora-kohya.js';
import { LORA_PARTS, type LoraPlace, PREFIXES, placeOf, refuseOtherKinds } from './lora-names.js';

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

const FILE = 'pytorch_lora_weights.safetensors';

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
  const file = path.endsWith('.safetensors') ? path : join(path, FILE);
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
 * The file of an adapter given by file or folder: in a folder diffusers' `pytorch_lora_weights.safetensors`, PEFT's
 * `adapter_model.safetensors`, or the only safetensors file.
 * @throws UserError for what is neither
 */
export function adapterFile(path: string): string {
  if (path.endsWith('.safetensors')) return path;
  if (!existsSync(path)) {
    throw new UserError(`adapter ${path}: there is no such file or folder — check the path.`);
  }
  if (!statSync(path).isDirectory()) {
    throw new UserError(
      `adapter ${path}: is no .safetensors file — adapters are read from safetensors only; others (.bin, .pt, .ckpt) are ` +
        'pickles, which can run code. Convert it to safetensors.',
    );
  }
  const names = readdirSync(path).filter((name) => name.endsWith('.safetensors'));
  const name = [FILE, PEFT_WEIGHTS].find((name) => names.includes(name)) ?? names[0];
  if (name !== undefined && (name === FILE || name === PEFT_WEIGHTS || names.length === 1))
    return join(path, name);
  const below = ['adapters', 'unet', 'text_encoder', 'text_encoder_2'].filter((name) =>
    existsSync(join(path, name)),
  );
  throw new UserError(
    `adapter ${path}: ${names.length === 0 ? 'the folder holds no safetensors file' : `the folder holds ${names.sort().join(', ')}`} — ` +
      `one is needed, or ${FILE}, or ${PEFT_WEIGHTS}. ${below.length === 0 ? 'Name the file.' : `Look below it: ${below.map((name) => join(path, name)).join(', ')}.`}`,
  );
}

export interface ReadLoraOptions {
  /** Residual blocks on each level of the U-Net, by which LDM's names count; 2 in Stable Diffusion. */
  layersPerBlock?: number;
}

/**
 * Reads the layers of a file in any of the known layouts: PEFT's, diffusers' (new and old names) and kohya's, also with LDM's
 * names of blocks.
 *
 * @param path as of `adapterFile`
 * @throws UserError when a tensor belongs to no LoRA that is known, one of two matrices is missing, or a number is not finite
 */
export function readLora(path: string, options: ReadLoraOptions = {}): LoraLayer[] {
  const file = adapterFile(path);
  return scope(() => {
    const { layers, others } = readAdapter(file, options);
    const [other] = others;
    if (other === undefined) return layers;
    throw new UserError(
      `${file}: layer ${other.path} — is of a ${other.kind}, which is no pair of matrices: such adapters are drawn with and merged into a ` +
        'model, not rewritten. Merge it (rldf export --merge), or use a LoRA.',
    );
  });
}

/** As `readLora`, with the layers of other kinds beside: LoHa, LoKr and DoRA, whose tensors are the file's. */
export function readAdapter(
  path: string,
  { layersPerBlock = 2 }: ReadLoraOptions = {},
): { layers: LoraLayer[]; others: WeightLayer[] } {
  const file = adapterFile(path);
  return scope(() => {
    const { tensors, metadata } = readSafetensors(file);
    for (const name of tensors.keys()) refuseOtherKinds(file, name);
    const configs = peftConfigs(file, metadata);
    const found = new Map<string, FoundLayer>();
    for (const [name, tensor, { part, path, key }] of placed(file, tensors, layersPerBlock)) {
      const layer = found.get(`${part} ${path}`) ?? { part, path, factors: {} };
      if (key === 'alpha' ? layer.alpha !== undefined : layer.factors[key] !== undefined) {
        throw new UserError(
          `${file}: tensor ${name} — layer ${path} has two of it under different names. Save the adapter again.`,
        );
      }
      if (key === 'alpha') layer.alpha = tensor.numel === 1 ? tensor.item() : Number.NaN;
      else layer.factors[key] = matrix(file, name, tensor);
      found.set(`${part} ${path}`, layer);
    }
    if (found.size === 0) {
      throw new UserError(
        `${file}: no adapter for the U-Net or the text encoder — nothing to load. Use a LoRA file.`,
      );
    }
    const layers: LoraLayer[] = [];
    const others: WeightLayer[] = [];
    for (const layer of found.values()) {
      const kind = kindOf(layer.factors);
      if (kind === undefined) layers.push(lowRank(file, configs, layer));
      else others.push(wholeWeight(file, configs, layer, kind));
    }
    refuseNonFinite(file, tensors);
    return { layers, others };
  });
}

interface FoundLayer {
  part: LoraPart;
  path: string;
  factors: Factors;
  alpha?: number;
}

function lowRank(file: string, configs: PeftConfigs, layer: FoundLayer): LoraLayer {
  const { part, path, factors } = layer;
  const { down, up } = factors;
  if (!down || !up) {
    throw new UserError(`${file}: layer ${path} — has only one of its two matrices. Save the adapter again.`);
  }
  if (configs.of(part).use_dora === true) {
    throw new UserError(
      `${configs.where}: use_dora is true, but layer ${path} has no lora_magnitude_vector — half of the adapter is missing. Save it again.`,
    );
  }
  if (factors.mid !== undefined) checkFactors(`${file}: layer ${path}`, factors);
  const rank = down.shape[0] ?? 0;
  const alpha = layer.alpha ?? configAlpha(configs, part, path, rank);
  if (rank < 1 || !Number.isFinite(alpha)) {
    throw new UserError(
      `${file}: layer ${path} — rank ${rank} with alpha ${alpha} is no adapter. Save it again.`,
    );
  }
  return { part, path, down: factors.mid === undefined ? down : downOf(factors), up, alpha };
}

function wholeWeight(file: string, configs: PeftConfigs, layer: FoundLayer, kind: string): WeightLayer {
  const { part, path, factors } = layer;
  checkFactors(`${file}: layer ${path}`, factors);
  const own = rankOf(factors);
  const rank = own ?? configRank(configs, part, path);
  // whole matrices have no rank, and beside them LyCORIS's alpha says nothing
  let scale = 1;
  if (own !== undefined && layer.alpha !== undefined) scale = layer.alpha / own;
  else if (layer.alpha === undefined && typeof rank === 'number' && rank > 0)
    scale = configAlpha(configs, part, path, rank) / rank;
  if (Number.isFinite(scale)) return { part, path, kind, factors, scale };
  throw new UserError(
    `${file}: layer ${path} — rank ${rank} with alpha ${layer.alpha} is no adapter. Save it again.`,
  );
}

/** Every tensor and its place. Where a file names layers both as LDM and as diffusers do, diffusers takes its own. */
function placed(
  file: string,
  tensors: StateDict,
  layersPerBlock: number,
): (readonly [name: string, tensor: Tensor, place: LoraPlace])[] {
  const all = [...tensors].map(
    ([name, tensor]) => [name, tensor, placeOf(file, name, layersPerBlock)] as const,
  );
  const own = new Set(
    all.flatMap(([, , { part, path, key, ldm }]) => (ldm ? [] : [`${part} ${path} ${key}`])),
  );
  return all.filter(([, , { part, path, key, ldm }]) => !ldm || !own.has(`${part} ${path} ${key}`));
}

/** @throws UserError for whole numbers, which no adapter's matrices are */
function matrix(file: string, name: string, tensor: Tensor): Tensor {
  if (isFloating(tensor.dtype)) return tensor;
  throw new UserError(
    `${file}: tensor ${name} is ${tensor.dtype} — an adapter's matrices are floating-point numbers. Use it in float32, float16 or bfloat16.`,
  );
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
