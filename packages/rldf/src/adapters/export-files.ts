/** Rewriting adapter files in the layouts of other tools. */

import { fileOperation } from '@rldf/common/base/files';
import { baseKey, commonBase, licencesOfFiles } from '@rldf/common/instruments/adapter-base';
import { type LoraFormat, type LoraLayer, readLora, writeLora } from '@rldf/models';
import { scope } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { refuseOverwriting } from '../base/outputs.js';

export interface ExportedAdapters {
  file: string;
  format: LoraFormat;
  layers: LayerCounts;
}

/** Adapted layers of each network; of a second text encoder only where it has some. */
export interface LayerCounts {
  unet: number;
  textEncoder: number;
  textEncoder2?: number;
}

export function countLayers(layers: readonly LoraLayer[]): LayerCounts {
  const count = (part: LoraLayer['part']) => layers.filter((layer) => layer.part === part).length;
  const textEncoder2 = count('textEncoder2');
  const counts = { unet: count('unet'), textEncoder: count('textEncoder') };
  return textEncoder2 > 0 ? { ...counts, textEncoder2 } : counts;
}

/** `8 layers of the U-Net, 4 of the text encoder` */
export function countWords({ unet, textEncoder, textEncoder2 }: LayerCounts): string {
  const second = textEncoder2 === undefined ? '' : `, ${textEncoder2} of the second`;
  return `${unet} layers of the U-Net, ${textEncoder} of the text encoder${second}`;
}

/**
 * Writes the adapters of several files into one, with the fingerprint of their base model and their licences, if they have them.
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
    const metadata = { ...(base === undefined ? {} : { [baseKey]: base }), ...licencesOfFiles(files) };
    const file = fileOperation('write', output, () => writeLora(output, layers, { format, metadata }));
    return { file, format, layers: countLayers(layers) };
  });
}
