/** Writing a whole model back: with adapters in its weights, as a folder or as one file. */

import { existsSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { fileOperation } from '@rldf/common/base/files';
import { checkBase } from '@rldf/common/instruments/adapter-base';
import { findModel } from '@rldf/common/instruments/models';
import {
  type LoraAdapter,
  loadLora,
  loadPipeline,
  type PerPart,
  parseModelPath,
  savePipeline,
  saveSingleFile,
  storedDtypes,
} from '@rldf/models';
import { type DType, noGrad } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { refuseOverwriting } from '../base/outputs.js';
import type { AdapterFile } from './generate-files.js';

export type ModelFormat = 'single-file' | 'diffusers';

export interface MergeOptions {
  model: string;
  adapters: readonly AdapterFile[];
  output: string;
  format: ModelFormat;
  /** Of the weights in the files. Default: each part as it is stored. */
  dtype?: DType;
}

export interface MergedModel {
  output: string;
  format: ModelFormat;
  model: string;
  /** Of each part. */
  dtypes: PerPart<DType>;
  /** Layers that adapters changed. */
  layers: number;
}

/**
 * Adds adapters to a model's weights, in float32, and writes all of it. Parts that no adapter changes stay as they are stored.
 * @throws UserError when an adapter is of another model, the format cannot hold it, or something is at the output already
 */
export function writeMergedModel({ model, adapters, output, format, dtype }: MergeOptions): MergedModel {
  checkOutput(output, format);
  const { name, path } = findModel(model);
  refuseOverwriting('--output', output, [parseModelPath(path).path, ...adapters.map((one) => one.path)]);
  for (const adapter of adapters) checkBase(adapter.path, path, name);
  const stored = storedDtypes(path);
  const dtypes = Object.fromEntries(Object.entries(stored).map(([part, own]) => [part, dtype ?? own]));
  const pipeline = loadPipeline(path, { dtype: adapters.length === 0 ? stored : { vae: stored.vae! } });
  const attached: LoraAdapter[] = [];
  try {
    for (const { path, strength, textEncoder = strength } of adapters) {
      const pair = loadLora(path, pipeline.parameters, strength);
      for (const text of [pair.textEncoder, pair.textEncoder2]) if (text) text.strength = textEncoder;
      attached.push(...Object.values(pair).filter((one): one is LoraAdapter => one !== undefined));
    }
    noGrad(() => {
      for (const adapter of attached) adapter.merge();
    });
    const layers = new Set(attached.flatMap(({ layers }) => layers)).size;
    fileOperation('write', output, () => {
      if (format === 'single-file') saveSingleFile(pipeline, output, { dtype: dtypes });
      else saveFolder(output, (folder) => savePipeline(pipeline, folder, { dtype: dtypes }));
    });
    return { output, format, model: name, dtypes, layers };
  } finally {
    for (const adapter of attached) adapter.remove();
    for (const parameters of Object.values(pipeline.parameters)) parameters.free();
  }
}

/** Whole or not at all. */
function saveFolder(output: string, save: (folder: string) => void): void {
  const temporary = `${output}.tmp-${process.pid}`;
  try {
    save(temporary);
    rmSync(output, { recursive: true, force: true }); // it is empty, or not there
    renameSync(temporary, output);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

function checkOutput(output: string, format: ModelFormat): void {
  if (format === 'single-file') {
    if (output.endsWith('.safetensors') && !(existsSync(output) && statSync(output).isDirectory())) return;
    throw new UserError(
      `--output ${output}: must end in .safetensors — single-file is one file. Add the ending, or use --format diffusers`,
    );
  }
  if (!existsSync(output)) return;
  if (statSync(output).isDirectory() && readdirSync(output).length === 0) return;
  throw new UserError(
    `--output ${output}: is there already — a model is written into a new folder. Choose another name, or remove it`,
  );
}
