/** Which files of a repository a model needs: the parts that rldf reads, and of each the weights of one variant. */

import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { chooseWeights, readJson } from '@rldf/models';
import { shown, UserError } from '@rldf/torch/errors';
import { type HubId, hubName, isPlainPath } from './id.js';

type Json = { readonly [key: string]: unknown };

const networks = ['unet', 'vae', 'text_encoder', 'text_encoder_2'];
const tokenizers = ['tokenizer', 'tokenizer_2'];
const tokenizerFiles = [
  ...['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'added_tokens.json'],
  ...['vocab.json', 'merges.txt'],
];
/** Small files that belong to a model as a whole. */
const whole = ['model_index.json', 'generation_config.json', 'README.md'];

/** Of a part's folder, the plain name of its weights. */
const weightsName = (part: string) =>
  part.startsWith('text_encoder') ? 'model.safetensors' : 'diffusion_pytorch_model.safetensors';

/** The parts that a model has, by its `model_index.json`. @throws UserError when it has not those of Stable Diffusion */
export function partsOf(id: HubId, index: Json): string[] {
  const has = (part: string) => Array.isArray(index[part]) && (index[part] as unknown[])[1] != null;
  const missing = ['unet', 'vae', 'text_encoder', 'tokenizer', 'scheduler'].find((part) => !has(part));
  if (missing !== undefined)
    throw new UserError(
      `${hubName(id)}: is a ${shown(index._class_name)} without ${missing} — Stable Diffusion 1.x, 2.x and XL are supported. Use one of these; nothing was downloaded`,
    );
  return [...networks, ...tokenizers, 'scheduler'].filter(has);
}

/**
 * Files to download, without the shards that an index among them names.
 * @param paths of the repository
 * @throws UserError when weights are there in no form that is read
 */
export function neededFiles(id: HubId, paths: readonly string[], index: Json): string[] {
  const parts = partsOf(id, index);
  const below = (folder: string) =>
    paths.flatMap((path) => (dirname(path) === folder ? [basename(path)] : []));
  if (id.variant !== undefined) {
    const { variants } = chooseWeights(below('unet'), weightsName('unet'));
    if (!variants.includes(id.variant))
      throw new UserError(
        `${hubName(id)}: the U-Net has no variant ${id.variant} — ${variants.length === 0 ? 'there are no variants' : `there are: ${variants.join(', ')}`}. Name one of these, or none`,
      );
  }
  const needed = whole.filter((name) => paths.includes(name));
  for (const part of parts) {
    const names = below(part);
    if (part === 'scheduler') needed.push('scheduler/scheduler_config.json');
    else if (tokenizers.includes(part))
      needed.push(...tokenizerFiles.filter((name) => names.includes(name)).map((name) => `${part}/${name}`));
    else needed.push(`${part}/config.json`, `${part}/${chosen(id, part, names)}`);
  }
  const absent = needed.find((path) => !paths.includes(path));
  if (absent === undefined) return needed;
  throw new UserError(
    `${hubName(id)}: there is no ${absent} in the repository — the model is incomplete. Use another; nothing was downloaded`,
  );
}

function chosen(id: HubId, part: string, names: readonly string[]): string {
  const { name, variants } = chooseWeights(names, weightsName(part), id.variant);
  if (name !== undefined) return name;
  const pickle = names.find((name) => /\.(bin|ckpt|pt|pth)$/.test(name));
  const why =
    variants.length > 0
      ? `there are the variants ${variants.join(', ')}. Name one behind the id: ${hubName({ ...id, variant: variants[0]! })}`
      : pickle !== undefined
        ? `${part}/${pickle} is a pickle, which can run code, and is never opened. Convert the model with: python -c "from diffusers import DiffusionPipeline as P; P.from_pretrained('${id.repo}', revision='${id.revision}', use_safetensors=False).save_pretrained('${id.repo.split('/')[1]}')", and give that folder`
        : 'weights are read from safetensors only. Use another model';
  throw new UserError(
    `${hubName(id)}: ${part}/${weightsName(part)} is not there — ${why}; nothing was downloaded`,
  );
}

/** Whether weights are listed in shards. */
export const isIndex = (path: string): boolean => /\.json$/.test(path) && path.includes('.index');

/** The shards that an index names, as paths of the repository. @throws UserError for an index that is none */
export function shardsOf(id: HubId, path: string, index: Json): string[] {
  const { weight_map: map } = index;
  const names = map !== null && typeof map === 'object' ? [...new Set(Object.values(map))] : [];
  if (names.length > 0 && names.every((name) => typeof name === 'string' && isPlainPath(name)))
    return names.map((name) => `${dirname(path)}/${name}`);
  throw new UserError(
    `${hubName(id)}: ${path} names no shards — it must hold "weight_map", from tensors to files. Use another model`,
  );
}

/** Whether everything that a model needs is in a folder of the cache. */
export function isWhole(folder: string, variant?: string): boolean {
  const here = (...names: string[]) => existsSync(join(folder, ...names));
  if (!here('model_index.json')) return false;
  const index = readJson(join(folder, 'model_index.json'));
  const has = (part: string) => Array.isArray(index[part]) && (index[part] as unknown[])[1] != null;
  return (
    here('scheduler', 'scheduler_config.json') &&
    tokenizers
      .filter(has)
      .every(
        (part) => here(part, 'tokenizer.json') || (here(part, 'vocab.json') && here(part, 'merges.txt')),
      ) &&
    networks
      .filter(has)
      .every((part) => here(part, 'config.json') && hasWeights(join(folder, part), part, variant))
  );
}

function hasWeights(folder: string, part: string, variant: string | undefined): boolean {
  const names = readdirSync(folder).filter((name) => existsSync(join(folder, name)));
  const { name, variants } = chooseWeights(names, weightsName(part), variant);
  if (name === undefined || (part === 'unet' && variant !== undefined && !variants.includes(variant)))
    return false;
  if (!isIndex(name)) return true;
  const { weight_map: map } = readJson(join(folder, name));
  return Object.values(map ?? {}).every((shard) => names.includes(String(shard)));
}
