// The picture autoencoder of the built-in model. Its latents are pinned to the patch basis (patch-basis.ts): the encoder
// learns to compute them, the decoder to draw from them, noise and all. So the denoising network does not wait for either.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { quantise, sceneBatch, writeSheet } from '@rldf/common/instruments/scenes';
import { type ArtSet, loadArt } from '@rldf/emoji-world';
import { AutoencoderKL, loadPipeline } from '@rldf/models';
import { noGrad, noiseKey, normal, type Parameters, scope, type Tensor, uniform } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { type FitEvent, type FitOptions, fitTrainee } from './fit.js';
import { basisOf, buildVae, loadAveraged, parametersOf, patchBasis } from './parts.js';
import { loadPatchBasis, type PatchBasis, project } from './patch-basis.js';
import type { Stage, StageContext } from './stage.js';

export interface VaeOptions extends FitOptions {
  /** Which half is trained; the other stays as it is. */
  half: 'encoder' | 'decoder';
  batchSize: number;
  seed: number;
  /** The decoder sees latents with noise of a standard deviation up to this: what a denoiser leaves behind. */
  latentNoise?: number;
}

/** log σ² that the encoder reports: sharp, but not zero. */
const LOG_VARIANCE = -8;

export async function* pretrainVae(
  vae: AutoencoderKL,
  parameters: Parameters,
  basis: PatchBasis,
  options: VaeOptions,
): AsyncGenerator<FitEvent> {
  const { half, seed, batchSize } = options;
  const art = await loadArt('noto');
  const shown = sceneBatch(art, 'validation', seed, 0, 32).images;
  parameters.trainable(false);
  const trained = [...parameters.entries]
    .filter(([name]) => name.startsWith(`${half}.`))
    .map(([, tensor]) => tensor.requiresGrad_());
  const objective = half === 'encoder' ? encoderLoss : decoderLoss;
  const loss = (step: number) =>
    scope(() =>
      objective(
        vae,
        basis,
        sceneBatch(art, 'train', seed, step * batchSize, batchSize).images,
        step,
        options,
      ),
    );
  const sample = async (step: number, folder: string) => {
    mkdirSync(folder, { recursive: true });
    const decoded = noGrad(() =>
      scope(() => vae.decode(half === 'encoder' ? vae.encode(shown).mean : project(basis, shown))),
    );
    const after = quantise(decoded);
    decoded.free();
    await writeSheet(
      join(folder, `${half}-${step}.png`),
      quantise(shown).flatMap((picture, i) => [picture, after[i] as Uint8Array]),
      16,
    );
  };
  yield* fitTrainee({ parameters: trained, loss, sample }, options);
  shown.free();
}

function decoderLoss(
  vae: AutoencoderKL,
  basis: PatchBasis,
  images: Tensor,
  step: number,
  options: VaeOptions,
): Tensor {
  const latents = noGrad(() => project(basis, images)); // [B, C, h, w]
  const error = vae
    .decode(roughened(latents, step, options))
    .to('float32')
    .sub(images);
  return error.abs().mean().add(error.square().mean());
}

/** What the decoder is shown: latents with noise, another deviation for each picture, [B, C, h, w]. */
export function roughened(
  latents: Tensor,
  step: number,
  { seed, latentNoise = 0.15 }: Pick<VaeOptions, 'seed' | 'latentNoise'>,
): Tensor {
  const [batch = 0] = latents.shape;
  const noise = normal([noiseKey(seed, 'vae-noise', step)], latents.shape).squeeze(0);
  const amount = uniform([noiseKey(seed, 'vae-noise-amount', step)], [batch, 1, 1, 1])
    .squeeze(0)
    .mul(latentNoise);
  return latents.add(noise.mul(amount));
}

function encoderLoss(vae: AutoencoderKL, basis: PatchBasis, images: Tensor): Tensor {
  const latents = noGrad(() => project(basis, images)); // [B, C, h, w]
  const { mean, logvar } = vae.encode(images);
  return mean
    .to('float32')
    .sub(latents)
    .square()
    .mean()
    .add(logvar.to('float32').sub(LOG_VARIANCE).square().mean(), 1e-3);
}

/** Errors in [-1, 1] over validation scenes: the round trip, the decoder on exact latents, and the linear bound of the basis. */
export async function measureVae(
  vae: AutoencoderKL,
  basis: PatchBasis,
  seed: number,
  count = 512,
): Promise<Record<string, number>> {
  const art: ArtSet = await loadArt('noto');
  const sums: Record<string, number> = {
    'mse/roundTrip': 0,
    'mse/decoder': 0,
    'mae/decoder': 0,
    'mse/latents': 0,
  };
  const add = (name: string, value: Tensor) => {
    sums[name] = (sums[name] as number) + (value.item() * 64) / count;
  };
  for (let start = 0; start < count; start += 64) {
    noGrad(() =>
      scope(() => {
        const { images } = sceneBatch(art, 'validation', seed, start, 64);
        const exact = project(basis, images);
        const { mean } = vae.encode(images);
        const decoded = vae.decode(exact).sub(images);
        add('mse/roundTrip', vae.decode(mean).sub(images).square().mean());
        add('mse/decoder', decoded.square().mean());
        add('mae/decoder', decoded.abs().mean());
        add('mse/latents', mean.sub(exact).square().mean());
      }),
    );
  }
  return sums;
}

/** A further leg: the autoencoder of a model. */
function vaeOf(model: string): { vae: AutoencoderKL; parameters: Parameters } {
  const { vae, parameters } = loadPipeline(model);
  if (vae instanceof AutoencoderKL) return { vae, parameters: parameters.vae };
  throw new UserError(
    `${model}: its vae is no AutoencoderKL — only such a one is pre-trained. Give another folder.`,
  );
}

/** Trains one half; the other comes from its own stage, if it has been run. */
async function* trainHalf(
  half: VaeOptions['half'],
  { folder, from, seed, training, log }: StageContext,
): AsyncGenerator<FitEvent> {
  const { vae, parameters } = from === undefined ? buildVae(seed) : vaeOf(from);
  const basis = from === undefined ? await patchBasis(folder, seed) : loadPatchBasis(basisOf(from));
  const other = half === 'encoder' ? 'decoder' : 'encoder';
  loadAveraged(join(folder, other), parametersOf(parameters, other), { optional: true });
  yield* pretrainVae(vae, parameters, basis, { ...training, half });
  log(JSON.stringify(await measureVae(vae, basis, training.seed)));
}

export const decoderStage: Stage = {
  defaults: { steps: 6000, batchSize: 16, learningRate: 2e-3, seed: 0 },
  run: (context) => trainHalf('decoder', context),
};

export const encoderStage: Stage = {
  defaults: { steps: 1500, batchSize: 16, learningRate: 2e-3, seed: 0 },
  run: (context) => trainHalf('encoder', context),
};
