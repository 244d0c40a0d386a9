/** Drawing pictures into files: PNGs with their settings inside, a contact sheet, and the noise as safetensors. */

import { basename, join, resolve } from 'node:path';
import {
  generate,
  initialNoiseKeys,
  type LoraAdapter,
  loadLora,
  type Pipeline,
  type SchedulerName,
} from '@rldf/models';
import { free, normal, readSafetensors, type Tensor, writeSafetensors } from '@rldf/torch';
import { checkBase } from './adapter-base.js';
import { UserError } from './errors.js';
import { picturesOf } from './picture.js';
import { contactSheet, type GridCell } from './report/grid.js';
import { encodePng, settingsTexts } from './report/png.js';
import { fileOperation, makeFolder, replaceFile } from './run/files.js';
import { version } from './version.js';

export interface GenerateFilesOptions {
  /** Name of the model, as it is written into the pictures. */
  model: string;
  prompts: readonly string[];
  /** One a picture; as many as prompts. */
  seeds: readonly number[];
  negativePrompt?: string;
  steps?: number;
  guidanceScale?: number;
  eta?: number;
  scheduler?: SchedulerName;
  width?: number;
  height?: number;
  adapters?: readonly AdapterFile[];
  /** Initial noise of unit variance instead of the seeds': safetensors with `latents` [n, c, h, w]. */
  latentsFile?: string;
  /** Where the initial noise is written, in the same form. */
  saveLatentsFile?: string;
  /** Folder for the PNGs and `sheet.png`. */
  output: string;
  batchSize: number;
  signal?: AbortSignal;
  onProgress?: (share: number) => void;
}

export interface AdapterFile {
  path: string;
  strength: number;
}

export interface GeneratedFiles {
  pictures: string[];
  sheet: string;
}

/** `FILE` or `FILE:strength`. @throws UserError when the strength is no number */
export function parseAdapter(text: string): AdapterFile {
  const match = /^(.+\.safetensors|.+[/\\]|[^:]+):([^:/\\]*)$/.exec(text);
  if (match === null) return { path: text, strength: 1 };
  const strength = Number(match[2]);
  if (match[2] === '' || !Number.isFinite(strength)) {
    throw new UserError(`--adapter ${text}: "${match[2]}" is no strength — write FILE:0.8, with a number`);
  }
  return { path: match[1]!, strength };
}

/**
 * Draws one picture a prompt and writes the files.
 * @throws UserError for options that contradict each other or the model
 */
export async function generateFiles(
  pipeline: Pipeline,
  options: GenerateFilesOptions,
): Promise<GeneratedFiles> {
  const { prompts, seeds, adapters = [] } = options;
  if (seeds.length !== prompts.length) {
    throw new UserError(`generate: ${seeds.length} seeds for ${prompts.length} prompts — one a picture`);
  }
  for (const { path } of adapters) checkBase(path, pipeline, options.model);
  const attached = adapters.flatMap(({ path, strength }) =>
    Object.values(loadLora(path, pipeline.parameters, strength)).filter(
      (adapter): adapter is LoraAdapter => adapter !== undefined,
    ),
  );
  const noise = initialNoise(pipeline, options);
  try {
    makeFolder(options.output);
    if (options.saveLatentsFile !== undefined) {
      const file = options.saveLatentsFile;
      fileOperation('write', file, () => writeSafetensors(file, new Map([['latents', noise]])));
    }
    return await drawAll(pipeline, options, noise);
  } finally {
    noise.free();
    for (const adapter of attached) adapter.remove();
  }
}

