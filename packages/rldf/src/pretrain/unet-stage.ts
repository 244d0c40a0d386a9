// The U-Net's stage: its parts from the earlier stages or a model folder, and contact sheets while it trains.
import { join } from 'node:path';
import { picturesOf } from '@rldf/common/base/picture';
import { schedulerConfig, worlds } from '@rldf/common/instruments/configs';
import { quantise, writeSheet } from '@rldf/common/instruments/scenes';
import { type CaptionedOptions, promptScenes } from '@rldf/emoji-world';
import { generate } from '@rldf/models';
import { free, scope } from '@rldf/torch';
import type { FitEvent } from './fit.js';
import { partsOfModel, partsOfStages } from './parts.js';
import { reconstruct } from './patch-basis.js';
import type { Stage, StageContext } from './stage.js';
import { cacheLatents, pretrainUNet } from './unet.js';

export const unetStage: Stage = {
  defaults: { steps: 4500, batchSize: 32, learningRate: 2.5e-3, seed: 0 },
  run: trainUNet,
};

async function* trainUNet(context: StageContext): AsyncGenerator<FitEvent> {
  const { folder, from, seed, log } = context;
  const { pipeline, basis, decoderReady } =
    from === undefined ? await partsOfStages(folder, seed) : partsOfModel(from);
  log(`U-Net: ${pipeline.parameters.unet.count} parameters`);
  const world: CaptionedOptions = worlds[context.world];
  const training = {
    ...context.training,
    scheduler: schedulerConfig,
    cachedScenes: context.cachedScenes,
    world: context.captionNoise === undefined ? world : { ...world, captionNoise: context.captionNoise },
    textRate: context.textRate,
    layoutWeight: context.layoutWeight,
  };
  const cache = await cacheLatents(basis, pipeline.tokenizer, training, (done) => {
    if (done % 10_000 === 0) log(`encoded ${done} scenes`);
  });
  const shown = (['single', 'colour', 'count', 'relation', 'background', 'activity'] as const).flatMap(
    (kind) =>
      promptScenes('validation', kind)
        .slice(0, kind === 'single' ? 36 : 6)
        .map(({ prompt }) => prompt),
  );
  const sample = async (step: number, to: string) => {
    for (const eta of [0, 1]) {
      const { images, latents } = await generate(pipeline, {
        prompts: shown,
        seeds: shown.map((_, i) => i),
        steps: 14,
        guidanceScale: 3,
        eta,
      });
      const pictures = decoderReady
        ? picturesOf(images).map(({ data }) => data)
        : scope(() => quantise(reconstruct(basis, latents)));
      await writeSheet(join(to, `unet-${step}-eta${eta}.png`), pictures, 12);
      free([images, latents]);
    }
  };
  yield* pretrainUNet(pipeline, cache, training, sample);
}
