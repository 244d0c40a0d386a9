// `rldf pretrain pack`: the model folder from the newest checkpoints.
import { cpSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { replaceFile } from '@rldf/common/base/files';
import { clipConfig } from '@rldf/common/instruments/configs';
import type { InstrumentCard } from '@rldf/common/instruments/instruments';
import { tokenizerFolder } from '@rldf/common/instruments/models';
import { loadPipeline, saveNetwork, savePipeline, writeJson } from '@rldf/models';
import type { Parameters, Tensor } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { basisOf, buildClip, loadAveraged, parametersOf, partsOfStages } from './parts.js';
import { savePatchBasis } from './patch-basis.js';

/** Writes the model folder from the averaged weights of all stages' newest checkpoints, in half precision; the latent basis goes beside it. */
export async function packModel(folder: string, target: string): Promise<void> {
  const { pipeline, basis, clip } = await partsOfStages(folder, 0);
  const { vae, unet } = pipeline.parameters;
  loadAveraged(join(folder, 'decoder'), parametersOf(vae, 'decoder'));
  loadAveraged(join(folder, 'encoder'), parametersOf(vae, 'encoder'), { optional: true });
  loadAveraged(join(folder, 'unet'), [...unet.entries.values()]);
  pipeline.defaults = { steps: 14, guidanceScale: 3 };
  // the tokenizer is not trained here: its files stay as the world made them
  const tokenizerFiles = readdirSync(tokenizerFolder).map(
    (name) => [name, readFileSync(join(tokenizerFolder, name))] as const,
  );
  savePipeline(pipeline, target, { dtype: 'float16' });
  for (const [name, bytes] of tokenizerFiles) replaceFile(join(target, 'tokenizer', name), bytes);
  saveNetwork(join(target, 'clip'), 'model.safetensors', clipConfig(pipeline.tokenizer), clip, {
    dtype: 'float16',
  });
  mkdirSync(dirname(basisOf(target)), { recursive: true });
  savePatchBasis(basisOf(target), basis);
  writeJson(basisOf(target).replace('.safetensors', '.json'), basisCard);
}

/**
 * Writes a model folder that differs from `model` in what was trained since: the averaged weights of the stages that
 * `folder` holds. The stage unet is the U-Net with its text encoder; clip is the scorers' CLIP, which draws nothing.
 * @throws UserError when the folder holds no stage of a model
 */
export function packLeg(folder: string, model: string, target: string): void {
  const { unet, textEncoder, vae, tokenizer, parameters } = loadPipeline(model);
  const { clip, parameters: clipParameters } = buildClip(tokenizer, 0);
  const has = (stage: string, trained: readonly Tensor[], others: object = {}) =>
    loadAveraged(join(folder, stage), trained, { optional: true, ...others });
  // the text encoder, unless it was frozen; the auxiliary head stays behind
  const others = { more: [...parameters.textEncoder.entries.values()], further: true };
  const trained = {
    unet: has('unet', [...parameters.unet.entries.values()], others),
    decoder: has('decoder', parametersOf(parameters.vae, 'decoder')),
    encoder: has('encoder', parametersOf(parameters.vae, 'encoder')),
    clip: has('clip', [...clipParameters.entries.values()]),
  };
  if (!Object.values(trained).includes(true)) {
    throw new UserError(
      `${folder}: no checkpoint of ${Object.keys(trained).join(', ')} — there is nothing to pack. Run \`rldf pretrain unet --from ${model} --folder ${folder}\` first`,
    );
  }
  if (resolve(model) !== resolve(target)) cpSync(model, target, { recursive: true });
  const save = (name: string, file: string, config: object, weights: Parameters) =>
    saveNetwork(join(target, name), file, config, weights, { dtype: 'float16' });
  if (trained.unet) {
    save('unet', DIFFUSERS_FILE, unet.config, parameters.unet);
    save('text_encoder', 'model.safetensors', textEncoder.config, parameters.textEncoder);
  }
  if (trained.decoder || trained.encoder) save('vae', DIFFUSERS_FILE, vae.config, parameters.vae);
  if (trained.clip) save('clip', 'model.safetensors', clip.config, clipParameters);
}

const DIFFUSERS_FILE = 'diffusion_pytorch_model.safetensors';

const basisCard: InstrumentCard = {
  name: 'patch-basis',
  class: 'PatchBasis',
  role: 'feedback',
  seed: 0,
  sceneSeed: 0,
  split: 'train',
  startedFrom: null,
  metrics: {},
  description: 'Principal components of 8 x 8 patches: the latent space of the built-in model.',
  licence: 'Apache-2.0',
};
