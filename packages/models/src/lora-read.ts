/** Reading adapter files of all layouts: layers as they lie in them, without the networks. */

import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import {
  isFloating,
  readSafetensors,
  refuseNonFinite,
  type StateDict,
  scope,
  type Tensor,
  UserError,
} from '@rldf/torch';
import { configAlpha, configRank, PEFT_WEIGHTS, type PeftConfigs, peftConfigs } from './lora-config.js';
import type { LoraLayer, LoraPart } from './lora-files.js';
import { checkFactors, downOf, type Factors, kindOf, rankOf, type WeightLayer } from './lora-kinds.js';
import { type LoraPlace, placeOf, refuseOtherKinds } from './lora-names.js';

/** Of adapters in folders, as diffusers calls it. */
export const LORA_FILE = 'pytorch_lora_weights.safetensors';

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
  const name = [LORA_FILE, PEFT_WEIGHTS].find((name) => names.includes(name)) ?? names[0];
  if (name !== undefined && (name === LORA_FILE || name === PEFT_WEIGHTS || names.length === 1))
    return join(path, name);
  const below = ['adapters', 'unet', 'text_encoder', 'text_encoder_2'].filter((name) =>
    existsSync(join(path, name)),
  );
  throw new UserError(
    `adapter ${path}: ${names.length === 0 ? 'the folder holds no safetensors file' : `the folder holds ${names.sort().join(', ')}`} — ` +
      `one is needed, or ${LORA_FILE}, or ${PEFT_WEIGHTS}. ${below.length === 0 ? 'Name the file.' : `Look below it: ${below.map((name) => join(path, name)).join(', ')}.`}`,
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
