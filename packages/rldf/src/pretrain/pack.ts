// `rldf pretrain pack`: the model folder from the newest checkpoints.
import { cpSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { loadPipeline, saveNetwork, savePipeline, writeJson } from '@rldf/models';
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

/** Writes a model folder that differs from `model` in U-Net and text encoder: the averaged weights of a further leg. */
export function packLeg(folder: string, model: string, target: string): void {
  const { unet, textEncoder, parameters } = loadPipeline(model);
  const trained = [...parameters.unet.entries.values(), ...parameters.textEncoder.entries.values()];
  loadAveraged(join(folder, 'unet'), trained, { more: true }); // the auxiliary head stays behind
  if (resolve(model) !== resolve(target)) cpSync(model, target, { recursive: true });
  const file = 'diffusion_pytorch_model.safetensors';
  const dtype = 'float16';
  saveNetwork(join(target, 'unet'), file, unet.config, parameters.unet, { dtype });
  saveNetwork(join(target, 'text_encoder'), 'model.safetensors', textEncoder.config, parameters.textEncoder, {
    dtype,
  });
}

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
