// CLIP on captioned scenes: the contrastive loss of Radford et al. 2021. Its text tower conditions the diffusion model and stays frozen from then on.
import { loadArt, type SampleOptions } from '@rldf/emoji-world';
import { type CLIPModel, CLIPTokenizer, contrastiveLoss } from '@rldf/models';
import { arange, noGrad, type Parameters, scope, type Tensor, tensor } from '@rldf/torch';
import { buildClip, tokenizerFolder } from './parts.js';
import { sceneBatch } from './scenes.js';
import type { Stage } from './stage.js';
import { type TrainingEvent, type TrainingOptions, train } from './training.js';

export interface ClipOptions extends TrainingOptions {
  batchSize: number;
  seed: number;
  /** Default: the world's own mix of scenes. */
  world?: SampleOptions;
}

/** Ids cut behind the longest text: a causal tower's end token does not see the padding. */
export function tokenTensor(tokenizer: CLIPTokenizer, texts: readonly string[]): Tensor {
  const { ids } = tokenizer.encode(texts);
  const length = Math.max(...ids.map((row) => row.indexOf(tokenizer.endId) + 1));
  return tensor(
    ids.map((row) => row.slice(0, length)),
    { dtype: 'int64' },
  ); // [B, L]
}

export async function* pretrainClip(
  clip: CLIPModel,
  parameters: Parameters,
  tokenizer: CLIPTokenizer,
  options: ClipOptions,
): AsyncGenerator<TrainingEvent> {
  const art = await loadArt('noto');
  const { batchSize, seed, world } = options;
  const loss = (step: number) =>
    scope(() => {
      const { images, captions } = sceneBatch(art, 'train', seed, step * batchSize, batchSize, world);
      return contrastiveLoss(
        clip.forward(tokenTensor(tokenizer, captions), images).logitsPerImage.to('float32'),
      );
    });
  yield* train({ parameters: parameters.trainable(), loss }, options);
}

/** Share of held-out pictures that pick their own caption out of `batchSize`, over `batches` batches. */
export async function measureClip(
  clip: CLIPModel,
  tokenizer: CLIPTokenizer,
  seed: number,
  batchSize = 128,
  batches = 4,
): Promise<number> {
  const art = await loadArt('noto');
  let right = 0;
  for (let batch = 0; batch < batches; batch++) {
    right += noGrad(() =>
      scope(() => {
        const { images, captions } = sceneBatch(art, 'validation', seed, batch * batchSize, batchSize);
        const { logitsPerImage } = clip.forward(tokenTensor(tokenizer, captions), images);
        return logitsPerImage
          .argmax(1)
          .eq(arange(0, batchSize, 1, { dtype: 'int64' }))
          .to('float32')
          .mean()
          .item();
      }),
    );
  }
  return right / batches;
}

export const clipStage: Stage = {
  defaults: { steps: 900, batchSize: 96, learningRate: 1.5e-3, seed: 0 },
  async *run({ seed, training, log }) {
    const tokenizer = CLIPTokenizer.load(tokenizerFolder);
    const { clip, parameters } = buildClip(tokenizer, seed);
    yield* pretrainClip(clip, parameters, tokenizer, training);
    const share = await measureClip(clip, tokenizer, training.seed);
    log(`share of held-out pictures that pick their caption out of 128: ${share}`);
  },
};
