import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
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
import { adaptable, LoraAdapter, type LoraModule } from './lora.js';

/** Adapters of the two networks that can have one. */
export interface LoraPair {
  unet?: LoraAdapter;
  textEncoder?: LoraAdapter;
}

export interface LoraNetworks {
  unet: Parameters;
  textEncoder: Parameters;
}

type Part = keyof LoraNetworks;

const FILE = 'pytorch_lora_weights.safetensors';
const PREFIXES: { readonly [part in Part]: string } = { unet: 'unet', textEncoder: 'text_encoder' };
const KOHYA_PREFIXES: { readonly [part in Part]: string } = { unet: 'lora_unet_', textEncoder: 'lora_te_' };
const PARTS: readonly Part[] = ['unet', 'textEncoder'];

/**
 * Writes adapters as diffusers' `save_lora_weights` does: PEFT's names with `unet.` and `text_encoder.` in front,
 * ranks and alphas in the metadata, so that diffusers scales them as we do. Strength is not part of the file.
 *
 * @param path a `.safetensors` file, or a folder that gets `pytorch_lora_weights.safetensors`
 * @param options `metadata`: more entries for the file's header
 * @returns the file written
 */
export function saveLora(
  path: string,
  adapters: LoraPair,
  options: { dtype?: DType; metadata?: { [key: string]: string } } = {},
): string {
  const file = lorafile(path);
  mkdirSync(dirname(file), { recursive: true });
  scope(() => {
    const tensors: StateDict = new Map();
    let config = {};
    for (const part of PARTS) {
      const adapter = adapters[part];
      if (!adapter) continue;
      for (const [name, tensor] of adapter.state()) {
        tensors.set(
          `${PREFIXES[part]}.${name}`,
          tensor
            .detach()
            .to(options.dtype ?? tensor.dtype)
            .contiguous(),
        );
      }
      config = { ...config, ...peftConfig(PREFIXES[part], adapter) };
    }
    const metadata = { ...options.metadata, format: 'pt', lora_adapter_metadata: JSON.stringify(config) };
    writeSafetensors(file, tensors, metadata);
  });
  return file;
}

/**
 * Loads adapters onto the networks: files of PEFT, diffusers (new and old names) and kohya's trainers.
 *
 * @param path a file, or a folder with `pytorch_lora_weights.safetensors`
 * @throws UserError when the file does not fit the networks
 */
export function loadLora(path: string, networks: LoraNetworks, strength = 1): LoraPair {
  const file = lorafile(path);
  return scope(() => {
    const { tensors, metadata } = readSafetensors(file);
    const config = parseConfig(file, metadata.lora_adapter_metadata);
    const halves = new Map<string, Half>();
    for (const [name, tensor] of tensors) placeTensor(file, name, tensor, networks, halves);

    const pair: LoraPair = {};
    for (const part of PARTS) {
      const own = [...halves.values()].filter((half) => half.part === part);
      if (own.length === 0) continue;
      const modules = own.map((half) => toModule(file, half, networks[part], config));
      pair[part] = new LoraAdapter(modules);
      pair[part].strength = strength;
    }
    if (pair.unet || pair.textEncoder) return pair;
    throw new UserError(
      `${file}: no adapter for the U-Net or the text encoder — nothing to load. Use a LoRA file.`,
    );
  });
}

/** What a file says of one layer, while it is being read. */
interface Half {
  part: Part;
  path: string;
  down?: Tensor;
  up?: Tensor;
  alpha?: number;
}

const ENDINGS: readonly (readonly [ending: RegExp, key: 'down' | 'up' | 'alpha'])[] = [
  [/\.(lora_A(\.default)?|lora_down|lora\.down|lora_linear_layer\.down)\.weight$/, 'down'],
  [/\.(lora_B(\.default)?|lora_up|lora\.up|lora_linear_layer\.up)\.weight$/, 'up'],
  [/\.alpha$/, 'alpha'],
];

