/** Rewriting adapter files in the layouts of other tools. */

import { fileOperation } from '@rldf/common/base/files';
import { baseKey, commonBase } from '@rldf/common/instruments/adapter-base';
import { type LoraFormat, readLora, writeLora } from '@rldf/models';
import { scope } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { refuseOverwriting } from '../base/outputs.js';

export interface ExportedAdapters {
  file: string;
  format: LoraFormat;
  /** Adapted layers of each network. */
  layers: { unet: number; textEncoder: number };
}

/**
 * Writes the adapters of several files into one, with the fingerprint of their base model if they have one.
 * @throws UserError when two files adapt the same layer, were made on different base models, or one is no LoRA
 */
export function exportAdapterFiles(
  files: readonly string[],
  output: string,
  format: LoraFormat,
): ExportedAdapters {
  if (!output.endsWith('.safetensors')) {
    throw new UserError(`--output ${output}: must end in .safetensors. Other tools look for that ending`);
  }
  refuseOverwriting('--output', output, files);
  return scope(() => {
    const owners = new Map<string, string>();
    const layers = files.flatMap((file) => {
      const own = readLora(file);
      for (const { part, path } of own) {
        const other = owners.get(`${part} ${path}`);
        if (other !== undefined) {
          throw new UserError(
            `export: ${other} and ${file} both adapt ${path} — one file holds one adapter a layer. Export them apart; tools add up what they load`,
          );
        }
        owners.set(`${part} ${path}`, file);
      }
      return own;
    });
    const base = commonBase(files, 'export');
    const metadata = base === undefined ? {} : { [baseKey]: base };
    const file = fileOperation('write', output, () => writeLora(output, layers, { format, metadata }));
    const count = (part: string) => layers.filter((layer) => layer.part === part).length;
    return { file, format, layers: { unet: count('unet'), textEncoder: count('textEncoder') } };
  });
}