async function drawAll(
  pipeline: Pipeline,
  options: GenerateFilesOptions,
  noise: Tensor,
): Promise<GeneratedFiles> {
  const { prompts, seeds, batchSize, output, negativePrompt, scheduler } = options;
  const steps = options.steps ?? pipeline.defaults.steps ?? 30;
  const guidanceScale = options.guidanceScale ?? pipeline.defaults.guidanceScale ?? 7.5;
  const eta = options.eta ?? 0;
  const cells: GridCell[] = [];
  const files: string[] = [];
  for (let start = 0; start < prompts.length; start += batchSize) {
    const count = Math.min(batchSize, prompts.length - start);
    const latents = noise.narrow(0, start, count); // [B, C, h, w]
    const { images, latents: denoised } = await generate(pipeline, {
      prompts: prompts.slice(start, start + count),
      seeds: seeds.slice(start, start + count),
      negativePrompts: negativePrompt ?? '',
      steps,
      guidanceScale,
      eta,
      latents,
      ...(scheduler === undefined ? {} : { scheduler }),
      ...(options.width === undefined ? {} : { width: options.width }),
      ...(options.height === undefined ? {} : { height: options.height }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      onStep: ({ step, steps: calls }) =>
        options.onProgress?.((start + (count * (step + 1)) / calls) / prompts.length),
    }).finally(() => latents.free());
    const pictures = picturesOf(images);
    free([images, denoised]);
    for (const [offset, picture] of pictures.entries()) {
      const index = start + offset;
      const settings = {
        prompt: prompts[index]!,
        negativePrompt: negativePrompt ?? '',
        seed: seeds[index]!,
        model: options.model,
        steps,
        guidanceScale,
        eta,
        scheduler: scheduler ?? String(pipeline.schedulerConfig._class_name ?? 'DDIMScheduler'),
        width: picture.width,
        height: picture.height,
        ...(options.adapters?.length
          ? { adapters: options.adapters.map(({ path, strength }) => `${basename(path)}:${strength}`) }
          : {}),
        ...(options.latentsFile === undefined
          ? {}
          : { latents: `${basename(options.latentsFile)}[${index}]` }),
        software: `rldf ${version}`,
      };
      const file = join(output, `${String(index).padStart(4, '0')}.png`);
      replaceFile(file, await encodePng(picture, settingsTexts(settings)));
      files.push(file);
      cells.push({ pictures: [picture], label: prompts[index]!, detail: `seed ${seeds[index]}` });
    }
  }
  const sheet = join(output, 'sheet.png');
  replaceFile(sheet, await contactSheet(cells));
  return { pictures: files, sheet };
}

/** [n, C, h, w] float32, from the file or from the seeds. */
function initialNoise(pipeline: Pipeline, options: GenerateFilesOptions): Tensor {
  const { unet, vae } = pipeline;
  const size = unet.config.sample_size ?? 64;
  const [rows, columns] = typeof size === 'object' ? [...size] : [size, size];
  const height = options.height === undefined ? Number(rows) : options.height / vae.downFactor;
  const width = options.width === undefined ? Number(columns) : options.width / vae.downFactor;
  if (![height, width].every((pixels) => Number.isInteger(pixels) && pixels > 0)) {
    throw new UserError(
      `generate: ${options.width ?? Number(columns) * vae.downFactor} x ${options.height ?? Number(rows) * vae.downFactor} pixels — width and height must be positive multiples of ${vae.downFactor}`,
    );
  }
  const shape = [unet.inChannels, height, width];
  if (options.latentsFile === undefined) return normal(initialNoiseKeys(options.seeds), shape);
  const where = resolve(options.latentsFile);
  const { tensors } = readSafetensors(where);
  try {
    const found = tensors.get('latents');
    const expected = [options.prompts.length, ...shape];
    if (found === undefined) {
      throw new UserError(
        `${where}: no tensor "latents" — it holds ${[...tensors.keys()].join(', ') || 'none'}`,
      );
    }
    if (found.dtype !== 'float32' || `${found.shape}` !== `${expected}`) {
      throw new UserError(
        `${where}: latents are ${found.dtype} [${found.shape.join(', ')}], expected float32 [${expected.join(', ')}] — one a picture, of the size asked for`,
      );
    }
    return found.clone();
  } finally {
    for (const tensor of tensors.values()) tensor.free();
  }
}