function placeTensor(
  file: string,
  name: string,
  tensor: Tensor,
  networks: LoraNetworks,
  halves: Map<string, Half>,
): void {
  const found = ENDINGS.find(([ending]) => ending.test(name));
  const place = found && locate(name.replace(found[0], ''), networks);
  if (!found || !place) {
    throw new UserError(
      `${file}: tensor ${name} — belongs to no layer of the U-Net or the text encoder. ` +
        'Use an adapter made for this architecture.',
    );
  }
  const id = `${place.part} ${place.path}`;
  const half: Half = halves.get(id) ?? place;
  if (found[1] === 'alpha') half.alpha = tensor.item();
  else half[found[1]] = tensor;
  halves.set(id, half);
}

/** Network and path of a module name in any of the layouts. */
function locate(module: string, networks: LoraNetworks): { part: Part; path: string } | undefined {
  for (const part of PARTS) {
    const { layers } = networks[part];
    if (module.startsWith(KOHYA_PREFIXES[part])) {
      const flat = module.slice(KOHYA_PREFIXES[part].length);
      const path = [...layers.keys()].find((candidate) => candidate.replaceAll('.', '_') === flat);
      if (path !== undefined) return { part, path };
    }
    if (module.startsWith(`${PREFIXES[part]}.`)) {
      const rest = module.slice(PREFIXES[part].length + 1);
      // transformers 5 names the text tower's layers without `text_model.`
      const path = [rest, `text_model.${rest}`].find((candidate) => layers.has(candidate));
      if (path !== undefined) return { part, path };
    }
  }
  return undefined;
}

function toModule(file: string, half: Half, parameters: Parameters, config: PeftConfig): LoraModule {
  const { part, path, down, up } = half;
  const linear = adaptable(parameters, path, file);
  if (!down || !up) {
    throw new UserError(`${file}: layer ${path} — has only one of its two matrices. Save the adapter again.`);
  }
  const rank = down.shape[0]!;
  const { dtype, device } = linear.weight;
  const load = (matrix: Tensor, shape: readonly number[]) => {
    if (`${matrix.shape}` === `${shape}`) return keep(matrix.to({ dtype, device }).clone());
    throw new UserError(
      `${file}: layer ${path} — a matrix has shape [${matrix.shape}], expected [${shape}]. ` +
        'Use an adapter made for this model.',
    );
  };
  const branch = {
    down: load(down, [rank, linear.inFeatures]),
    up: load(up, [linear.outFeatures, rank]),
    scale: 1,
  };
  const alpha = half.alpha ?? configAlpha(config, PREFIXES[part], path) ?? rank;
  return { path, linear, branch, rank, alpha };
}

type PeftConfig = { readonly [key: string]: unknown };

/** PEFT's `LoraConfig`, each key with the network's prefix. */
function peftConfig(prefix: string, { modules }: LoraAdapter): PeftConfig {
  const { rank, alpha } = modules[0]!;
  const path = (module: LoraModule) => module.path.replace(/^text_model\./, ''); // as transformers 5 names them
  const pattern = (key: 'rank' | 'alpha', usual: number) =>
    Object.fromEntries(modules.filter((m) => m[key] !== usual).map((m) => [path(m), m[key]]));
  return {
    [`${prefix}.r`]: rank,
    [`${prefix}.lora_alpha`]: alpha,
    [`${prefix}.rank_pattern`]: pattern('rank', rank),
    [`${prefix}.alpha_pattern`]: pattern('alpha', alpha),
    [`${prefix}.target_modules`]: modules.map(path),
  };
}

function configAlpha(config: PeftConfig, prefix: string, path: string): number | undefined {
  const pattern = (config[`${prefix}.alpha_pattern`] ?? {}) as { [path: string]: number };
  const own = Object.keys(pattern).find((end) => path === end || path.endsWith(`.${end}`));
  return own === undefined ? (config[`${prefix}.lora_alpha`] as number | undefined) : pattern[own];
}

function parseConfig(file: string, text: string | undefined): PeftConfig {
  if (text === undefined) return {};
  try {
    return JSON.parse(text) as PeftConfig;
  } catch (error) {
    throw new UserError(
      `${file}: lora_adapter_metadata: ${(error as Error).message} — must be JSON. Save it again.`,
    );
  }
}

function lorafile(path: string): string {
  return path.endsWith('.safetensors') ? path : join(path, FILE);
}
