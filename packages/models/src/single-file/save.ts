/** A pipeline as one file. */

import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import {
  type DType,
  noGrad,
  type Parameters,
  refuseNonFinite,
  type StateDict,
  scope,
  UserError,
  writeSafetensors,
} from '@rldf/torch';
import { AutoencoderKL } from '../autoencoder-kl.js';
import type { CLIPTokenizer } from '../clip-tokenizer.js';
import { clipTokenizer } from '../clip-vocabulary.js';
import type { Pipeline } from '../pipeline.js';
import { dtypeOf, type PerPart } from '../pipeline-files.js';
import { createScheduler } from '../schedulers/scheduler.js';
import { toSingleFile } from './write.js';

/**
 * Writes a single-file checkpoint of Stable Diffusion 1.x, 2.x or XL, which ComfyUI, A1111, trainers and diffusers'
 * `from_single_file` read, and rldf too. Adapters that are merged into the weights are part of it.
 *
 * @param file ends in .safetensors
 * @param options `dtype` of the weights in it, of all parts or of each; default: as they are
 * @throws UserError when the model has parts that such files cannot hold, or numbers that are not finite
 */
export function saveSingleFile(
  pipeline: Pipeline,
  file: string,
  options: { dtype?: DType | PerPart<DType> } = {},
): void {
  const { unet, vae, textEncoder, textEncoder2, schedulerConfig, parameters, defaults } = pipeline;
  if (!(vae instanceof AutoencoderKL))
    throw new UserError(
      `${file}: the model's autoencoder is an AutoencoderTiny — single files hold an AutoencoderKL. Write a folder: --format diffusers.`,
    );
  checkVocabulary(file, pipeline.tokenizer);
  const scheduler = createScheduler(schedulerConfig);
  noGrad(() =>
    scope(() => {
      const part = <Config>({ config }: { config: Config }, name: keyof Pipeline['parameters']) => ({
        config,
        state: stored(parameters[name]!, dtypeOf(name, options.dtype)),
      });
      const { tensors, metadata } = toSingleFile(file, {
        unet: part(unet, 'unet'),
        vae: part(vae, 'vae'),
        textEncoder: part(textEncoder, 'textEncoder'),
        ...(textEncoder2 &&
          parameters.textEncoder2 && {
            textEncoder2: part(textEncoder2, 'textEncoder2'),
            forceZerosForEmptyPrompt: pipeline.forceZerosForEmptyPrompt ?? false,
          }),
        scheduler: { ...scheduler.config, _class_name: scheduler.constructor.name },
        ...(Object.keys(defaults).length > 0 && {
          generation: { num_inference_steps: defaults.steps, guidance_scale: defaults.guidanceScale },
        }),
      });
      refuseNonFinite(file, tensors, 'nothing was written. Store it in float32, or use smaller strengths.');
      mkdirSync(dirname(file), { recursive: true });
      writeSafetensors(file, tensors, metadata);
    }),
  );
}

const stored = ({ entries }: Parameters, dtype: DType | undefined): StateDict =>
  new Map(
    [...entries].map(([name, tensor]) => [
      name,
      tensor
        .detach()
        .to({ dtype: dtype ?? tensor.dtype, device: 'cpu' })
        .contiguous(),
    ]),
  );

/** @throws UserError for a vocabulary of the model's own: readers of single files take CLIP's */
function checkVocabulary(file: string, tokenizer: CLIPTokenizer): void {
  const clips = clipTokenizer('<|endoftext|>');
  const ids = (one: CLIPTokenizer) =>
    `${one.encode(['a photograph of an astronaut riding a horse']).ids[0]!.slice(0, 9)}`;
  if (tokenizer.highestId === clips.highestId && ids(tokenizer) === ids(clips)) return;
  throw new UserError(
    `${file}: the model's tokenizer has a vocabulary of its own — single files hold none, and whoever reads them takes CLIP's. Write a folder: --format diffusers.`,
  );
}
