/** Which file of a part's folder holds its weights: whole or in shards, plain or as a variant. */

import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { UserError } from '@rldf/torch';

const SHARD = /-\d+-of-\d+(\.[A-Za-z0-9_]+)?\.safetensors$/;

/**
 * Chooses among the names in a folder: the variant that is asked for; else the plain name, else fp16, else the only variant.
 * diffusers and transformers call the index of a variant NAME.safetensors.index.fp16.json; older files are called
 * NAME.fp16.safetensors.index.json or NAME.safetensors.fp16.index.json.
 *
 * @param file the plain name, NAME.safetensors
 * @returns the name, and the variants that there are; no name if it cannot be told which
 */
export function chooseWeights(
  names: readonly string[],
  file: string,
  variant?: string,
): { name: string | undefined; variants: string[] } {
  const stem = file.replace(/\.safetensors$/, '');
  const which = '([A-Za-z0-9_]+)';
  const patterns = [
    `${which}\\.safetensors`,
    `safetensors\\.index\\.${which}\\.json`,
    `${which}\\.safetensors\\.index\\.json`,
    `safetensors\\.${which}\\.index\\.json`,
  ].map((pattern) => new RegExp(`^${stem}\\.${pattern}$`));
  const found = new Map<string, string>();
  for (const pattern of patterns) {
    for (const name of names) {
      const [, which] = pattern.exec(name) ?? [];
      if (which !== undefined && !found.has(which)) found.set(which, name);
    }
  }
  const plain = [file, `${file}.index.json`].find((name) => names.includes(name));
  const only = found.size === 1 ? [...found.values()][0] : undefined;
  const name = (variant && found.get(variant)) ?? plain ?? found.get('fp16') ?? only;
  return { name, variants: [...found.keys()].sort() };
}

/**
 * The path of a part's weights.
 *
 * @param file the plain name, NAME.safetensors
 * @param variant read instead of the plain weights, where the folder has it
 * @throws UserError when there is none, or it cannot be told which
 */
export function findWeights(folder: string, file: string, variant?: string): string {
  const names = existsSync(folder) ? readdirSync(folder) : [];
  const { name, variants } = chooseWeights(names, file, variant);
  if (name !== undefined) return join(folder, name);
  if (variants.length > 0) {
    throw new UserError(
      `${join(folder, file)}: is missing, and there are the variants ${variants.join(', ')} — fp16 or a single one is ` +
        'taken by itself. Name one behind the model (MODEL:VARIANT), or rename its files.',
    );
  }
  throw new UserError(
    `${join(folder, file)}: is missing — weights are read from safetensors only. ${missing(folder, names, file)}`,
  );
}

/** @throws UserError when a folder's U-Net has no such variant; other parts may lack it, and are read plain then */
export function checkVariant(folder: string, file: string, variant: string): void {
  const names = existsSync(folder) ? readdirSync(folder) : [];
  const { variants } = chooseWeights(names, file);
  if (variants.includes(variant)) return;
  throw new UserError(
    `${dirname(folder)}:${variant}: there is no variant ${variant} of ${join(folder, file)} — ${
      variants.length === 0 ? 'the folder has no variants' : `there are: ${variants.join(', ')}`
    }. Name one of these, or none.`,
  );
}

/** Why weights may not have been found, by the names that are there. */
function missing(folder: string, names: readonly string[], file: string): string {
  const stem = file.replace(/\.safetensors$/, '');
  const shard = names.find((name) => name.startsWith(stem) && SHARD.test(name));
  if (shard !== undefined) return `${shard} is there, but not the index of the shards: restore it.`;
  // PyTorch's own names: pytorch_model.bin of transformers, NAME.bin of diffusers
  const pickle = names.find((name) => /\.(bin|pt|pth|ckpt)$/.test(name));
  if (pickle !== undefined) return `${pickle} beside it ${convertFolder(dirname(folder))}`;
  return 'Restore the file or download the model again.';
}

/** How a folder of pickles becomes one of safetensors. */
export const convertFolder = (folder: string): string =>
  `is a pickle, which can run code, and is never opened. Convert the model with: python -c "from diffusers import DiffusionPipeline as P; P.from_pretrained('${folder}', use_safetensors=False).save_pretrained('${folder}-safetensors')"`;
