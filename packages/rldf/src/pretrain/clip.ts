// CLIP on captioned scenes: the contrastive loss of Radford et al. 2021. Its text tower conditions the diffusion model and stays frozen from then on.
import { loadArt } from '@rldf/emoji-world';
import { type CLIPModel, type CLIPTokenizer, contrastiveLoss } from '@rldf/models';
import { arange, noGrad, type Parameters, scope, type Tensor, tensor } from '@rldf/torch';
import { sceneBatch } from './scenes.js';
import { type TrainingEvent, type TrainingOptions, train } from './training.js';

export interface ClipOptions extends TrainingOptions {
  batchSize: number;
  seed: number;
}

export function tokenTensor(tokenizer: CLIPTokenizer, texts: readonly string[]): Tensor {
  const { ids } = tokenizer.encode(texts);
  return tensor(ids, { dtype: 'int64' }); // [B, L]
}

export async function* pretrainClip(
  clip: CLIPModel,
  parameters: Parameters,
  tokenizer: CLIPTokenizer,
  options: ClipOptions,
): AsyncGenerator<TrainingEvent> {
  const art = await loadArt('noto');
  const { batchSize, seed } = options;
  const loss = (step: number) =>
    scope(() => {
      const { images, captions } = sceneBatch(art, 'train', seed, step * batchSize, batchSize);
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
