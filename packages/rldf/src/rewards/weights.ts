/** Where the weights of a published scorer lie: a file, a folder, or a repository in Hugging Face's cache. */

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { extname, join } from 'node:path';
import { readSafetensors, readTorchFile, type StateDict } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';

const hubId = /^[A-Za-z0-9][\w.-]*\/[\w.-]+$/;

/** Folder of the cache that Hugging Face's own tools fill. */
function hubCache(): string {
  const { HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME } = process.env;
  const home = HF_HOME ?? join(XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'huggingface');
  return HF_HUB_CACHE ?? join(home, 'hub');
}

/** The newest snapshot of a repository, as its `main` says; undefined if the cache has none. */
function snapshotOf(id: string): string | undefined {
  const folder = join(hubCache(), `models--${id.replace('/', '--')}`);
  const snapshots = join(folder, 'snapshots');
  if (!existsSync(snapshots)) return undefined;
  const main = join(folder, 'refs', 'main');
  const commit = existsSync(main) ? readFileSync(main, 'utf8').trim() : undefined;
  if (commit !== undefined && existsSync(join(snapshots, commit))) return join(snapshots, commit);
  const [only] = readdirSync(snapshots);
  return only === undefined ? undefined : join(snapshots, only);
}

/** A path as it is, a repository where the cache has it; undefined if there is neither. */
export function findWeights(given: string): string | undefined {
  if (existsSync(given)) return given;
  return hubId.test(given) ? snapshotOf(given) : undefined;
}

/**
 * The file or folder that a recipe's `weights` (or `clip`, `tokenizer`) names.
 * @param where begins messages, such as `reward imagereward: weights`
 * @param source what to download, for the message: a repository, or a file and where it is published
 * @throws UserError when there is none: it says what to download
 */
export function findPublished(given: string, where: string, source: string): string {
  const found = findWeights(given);
  if (found !== undefined) return found;
  const repository = hubId.test(given) ? given : source;
  const download = hubId.test(repository)
    ? `\`hf download ${repository}\` (pip install huggingface_hub) brings them into that cache`
    : `download ${repository}`;
  throw new UserError(
    `${where}: there is no file or folder ${given}${hubId.test(given) ? `, and no such repository in ${hubCache()}` : ''} — ` +
      `weights are read from this machine. To get them, ${download}; or give a path of your own as ${where.split(' ').at(-1)}`,
  );
}

/** The first of the names that a folder has; a file as it is. */
export function fileIn(path: string, names: readonly string[]): string | undefined {
  if (statSync(path).isFile()) return path;
  return names.map((name) => join(path, name)).find((file) => existsSync(file));
}

/** @throws UserError for files that are neither safetensors nor by torch.save */
export function readWeights(file: string): StateDict {
  if (/\.(safetensors|json)$/.test(file)) return readSafetensors(file).tensors;
  if (/\.(pt|pth)$/.test(file)) return readTorchFile(file);
  throw new UserError(
    `${file}: ${extname(file) || 'no ending'} — weights are read from .safetensors, and those of published scorers from their own .pt or .pth. Give one of these`,
  );
}
