/** Drawing pictures into files: PNGs with their settings inside, a contact sheet, and the noise as safetensors. */

import { basename, join, resolve } from 'node:path';
import { fileOperation, makeFolder, replaceFile, replaceFiles } from '@rldf/common/base/files';
import { picturesOf } from '@rldf/common/base/picture';
import { version } from '@rldf/common/base/version';
import { contactSheet, type GridCell } from '@rldf/common/drawing/grid';
import { encodePng, settingsTexts } from '@rldf/common/drawing/png';
import { checkBase } from '@rldf/common/instruments/adapter-base';
import { batchOfAll, generateShared } from '@rldf/common/workers/draw';
import {
  GROUNDING_BETA,
  type GroundedObject,
  groundedSteps,
  initialNoiseKeys,
  type LoraAdapter,
  latentShape,
  loadLora,
  type MicroConditioning,
  type PictureSize,
  type Pipeline,
  type SchedulerName,
} from '@rldf/models';
import {
  free,
  normal,
  readSafetensors,
  refuseNonFinite,
  type Seed,
  scope,
  type Tensor,
  writeSafetensors,
} from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { byteWords, machineMemory } from '../base/machine.js';
import { tellSizes } from '../sampling/model-settings.js';

export interface GenerateFilesOptions {
  /** Name of the model, as it is written into the pictures. */
  model: string;
  /** What is drawn. Never a list of all, so that a million need no more memory than one. */
  pictures: { readonly length: number; at(index: number): { prompt: string; seed: Seed } };
  /** What a picture of a prompt is to show, and where, for a model of GLIGEN's kind. */
  objectsOf?: (prompt: string) => GroundedObject[];
  /** Share of the denoising steps in which boxes are heard; GLIGEN's 0.3 by default. */
  groundingBeta?: number;
  /** Not the empty one everywhere; none by default. */
  negativePrompt?: string;
  /** Prompts beyond the text encoder's length: cut, or read in pieces of it. */
  longPrompts?: 'cut' | 'chunks';
  steps?: number;
  guidanceScale?: number;
  eta?: number;
  scheduler?: SchedulerName;
  width?: number;
  height?: number;
  /** What a model of XL's kind is told of the pictures' sizes. */
  microConditioning?: MicroConditioning;
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
  /** Of the text encoders' parts, where it differs; for `fuseAdapters`. */
  textEncoder?: number;
}

export interface GeneratedFiles {
  count: number;
  /** The file of the picture with this index. */
  fileOf(index: number): string;
  sheet: string;
  /** How many of the pictures, the first ones, are on the sheet. */
  onSheet: number;
}

/** More on one sheet nobody can look at. */
const mostOnSheet = 400;

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

/** `PHRASE@left,top,right,bottom`. @throws UserError when it is not of this form */
export function parseBox(text: string): GroundedObject {
  const match = /^(.+)@([^@]+)$/.exec(text);
  const box = (match?.[2] ?? '').split(',').map((edge) => (edge.trim() === '' ? Number.NaN : Number(edge)));
  if (match && box.length === 4 && box.every(Number.isFinite))
    return { phrase: (match[1] as string).trim(), box: box as unknown as GroundedObject['box'] };
  throw new UserError(
    `--box ${text}: expected PHRASE@left,top,right,bottom as shares of width and height — such as "a cat@0.05,0.3,0.45,0.8"`,
  );
}

/** The sizes that a command line gives, as height,width or top,left. @throws UserError for anything else */
export function parseSizes(texts: {
  originalSize?: string | undefined;
  crop?: string | undefined;
  targetSize?: string | undefined;
}): MicroConditioning | undefined {
  const given = Object.entries(texts).filter((entry): entry is [string, string] => entry[1] !== undefined);
  if (given.length === 0) return undefined;
  return Object.fromEntries(
    given.map(([name, text]) => {
      const least = name === 'crop' ? 0 : 1;
      const pair = text.split(',').map((part) => (/^\s*\d+\s*$/.test(part) ? Number(part) : Number.NaN));
      if (pair.length === 2 && pair.every((value) => value >= least))
        return [name, pair as unknown as PictureSize];
      const [option, form] =
        name === 'crop' ? ['crop', 'top,left'] : [name.replace('S', '-s'), 'height,width'];
      throw new UserError(
        `--${option} ${text}: expected ${form} in whole pixels from ${least} — such as ${name === 'crop' ? '0,128' : '1024,768'}`,
      );
    }),
  );
}

/**
 * Draws one picture a prompt and writes the files.
 * @throws UserError for options that contradict each other or the model
 */
export async function generateFiles(
  pipeline: Pipeline,
  options: GenerateFilesOptions,
): Promise<GeneratedFiles> {
  const { adapters = [], microConditioning } = options;
  if (microConditioning !== undefined)
    tellSizes(pipeline, microConditioning, '--original-size, --crop, --target-size');
  for (const { path } of adapters) checkBase(path, pipeline, options.model);
  const attached = adapters.flatMap(({ path, strength }) =>
    Object.values(loadLora(path, pipeline.parameters, strength)).filter(
      (adapter): adapter is LoraAdapter => adapter !== undefined,
    ),
  );
  const shape = sizeOfLatents(pipeline, options);
  const given =
    options.latentsFile === undefined ? undefined : readNoise(options.latentsFile, options, shape);
  try {
    makeFolder(options.output);
    if (options.saveLatentsFile !== undefined) saveNoise(options.saveLatentsFile, options, given, shape);
    return await drawAll(pipeline, options, given);
  } finally {
    given?.free();
    for (const adapter of attached) adapter.remove();
  }
}

