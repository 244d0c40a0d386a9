// `rldf pretrain pack`: the model folder from the newest checkpoints.
import { cpSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { loadPipeline, saveNetwork, savePipeline, writeJson } from '@rldf/models';
import type { Parameters } from '@rldf/torch';
import { replaceFile } from '../base/files.js';
import { clipConfig } from '../instruments/configs.js';
import type { InstrumentCard } from '../instruments/instruments.js';
import { tokenizerFolder } from '../instruments/models.js';
import { basisOf, loadAveraged, parametersOf, partsOfStages } from './parts.js';
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
 * Writes a model folder that differs from `model` in what a further leg trained: averaged weights of U-Net and text
 * encoder, and of the autoencoder's halves where they have a stage of their own.
 */
export function packLeg(folder: string, model: string, target: string): void {
  const pipeline = loadPipeline(model);
  const { unet, textEncoder, vae, parameters } = pipeline;
  const trained = [...parameters.unet.entries.values(), ...parameters.textEncoder.entries.values()];
  loadAveraged(join(folder, 'unet'), trained, { more: true }); // the auxiliary head stays behind
  for (const half of ['decoder', 'encoder']) {
    loadAveraged(join(folder, half), parametersOf(parameters.vae, half), { optional: true });
  }
  if (resolve(model) !== resolve(target)) cpSync(model, target, { recursive: true });
  const save = (name: string, file: string, config: object, weights: Parameters) =>
    saveNetwork(join(target, name), file, config, weights, { dtype: 'float16' });
  save('unet', DIFFUSERS_FILE, unet.config, parameters.unet);
  save('vae', DIFFUSERS_FILE, vae.config, parameters.vae);
  save('text_encoder', 'model.safetensors', textEncoder.config, parameters.textEncoder);
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
