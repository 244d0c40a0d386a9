import { join } from 'node:path';
import { fileOperation, makeFolder } from '@rldf/common/base/files';
import { baseFingerprint, baseKey } from '@rldf/common/instruments/adapter-base';
import { generate, type LoraPair, loadLora, type Pipeline, saveLora, savePipeline } from '@rldf/models';
import { free, scope } from '@rldf/torch';
import { InternalError } from '@rldf/torch/errors';

/** What is asked of a learner. */
export interface Learned {
  pipeline: Pipeline;
  adapters: LoraPair;
  withoutAdapters<T>(fn: () => Promise<T>): Promise<T>;
}

/**
 * Writes what was learned: adapters as diffusers' LoRA file, full weights as a model folder. An adapter is read back and
 * drawn with again; the pictures must be the same.
 * @param full whether all weights of a network learned, so that the model itself is exported
 */
export async function exportAdapters(learned: Learned, full: boolean, folder: string): Promise<string[]> {
  const { pipeline, adapters } = learned;
  makeFolder(folder);
  const files: string[] = [];
  if (full) {
    const model = join(folder, 'model');
    fileOperation('write', model, () => savePipeline(pipeline, model)); // without the adapters, which are saved beside it
    files.push(model);
  }
  if (Object.keys(adapters).length === 0) return files;
  const file = join(folder, 'pytorch_lora_weights.safetensors');
  const metadata = full ? {} : { [baseKey]: baseFingerprint(pipeline) };
  fileOperation('write', file, () => saveLora(file, adapters, { metadata }));
  const draw = () => generate(pipeline, { prompts: ['a cat'], seeds: [0], steps: 4, guidanceScale: 2 });
  const trained = await draw();
  const again = await learned.withoutAdapters(async () => {
    const loaded = loadLora(file, pipeline.parameters);
    try {
      return await draw();
    } finally {
      for (const adapter of Object.values(loaded)) adapter?.remove();
    }
  });
  const difference = scope(() => trained.latents.sub(again.latents).abs().amax().item());
  free([trained, again]);
  if (!(difference < 1e-3)) {
    throw new InternalError(
      `${file}: read back, it draws latents that differ by ${difference} from the trained ones`,
    );
  }
  return [...files, file];
}
