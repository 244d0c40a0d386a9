import { mkdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import {
  type DType,
  keep,
  type Parameters,
  readSafetensors,
  type StateDict,
  scope,
  type Tensor,
  UserError,
  writeSafetensors,
} from '@rldf/torch';
import { adaptable, branchShapes, LoraAdapter, type LoraModule } from './lora.js';
import { fromKohyaName, kohyaMetadata, kohyaTensors } from './lora-kohya.js';

/** Adapters of the two networks that can have one. */
export interface LoraPair {
  unet?: LoraAdapter;
  textEncoder?: LoraAdapter;
}

export interface LoraNetworks {
  unet: Parameters;
  textEncoder: Parameters;
}

export type LoraPart = keyof LoraNetworks;

/** One adapted layer as files know it: of which network, where, and what is added to its weight. */
export interface LoraLayer {
  part: LoraPart;
  /** Name of the layer in its network; of the text encoder with `text_model.` in front. */
  path: string;
  /** [rank, in] or [rank, in, k, k] */
  down: Tensor;
  /** [out, rank] or [out, rank, 1, 1] */
  up: Tensor;
  /** The update is alpha / rank · up · down. */
  alpha: number;
}

/**
 * Layouts of adapter files: diffusers' own, PEFT's names with `unet.` and `text_encoder.` in front and ranks and alphas
 * in the metadata; or that of kohya's trainers.
 */
export type LoraFormat = 'diffusers' | 'kohya';

const FILE = 'pytorch_lora_weights.safetensors';
const PREFIXES: { readonly [part in LoraPart]: string } = { unet: 'unet', textEncoder: 'text_encoder' };
const PARTS: readonly LoraPart[] = ['unet', 'textEncoder'];

/**
 * Writes adapters as diffusers' `save_lora_weights` does, so that diffusers scales them as we do. Strength is not part
 * of the file.
 *
 * @param path a `.safetensors` file, or a folder that gets `pytorch_lora_weights.safetensors`
 * @param options `metadata`: more entries for the file's header
 * @returns the file written
 */
export function saveLora(
  path: string,
  adapters: LoraPair,
  options: { dtype?: DType; metadata?: { [key: string]: string }; format?: LoraFormat } = {},
): string {
  const layers = PARTS.flatMap((part) =>
    (adapters[part]?.modules ?? []).map(
      ({ path, branch: { down, up }, alpha }): LoraLayer => ({ part, path, down, up, alpha }),
    ),
  );
  return writeLora(path, layers, options);
}

/** Writes layers of one or both networks into one file. Like `saveLora`, but without the networks. */
export function writeLora(
  path: string,
  layers: readonly LoraLayer[],
  options: { dtype?: DType; metadata?: { [key: string]: string }; format?: LoraFormat } = {},
): string {
  const file = lorafile(path);
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
    const metadata = kohya ? kohyaMetadata(ready, title) : peftMetadata(ready);
    const tensors = kohya ? kohyaTensors(ready) : peftTensors(ready);
    writeSafetensors(file, tensors, { ...options.metadata, ...metadata });
  });
  return file;
}

/**
 * Reads the layers of a file in any of the known layouts: PEFT's, diffusers' (new and old names) and kohya's.
 *
 * @param path a file, or a folder with `pytorch_lora_weights.safetensors`
 * @throws UserError when a tensor belongs to no LoRA that is known, or one of two matrices is missing
 */
export function readLora(path: string): LoraLayer[] {
  const file = lorafile(path);
  return scope(() => {
    const { tensors, metadata } = readSafetensors(file);
    const config = parseConfig(file, metadata.lora_adapter_metadata);
    const found = new Map<string, Partial<LoraLayer> & { part: LoraPart; path: string }>();
    for (const [name, tensor] of tensors) {
      const { part, path, key } = placeOf(file, name);
      const layer = found.get(`${part} ${path}`) ?? { part, path };
      if (key === 'alpha') layer.alpha = tensor.numel === 1 ? tensor.item() : Number.NaN;
      else layer[key] = tensor;
      found.set(`${part} ${path}`, layer);
    }
    if (found.size === 0) {
      throw new UserError(
        `${file}: no adapter for the U-Net or the text encoder — nothing to load. Use a LoRA file.`,
      );
    }
    return [...found.values()].map((layer): LoraLayer => {
      const { part, path, down, up } = layer;
      if (!down || !up) {
        throw new UserError(
          `${file}: layer ${path} — has only one of its two matrices. Save the adapter again.`,
        );
      }
      const rank = down.shape[0] ?? 0;
      const alpha = layer.alpha ?? configAlpha(file, config, part, path, rank);
      if (rank >= 1 && Number.isFinite(alpha)) return { part, path, down, up, alpha };
      throw new UserError(
        `${file}: layer ${path} — rank ${rank} with alpha ${alpha} is no adapter. Save it again.`,
      );
    });
  });
}

