// What of the pipeline learns: nothing, a low-rank adapter, or everything, for the U-Net and the text encoder each.
import { join } from 'node:path';
import {
  generate,
  LoraAdapter,
  loadLora,
  type Pipeline,
  saveLora,
  savePipeline,
  TEXT_ATTENTION,
  UNET_ATTENTION,
} from '@rldf/models';
import { free, type Seed, type StateTree, scope, seedAfter, type Tensor } from '@rldf/torch';
import { baseFingerprint, baseKey } from '../adapter-base.js';
import { InternalError } from '../errors.js';
import { fileOperation, makeFolder } from '../run/files.js';
import type { DrawRequest } from '../run/training.js';

export type Trained = 'none' | 'lora' | 'full';

export interface TrainableOptions {
  unet: Trained;
  textEncoder: Trained;
  rank: number;
  alpha?: number | undefined;
  /** Ends of the U-Net's layer paths; the attention projections by default. */
  targets?: readonly string[] | undefined;
  seed: Seed;
}

export interface Trainables {
  unet: Tensor[];
  textEncoder: Tensor[];
  adapters: { unet?: LoraAdapter; textEncoder?: LoraAdapter };
  /** Whether all weights of a network learn, so that the model itself is exported. */
  full: boolean;
}

/** Attaches adapters where wanted and turns gradients on for what learns, off for all else. */
export function createTrainables(pipeline: Pipeline, options: TrainableOptions): Trainables {
  const { rank, alpha = rank, seed } = options;
  for (const parameters of Object.values(pipeline.parameters)) parameters.trainable(false);
  const adapters: Trainables['adapters'] = {};
  const choose = (network: 'unet' | 'textEncoder', targets: readonly string[], salt: number): Tensor[] => {
    if (options[network] === 'none') return [];
    if (options[network] === 'full') return pipeline.parameters[network].trainable();
    const adapter = LoraAdapter.attach(pipeline.parameters[network], {
      rank,
      alpha,
      targets,
      init: 'gaussian',
      seed: seedAfter(seed, salt),
    });
    adapters[network] = adapter;
    return adapter.trainable();
  };
  const unet = choose('unet', options.targets ?? UNET_ATTENTION, 0);
  const textEncoder = choose('textEncoder', TEXT_ATTENTION, 1);
  return { unet, textEncoder, adapters, full: options.unet === 'full' || options.textEncoder === 'full' };
}

export function trainableState({ unet, textEncoder }: Trainables): StateTree {
  return { unet, textEncoder };
}

export function loadTrainables(trainables: Trainables, state: StateTree): void {
  const saved = state as { unet: Tensor[]; textEncoder: Tensor[] };
  for (const network of ['unet', 'textEncoder'] as const) loadParameters(trainables[network], saved[network]);
}

/** Copies values into parameters, whether they learn or not. */
export function loadParameters(parameters: readonly Tensor[], saved: readonly Tensor[]): void {
  scope(() => {
    parameters.forEach((tensor, i) => {
      tensor.detach().copy_(saved[i] as Tensor);
    });
  });
}

/** Runs `fn` with the model that training began from, where adapters learn: what learned is switched off. */
export function withoutAdapters<T>({ adapters }: Trainables, fn: () => T): T {
  return Object.values(adapters).reduce((inner, adapter) => () => adapter.disabled(inner), fn)();
}

/** Gradients in the order of all that learns, U-Net first; `undefined` where there is none. */
export function aligned(
  { unet, textEncoder }: Trainables,
  ofUnet: readonly (Tensor | undefined)[],
  ofTextEncoder: readonly Tensor[] = [],
): (Tensor | undefined)[] {
  return [...unet.map((_, i) => ofUnet[i]), ...textEncoder.map((_, i) => ofTextEncoder[i])];
}

/** Draws with the weights as they are, by the same number of steps and guidance as in training, deterministically. */
export async function drawForEvaluation(
  pipeline: Pipeline,
  requests: readonly DrawRequest[],
  negativePrompt: string,
  { steps, guidanceScale }: { steps: number; guidanceScale: number },
): Promise<Tensor> {
  const { images, latents } = await generate(pipeline, {
    prompts: requests.map(({ prompt }) => prompt),
    seeds: requests.map(({ seed }) => seed),
    negativePrompts: negativePrompt,
    steps,
    guidanceScale,
    eta: 0,
  });
  latents.free();
  return images;
}

/**
 * Writes what was learned: adapters as diffusers' LoRA file, full weights as a model folder. An adapter is read back and
 * drawn with again; the pictures must be the same.
 */
export async function exportAdapters(
  pipeline: Pipeline,
  { adapters, full }: Trainables,
  folder: string,
): Promise<string[]> {
  makeFolder(folder);
  const files: string[] = [];
  if (full) {
    const model = join(folder, 'model');
    fileOperation('write', model, () => savePipeline(pipeline, model)); // without the adapters, which are saved beside it
    files.push(model);
  }
  if (adapters.unet === undefined && adapters.textEncoder === undefined) return files;
  const file = join(folder, 'pytorch_lora_weights.safetensors');
  const metadata = full ? {} : { [baseKey]: baseFingerprint(pipeline) };
  fileOperation('write', file, () => saveLora(file, adapters, { metadata }));
  const draw = () => generate(pipeline, { prompts: ['a cat'], seeds: [0], steps: 4, guidanceScale: 2 });
  const trained = await draw();
  const strengths = Object.values(adapters).map((adapter): [LoraAdapter, number] => [
    adapter,
    adapter.strength,
  ]);
  for (const [adapter] of strengths) adapter.strength = 0;
  const loaded = loadLora(file, pipeline.parameters);
  const again = await draw();
  for (const adapter of Object.values(loaded)) adapter?.remove();
  for (const [adapter, strength] of strengths) adapter.strength = strength;
  const difference = scope(() => trained.latents.sub(again.latents).abs().amax().item());
  free([trained, again]);
  if (!(difference < 1e-3)) {
    throw new InternalError(
      `${file}: read back, it draws latents that differ by ${difference} from the trained ones`,
    );
  }
  return [...files, file];
}
