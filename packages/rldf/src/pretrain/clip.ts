// CLIP on captioned scenes: the contrastive loss of Radford et al. 2021, with hard negatives: half of a batch are
// siblings of the other half, which differ in one thing only (order, relation, noun, number, colour, background), since
// a batch of unrelated scenes can be told apart by its nouns alone (Yuksekgonul et al. 2023, "bags-of-words").

import { tokenizerFolder } from '@rldf/common/instruments/models';
import { imagesOf, sceneBatch } from '@rldf/common/instruments/scenes';
import {
  type ArtSet,
  captionOf,
  HashRandom,
  loadArt,
  renderScene,
  type SampleOptions,
  type Split,
  sampleScene,
  siblingOf,
  splits,
} from '@rldf/emoji-world';
import { type CLIPModel, CLIPTokenizer, contrastiveLoss } from '@rldf/models';
import { arange, noGrad, type Parameters, scope, type Tensor, tensor } from '@rldf/torch';
import { type FitEvent, type FitOptions, fitTrainee } from './fit.js';
import { buildClip } from './parts.js';
import type { Stage } from './stage.js';

export interface ClipOptions extends FitOptions {
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

/** Scenes, and for each where there is one a sibling: about `count` pictures with their captions. */
export function siblingBatch(
  art: ArtSet,
  split: Split,
  seed: number,
  start: number,
  count: number,
  world: SampleOptions = {},
): { images: Tensor; captions: string[] } {
  const scenes = Array.from({ length: count / 2 }, (_, i) => sampleScene(split, seed, start + i, world));
  const all = scenes.flatMap((scene, i) => {
    const sibling = siblingOf(scene, split, new HashRandom(seed, start + i, splits.indexOf(split), SIBLINGS));
    return sibling === undefined ? [scene] : [scene, sibling];
  });
  return {
    images: imagesOf(all.map((scene) => renderScene(scene, art))),
    captions: all.map((scene, i) =>
      captionOf(scene, new HashRandom(seed, start + i, splits.indexOf(split), CAPTIONS).bits(), {
        partial: false,
      }),
    ),
  };
}

/** Keep the series of random numbers apart. */
const SIBLINGS = 0x736962;
const CAPTIONS = 0x636170;

/** Share of held-out scenes that fit their own caption better than their sibling's. */
export async function measureSiblings(
  clip: CLIPModel,
  tokenizer: CLIPTokenizer,
  seed: number,
  pairs = 512,
): Promise<number> {
  const art = await loadArt('noto');
  let told = 0;
  let right = 0;
  for (let start = 0; told < pairs; start += 64) {
    const scenes = Array.from({ length: 64 }, (_, i) => sampleScene('test', seed, start + i));
    const couples = scenes.flatMap((scene, i) => {
      const sibling = siblingOf(scene, 'test', new HashRandom(seed, start + i, SIBLINGS));
      return sibling === undefined ? [] : [[scene, sibling] as const];
    });
    noGrad(() =>
      scope(() => {
        const pictures = clip.encodeImage(imagesOf(couples.map(([scene]) => renderScene(scene, art))));
        const cosines = (which: 0 | 1) => {
          const texts = tokenTensor(
            tokenizer,
            couples.map((couple) => captionOf(couple[which])),
          );
          return clip.encodeText(texts).mul(pictures).sum([1]);
        };
        right += cosines(0).gt(cosines(1)).to('float32').sum().item();
      }),
    );
    told += couples.length;
  }
  return right / told;
}

export async function* pretrainClip(
  clip: CLIPModel,
  parameters: Parameters,
  tokenizer: CLIPTokenizer,
  options: ClipOptions,
): AsyncGenerator<FitEvent> {
  const art = await loadArt('noto');
  const { batchSize, seed, world } = options;
  const loss = (step: number) =>
    scope(() => {
      const { images, captions } = siblingBatch(art, 'train', seed, step * batchSize, batchSize, world);
      return contrastiveLoss(
        clip.forward(tokenTensor(tokenizer, captions), images).logitsPerImage.to('float32'),
      );
    });
  yield* fitTrainee({ parameters: parameters.trainable(), loss }, options);
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
  defaults: { steps: 3000, batchSize: 128, learningRate: 1.5e-3, seed: 0 },
  async *run({ seed, training, log }) {
    const tokenizer = CLIPTokenizer.load(tokenizerFolder);
    const { clip, parameters } = buildClip(tokenizer, seed);
    yield* pretrainClip(clip, parameters, tokenizer, training);
    const ownCaptionOf128 = await measureClip(clip, tokenizer, training.seed);
    const siblings = await measureSiblings(clip, tokenizer, training.seed);
    log(JSON.stringify({ ownCaptionOf128, siblings }));
  },
};