async function drawAll(
  pipeline: Pipeline,
  options: GenerateFilesOptions,
  noise: Tensor | undefined,
): Promise<GeneratedFiles> {
  const { pictures: wanted, batchSize, output, negativePrompt, scheduler, objectsOf } = options;
  const groundingBeta = options.groundingBeta ?? GROUNDING_BETA;
  const steps = options.steps ?? pipeline.defaults.steps ?? 30;
  const guidanceScale = options.guidanceScale ?? pipeline.defaults.guidanceScale ?? 7.5;
  const eta = options.eta ?? 0;
  const cells: GridCell[] = [];
  const digits = Math.max(4, String(wanted.length - 1).length);
  const fileOf = (index: number) => join(output, `${String(index).padStart(digits, '0')}.png`);
  const chunksOf = (index: number) =>
    options.longPrompts !== 'chunks'
      ? 1
      : Math.max(
          ...[wanted.at(index).prompt, negativePrompt ?? ''].map((text) => pipeline.tokenizer.chunks(text)),
        );
  const most = batchOfAll(pipeline, batchSize);
  let count = 0;
  for (let start = 0; start < wanted.length; start += count) {
    // pictures of one batch have as many pieces, so that none depends on the others
    const chunks = chunksOf(start);
    count = 1;
    while (count < most && start + count < wanted.length && chunksOf(start + count) === chunks) count++;
    pipeline.promptChunks = chunks;
    const batch = Array.from({ length: count }, (_, offset) => wanted.at(start + offset));
    const latents = noise?.narrow(0, start, count); // [B, C, h, w]
    options.onProgress?.(start / wanted.length);
    const { images, latents: denoised } = await generateShared(pipeline, {
      prompts: batch.map(({ prompt }) => prompt),
      seeds: batch.map(({ seed }) => seed),
      negativePrompts: negativePrompt ?? null,
      steps,
      guidanceScale,
      eta,
      ...(objectsOf && { objects: batch.map(({ prompt }) => objectsOf(prompt)) }),
      groundingBeta,
      ...(latents === undefined ? {} : { latents }),
      ...(scheduler === undefined ? {} : { scheduler }),
      ...(options.width === undefined ? {} : { width: options.width }),
      ...(options.height === undefined ? {} : { height: options.height }),
      ...(options.signal === undefined ? {} : { signal: options.signal }),
      onStep: ({ step, steps: calls }) =>
        options.onProgress?.((start + (count * (step + 1)) / calls) / wanted.length),
    }).finally(() => latents?.free());
    const pictures = picturesOf(images);
    free([images, denoised]);
    const files = pictures.map(async (picture, offset) => {
      const index = start + offset;
      const { prompt, seed } = batch[offset]!;
      const settings = {
        prompt,
        negativePrompt: negativePrompt ?? '',
        seed,
        model: options.model,
        steps,
        guidanceScale,
        eta,
        scheduler: scheduler ?? String(pipeline.schedulerConfig._class_name ?? 'DDIMScheduler'),
        width: picture.width,
        height: picture.height,
        ...(pipeline.unet.grounded
          ? { boxes: objectsOf?.(prompt) ?? [], groundedSteps: groundedSteps(steps, groundingBeta) }
          : {}),
        ...(options.microConditioning === undefined ? {} : { microConditioning: options.microConditioning }),
        ...(chunks > 1 ? { promptChunks: chunks } : {}),
        ...(options.adapters?.length
          ? { adapters: options.adapters.map(({ path, strength }) => `${basename(path)}:${strength}`) }
          : {}),
        ...(options.latentsFile === undefined
          ? {}
          : { latents: `${basename(options.latentsFile)}[${index}]` }),
        software: `rldf ${version}`,
      };
      if (index < mostOnSheet) cells.push({ pictures: [picture], label: prompt, detail: `seed ${seed}` });
      return { path: fileOf(index), data: await encodePng(picture, settingsTexts(settings)) };
    });
    replaceFiles(await Promise.all(files));
  }
  const sheet = join(output, 'sheet.png');
  replaceFile(sheet, await contactSheet(cells));
  return { count: wanted.length, fileOf, sheet, onSheet: cells.length };
}

type Shape = readonly [channels: number, height: number, width: number];

function sizeOfLatents(pipeline: Pipeline, { width, height }: GenerateFilesOptions): Shape {
  return latentShape(pipeline, {
    ...(width === undefined ? {} : { width }),
    ...(height === undefined ? {} : { height }),
  });
}

/** Writes the noise of all pictures, [n, C, h, w] float32. */
function saveNoise(
  file: string,
  { pictures }: GenerateFilesOptions,
  given: Tensor | undefined,
  shape: Shape,
): void {
  const bytes = 4 * pictures.length * shape.reduce((a, b) => a * b, 1);
  if (bytes > machineMemory() / 4) {
    throw new UserError(
      `--save-latents ${file}: the noise of ${pictures.length} pictures takes ${byteWords(bytes)} — it is made in memory, of which this machine has ${byteWords(machineMemory())}. Draw fewer in one command, or leave it out: the seeds name the noise`,
    );
  }
  scope(() => {
    const seeds = Array.from({ length: pictures.length }, (_, index) => pictures.at(index).seed);
    const noise = given ?? normal(initialNoiseKeys(seeds), shape);
    fileOperation('write', file, () => writeSafetensors(file, new Map([['latents', noise]])));
  });
}

/** [n, C, h, w] float32 */
function readNoise(file: string, { pictures }: GenerateFilesOptions, shape: Shape): Tensor {
  const where = resolve(file);
  const { tensors } = readSafetensors(where);
  try {
    const found = tensors.get('latents');
    const expected = [pictures.length, ...shape];
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
    refuseNonFinite(where, new Map([['latents', found]]), 'pictures of it would be black. Write it again.');
    return found.clone();
  } finally {
    for (const tensor of tensors.values()) tensor.free();
  }
}