/**
 * Loads adapters onto the networks, from files of PEFT, diffusers and kohya's trainers.
 *
 * @param path a file, or a folder with `pytorch_lora_weights.safetensors`
 * @throws UserError when the file does not fit the networks
 */
export function loadLora(path: string, networks: LoraNetworks, strength = 1): LoraPair {
  const file = lorafile(path);
  return scope(() => {
    const modules = readLora(file).map((layer) => ({
      part: layer.part,
      module: toModule(file, layer, networks[layer.part]),
    }));
    const pair: LoraPair = {};
    for (const part of PARTS) {
      const own = modules.filter((entry) => entry.part === part).map(({ module }) => module);
      if (own.length === 0) continue;
      pair[part] = new LoraAdapter(own);
      pair[part].strength = strength;
    }
    return pair;
  });
}

function toModule(file: string, { path, down, up, alpha }: LoraLayer, parameters: Parameters): LoraModule {
  const layer = adaptable(parameters, path, file);
  const { dtype, device } = layer.weight;
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

const ENDINGS: readonly (readonly [ending: RegExp, key: 'down' | 'up' | 'alpha'])[] = [
  [/[._](lora_A(\.default)?|lora_down|lora\.down|lora_linear_layer\.down)\.weight$/, 'down'],
  [/[._](lora_B(\.default)?|lora_up|lora\.up|lora_linear_layer\.up)\.weight$/, 'up'],
  [/\.alpha$/, 'alpha'],
];

/** Layer and role of a tensor, from its name. */
function placeOf(file: string, name: string): { part: LoraPart; path: string; key: 'down' | 'up' | 'alpha' } {
  const ending = ENDINGS.find(([ending]) => ending.test(name));
  const place = ending && locate(name.replace(ending[0], ''));
  if (ending && place) return { ...place, key: ending[1] };
  const other = /hada_|lokr_|dora_scale|lora_magnitude_vector/.exec(name)?.[0];
  throw new UserError(
    `${file}: tensor ${name} — ${
      other === undefined
        ? 'belongs to no layer of the U-Net or the text encoder. Use an adapter made for this architecture'
        : 'is of another kind of adapter (LoHa, LoKr, DoRA); only LoRA is supported. Convert it, or use a LoRA'
    }.`,
  );
}

/** Network and path of a module name in any of the layouts. */
function locate(module: string): { part: LoraPart; path: string } | undefined {
  const kohya = fromKohyaName(module);
  if (kohya) return kohya;
  const part = PARTS.find((part) => module.startsWith(`${PREFIXES[part]}.`));
  if (part === undefined) return undefined;
  const rest = module.slice(PREFIXES[part].length + 1);
  return { part, path: part === 'unet' ? newUnetPath(rest) : newTextPath(rest) };
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

function peftTensors(layers: readonly LoraLayer[]): StateDict {
  return new Map(
    layers.flatMap(({ part, path, down, up }): [string, Tensor][] => [
      [`${PREFIXES[part]}.${path}.lora_A.weight`, down],
      [`${PREFIXES[part]}.${path}.lora_B.weight`, up],
    ]),
  );
}

type PeftConfig = { readonly [key: string]: unknown };

/** The part of PEFT's LoraConfig that its loader needs, under the network's name. */
function peftMetadata(layers: readonly LoraLayer[]): { [key: string]: string } {
  const config = PARTS.map((part) => {
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

/** Alpha by PEFT's config in the file's header; the rank without one. With rsLoRA the update is alpha / sqrt(rank). */
function configAlpha(file: string, config: PeftConfig, part: LoraPart, path: string, rank: number): number {
  const of = (key: string) => config[`${PREFIXES[part]}.${key}`];
  const pattern = (of('alpha_pattern') ?? {}) as { [path: string]: unknown };
  const own = Object.keys(pattern).find((end) => path === end || path.endsWith(`.${end}`));
  const alpha = (own === undefined ? of('lora_alpha') : pattern[own]) ?? rank;
  if (typeof alpha !== 'number' || !Number.isFinite(alpha)) {
    throw new UserError(
      `${file}: lora_adapter_metadata: alpha of ${path} is ${JSON.stringify(alpha)} — must be a number. Save it again.`,
    );
  }
  return of('use_rslora') === true ? alpha * Math.sqrt(rank) : alpha;
}

function parseConfig(file: string, text: string | undefined): PeftConfig {
  if (text === undefined) return {};
  try {
    const config: unknown = JSON.parse(text);
    return typeof config === 'object' && config !== null ? (config as PeftConfig) : {};
  } catch (error) {
    throw new UserError(
      `${file}: lora_adapter_metadata: ${(error as Error).message} — must be JSON. Save it again.`,
    );
  }
}

function lorafile(path: string): string {
  return path.endsWith('.safetensors') ? path : join(path, FILE);
}
