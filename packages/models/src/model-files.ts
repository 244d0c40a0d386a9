/** Where the parts of a model come from: a folder in diffusers' layout, or a single file. */

import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { readSafetensors, type StateDict } from '@rldf/torch';
import { CLIPTokenizer } from './clip-tokenizer.js';
import { readJson } from './files.js';
import { singleFile } from './single-file/read.js';
import { checkVariant, findWeights } from './weight-files.js';

type Json = { [key: string]: unknown };

export type WeightsPart = 'unet' | 'vae' | 'text_encoder' | 'text_encoder_2';

/** The parts of a model as diffusers' folders have them. */
export interface ModelFiles {
  /** Names the model in messages. */
  readonly where: string;
  /** Of `model_index.json`. */
  index(): Json;
  /** A part's configuration, and what to call it in messages. */
  config(part: WeightsPart | 'scheduler'): { config: Json; where: string };
  /** A part's tensors in diffusers' names, and what to call them. In a `scope()`, or the caller's to free. */
  weights(part: WeightsPart): { state: StateDict; where: string };
  tokenizer(part: 'tokenizer' | 'tokenizer_2'): CLIPTokenizer;
  /** Of the weights, as they are stored. */
  bytes(): number;
  /** Of `generation_config.json`; undefined if there is none. */
  generation(): { config: Json; where: string } | undefined;
}

/**
 * What stands for a model: the path of a folder or of a .safetensors file, and after a colon which of several sets of weights is
 * meant: `folder:fp16`, `file.safetensors:ema`.
 */
export interface ModelPath {
  path: string;
  variant?: string;
}

export function parseModelPath(location: string): ModelPath {
  if (existsSync(location)) return { path: location };
  const [, path, variant] = /^(.+):([A-Za-z0-9_.]+)$/.exec(location) ?? [];
  return path !== undefined && variant !== undefined && existsSync(path)
    ? { path, variant }
    : { path: location };
}

/** @throws UserError when nothing of a model is there */
export function openModel(location: string): ModelFiles {
  const { path, variant } = parseModelPath(location);
  const isFile = existsSync(path) && statSync(path).isFile();
  return isFile ? singleFile(path, variant) : modelFolder(path, variant);
}

const NETWORK_FILE = 'diffusion_pytorch_model.safetensors';
const TEXT_FILE = 'model.safetensors';

function modelFolder(folder: string, variant: string | undefined): ModelFiles {
  if (variant !== undefined) checkVariant(join(folder, 'unet'), NETWORK_FILE, variant);
  const json = (where: string) => ({ config: readJson(where), where });
  const weightsOf = (part: WeightsPart) =>
    findWeights(join(folder, part), part.startsWith('text_encoder') ? TEXT_FILE : NETWORK_FILE, variant);
  return {
    where: folder,
    index: () => readJson(join(folder, 'model_index.json')),
    config: (part) =>
      json(join(folder, part, part === 'scheduler' ? 'scheduler_config.json' : 'config.json')),
    weights: (part) => {
      const where = weightsOf(part);
      return { state: readSafetensors(where).tensors, where };
    },
    tokenizer: (part) => CLIPTokenizer.load(join(folder, part)),
    bytes: () =>
      (['unet', 'vae', 'text_encoder', 'text_encoder_2'] as const)
        .filter((part) => existsSync(join(folder, part)))
        .reduce((sum, part) => sum + storedBytes(weightsOf(part)), 0),
    generation: () => {
      const where = join(folder, 'generation_config.json');
      return existsSync(where) ? json(where) : undefined;
    },
  };
}

/** Of a file, or of all shards of an index. */
function storedBytes(weights: string): number {
  if (!weights.endsWith('.json')) return statSync(weights).size;
  const { weight_map: map } = readJson(weights);
  const shards = new Set(Object.values(map ?? {}).map(String));
  return [...shards].reduce((sum, shard) => sum + statSync(join(weights, '..', shard)).size, 0);
}
