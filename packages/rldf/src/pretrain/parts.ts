// The built-in model's networks, with what the earlier stages have learnt so far.
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  clipConfig,
  LATENT_CHANNELS,
  schedulerConfig,
  unetConfig,
  vaeConfig,
} from '@rldf/common/instruments/configs';
import { tokenizerFolder } from '@rldf/common/instruments/models';
import { listCheckpoints, loadCheckpoint } from '@rldf/common/storage/checkpoint';
import { loadArt } from '@rldf/emoji-world';
import {
  AutoencoderKL,
  CLIPModel,
  CLIPTextModel,
  CLIPTokenizer,
  loadPipeline,
  type Pipeline,
  UNet2DConditionModel,
} from '@rldf/models';
import { free, noGrad, Parameters, type StateDict, scope, type Tensor } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { fitPatchBasis, loadPatchBasis, type PatchBasis, savePatchBasis } from './patch-basis.js';

/** A pipeline in the making, and the basis of its latents. */
export interface Parts {
  pipeline: Pipeline;
  basis: PatchBasis;
  decoderReady: boolean;
}

export async function partsOfStages(folder: string, seed: number): Promise<Parts & { clip: Parameters }> {
  const tokenizer = CLIPTokenizer.load(tokenizerFolder);
  const text = buildTextEncoder(folder, tokenizer);
  const decoder = buildVae(seed);
  const decoderReady = loadAveraged(join(folder, 'decoder'), parametersOf(decoder.parameters, 'decoder'), {
    optional: true,
  });
  const unet = Parameters.random(seed);
  const pipeline: Pipeline = {
    unet: new UNet2DConditionModel(unetConfig, unet.at()),
    vae: decoder.vae,
    textEncoder: text.textEncoder,
    tokenizer,
    schedulerConfig,
    parameters: { unet, vae: decoder.parameters, textEncoder: text.parameters },
    defaults: {},
  };
  return { pipeline, basis: await patchBasis(folder, seed), decoderReady, clip: text.clip };
}

/** A further leg: the U-Net goes on from a model's weights; its optimiser starts anew, behind a warm-up. */
export function partsOfModel(model: string): Parts {
  return { pipeline: loadPipeline(model), basis: loadPatchBasis(basisOf(model)), decoderReady: true };
}

/** The latent basis lies beside the model, with the instruments. */
export const basisOf = (model: string) => join(dirname(model), 'instruments', 'patch-basis.safetensors');

export function buildClip(
  tokenizer: CLIPTokenizer,
  seed: number,
): { clip: CLIPModel; parameters: Parameters } {
  const parameters = Parameters.random(seed);
  return { clip: new CLIPModel(clipConfig(tokenizer), parameters.at()), parameters };
}

export function buildVae(seed: number): { vae: AutoencoderKL; parameters: Parameters } {
  const parameters = Parameters.random(seed);
  return { vae: new AutoencoderKL(vaeConfig, parameters.at()), parameters };
}

/** The text tower of the trained CLIP by itself, and CLIP's whole state. */
function buildTextEncoder(
  folder: string,
  tokenizer: CLIPTokenizer,
): { textEncoder: CLIPTextModel; parameters: Parameters; clip: Parameters } {
  const { parameters: clipParameters } = buildClip(tokenizer, 0);
  loadAveraged(join(folder, 'clip'), [...clipParameters.entries.values()]);
  const tower: StateDict = new Map(
    [...clipParameters.entries].filter(([name]) => name.startsWith('text_model.')),
  );
  const parameters = Parameters.from(tower);
  const { text_config: config } = clipConfig(tokenizer);
  return { textEncoder: new CLIPTextModel(config, parameters.at()), parameters, clip: clipParameters };
}

export const parametersOf = (parameters: Parameters, half: string) =>
  [...parameters.entries].filter(([name]) => name.startsWith(`${half}.`)).map(([, tensor]) => tensor);

/**
 * Copies the averaged weights of a stage's newest checkpoint into `parameters`.
 * @param options.optional false is returned, and nothing thrown, when there is none
 * @param options.more what may follow in the checkpoint: all of it is copied if it is there, and none of it if not
 * @param options.further the checkpoint may hold tensors behind these
 */
export function loadAveraged(
  stageFolder: string,
  parameters: readonly Tensor[],
  {
    optional = false,
    more = [],
    further = false,
  }: { optional?: boolean; more?: readonly Tensor[]; further?: boolean } = {},
): boolean {
  const checkpoints = join(stageFolder, 'checkpoints');
  if (!existsSync(checkpoints) || listCheckpoints(checkpoints).length === 0) {
    if (optional) return false;
    throw new UserError(
      `${stageFolder}: no checkpoint — this stage comes first. Run \`rldf pretrain ${stageFolder.split('/').at(-1)}\`.`,
    );
  }
  const { state } = loadCheckpoint(checkpoints);
  const { averaged } = (state as { average: { averaged: Tensor[] } }).average;
  const all = [...parameters, ...more];
  const wanted = averaged.length < all.length ? parameters : all;
  if (further ? averaged.length < wanted.length : averaged.length !== wanted.length) {
    throw new UserError(
      `${stageFolder}: the checkpoint holds ${averaged.length} tensors, the network has ${wanted.length} — it was trained with another config. Use another folder.`,
    );
  }
  noGrad(() =>
    scope(() => {
      wanted.forEach((parameter, i) => {
        parameter.detach().copy_(averaged[i] as Tensor);
      });
    }),
  );
  free(state);
  return true;
}

export async function patchBasis(folder: string, seed: number): Promise<PatchBasis> {
  const file = join(folder, 'basis.safetensors');
  if (existsSync(file)) return loadPatchBasis(file);
  const basis = fitPatchBasis(await loadArt('noto'), seed, LATENT_CHANNELS, FLATTEN);
  savePatchBasis(file, basis);
  return basis;
}

/** Half way between the true spectrum (0) and white latents (1). */
export const FLATTEN = 0.5;
