/** Drawing shared out by picture: the leader's pipeline draws its own share, those of the others draw theirs. */

import {
  type Generated,
  type GenerateOptions,
  generate,
  type LoraAdapter,
  loadLora,
  loadPipeline,
  type MicroConditioning,
  type Pipeline,
} from '@rldf/models';
import type { Device, DType } from '@rldf/torch';
import { crew } from './crew.js';

/** What the other workers load to have the leader's pipeline. */
export interface SharedModel {
  folder: string;
  device?: Device | undefined;
  dtype?: DType | undefined;
  adapters?: readonly { path: string; strength: number }[];
}

/** What the leader asks for. */
export interface DrawCommand {
  do: 'generate';
  model: SharedModel & { id: number };
  promptChunks: number | undefined;
  microConditioning: MicroConditioning | undefined;
  options: GenerateOptions;
}

const shared = new WeakMap<Pipeline, SharedModel & { id: number }>();
let models = 0;

/** From now on other workers draw for this pipeline too, which is that of a folder with some adapters. */
export function shareModel(pipeline: Pipeline, model: SharedModel): void {
  shared.set(pipeline, { ...model, id: models++ });
}

/** Pictures of a batch that all workers draw at once, of which each holds `batchSize`. */
export const batchOfAll = (pipeline: Pipeline, batchSize: number): number =>
  shared.has(pipeline) ? batchSize * crew().size : batchSize;

/** `generate`, by all workers where they have this pipeline (`shareModel`). */
export async function generateShared(pipeline: Pipeline, options: GenerateOptions): Promise<Generated> {
  const model = shared.get(pipeline);
  if (crew().size === 1 || model === undefined || options.latents !== undefined)
    return generate(pipeline, options);
  const { signal: _, onStep: __, ...told } = options;
  const { promptChunks, microConditioning } = pipeline;
  crew().tell({
    do: 'generate',
    model,
    promptChunks,
    microConditioning,
    options: told,
  } satisfies DrawCommand);
  return drawShare(pipeline, options);
}

async function drawShare(pipeline: Pipeline, options: GenerateOptions): Promise<Generated> {
  const { prompts, seeds, objects, negativePrompts: against } = options;
  const own = crew().own([...prompts.keys()]);
  const drawn =
    own.length === 0
      ? undefined
      : await generate(pipeline, {
          ...options,
          prompts: own.map((i) => prompts[i] as string),
          seeds: own.map((i) => seeds[i] as (typeof seeds)[number]),
          ...(objects !== undefined && { objects: own.map((i) => objects[i] as (typeof objects)[number]) }),
          ...(Array.isArray(against) && { negativePrompts: own.map((i) => against[i] as string) }),
        });
  const images = await crew().gatherRows('pictures', drawn?.images);
  return { images, latents: await crew().gatherRows('latents', drawn?.latents) };
}

/** A follower's side: keeps the pipeline that was asked for last. */
export class DrawingFollower {
  #loaded: { id: number; pipeline: Pipeline; attached: LoraAdapter[] } | undefined;

  async draw({ model, promptChunks, microConditioning, options }: DrawCommand): Promise<void> {
    const pipeline = this.#pipelineOf(model);
    if (microConditioning !== undefined) pipeline.microConditioning = microConditioning;
    if (promptChunks !== undefined) pipeline.promptChunks = promptChunks;
    const { images, latents } = await drawShare(pipeline, options);
    images.free();
    latents.free();
  }

  free(): void {
    for (const adapter of this.#loaded?.attached ?? []) adapter.remove();
    for (const parameters of Object.values(this.#loaded?.pipeline.parameters ?? {})) parameters.free();
    this.#loaded = undefined;
  }

  #pipelineOf({ id, folder, device, dtype, adapters = [] }: DrawCommand['model']): Pipeline {
    if (this.#loaded?.id === id) return this.#loaded.pipeline;
    this.free();
    const pipeline = loadPipeline(folder, {
      ...(device !== undefined && { device: crew().deviceHere(device) }),
      ...(dtype !== undefined && { dtype }),
    });
    const attached = adapters.flatMap(({ path, strength }) =>
      Object.values(loadLora(path, pipeline.parameters, strength)).filter(
        (one): one is LoraAdapter => one !== undefined,
      ),
    );
    this.#loaded = { id, pipeline, attached };
    return pipeline;
  }
}
