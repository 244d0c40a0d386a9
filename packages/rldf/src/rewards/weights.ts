/** Where the weights of a published scorer lie: a file, a folder, or a repository of a hub that is in the cache. */

import { existsSync, statSync } from 'node:fs';
import { extname, join } from 'node:path';
import { parseHubId } from '@rldf/common/hub/id';
import { cachedFiles, type WantedFiles } from '@rldf/common/hub/index';
import { hubSettings } from '@rldf/common/hub/settings';
import { readSafetensors, readTorchFile, type StateDict } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';

/** A path as it is, a repository where the cache has it; undefined if there is neither. */
export function findWeights(given: string, wanted: WantedFiles): string | undefined {
  if (existsSync(given)) return given;
  const id = parseHubId(given);
  return id === undefined ? undefined : cachedFiles(id, wanted);
}

/**
 * The file or folder that a recipe's `weights` (or `clip`, `tokenizer`) names.
 * @param where begins messages, such as `reward imagereward: weights`
 * @param source what to download, for the message: a repository, or a file and where it is published
 * @throws UserError when there is none: it says what to download
 */
export function findPublished(given: string, where: string, source: string, wanted: WantedFiles): string {
  const found = findWeights(given, wanted);
  if (found !== undefined) return found;
  const id = parseHubId(given);
  const name = / (\S+):/.exec(where)?.[1];
  const how =
    parseHubId(source) === undefined
      ? `Download ${source}`
      : `\`rldf rewards check ${name}\` downloads ${id === undefined ? source : given}`;
  throw new UserError(
    `${where}: there is no file or folder ${given}${id === undefined ? '' : `, and no such repository in ${hubSettings().cache}`} — ` +
      `weights are read from this machine. ${how}; or give a path of your own as ${where.split(' ').at(-1)}`,
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
