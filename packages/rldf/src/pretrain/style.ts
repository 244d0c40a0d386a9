// The judges' feature network: what nouns, which style, which background, whose art. FID and KID compare its features.

import { knownArt, SceneClassifier, styleLabels } from '@rldf/common/instruments/scene-classifier';
import { imagesOf } from '@rldf/common/instruments/scenes';
import { type ArtSet, backgrounds, loadArt, nouns, type SampleOptions, type Split } from '@rldf/emoji-world';
import { F, Parameters, scope, type Tensor, tensor } from '@rldf/torch';
import { detectionBatch } from './detection-scenes.js';
import { fitTrainee } from './fit.js';
import { type Stage, writeWithCard } from './stage.js';

/** A third in a style. */
const styleWorld: SampleOptions = {
  kinds: { single: 0.2, colour: 0.1, background: 0.1, count: 0.1, relation: 0.15, style: 0.3, long: 0.05 },
  plainShare: 0.6,
};

export const styleStage: Stage = {
  defaults: { steps: 1500, batchSize: 64, learningRate: 2e-3, seed: 103, sceneSeed: 1103 },
  async *run(context) {
    const { seed, sceneSeed, training } = context;
    const parameters = Parameters.random(seed);
    const network = new SceneClassifier(parameters.at());
    const arts = await Promise.all(knownArt.map(loadArt));
    const loss = (step: number) =>
      scope(() => {
        const batch = labelledScenes(
          arts,
          'train',
          training.seed,
          step * training.batchSize,
          training.batchSize,
        );
        return sceneLoss(network, batch);
      });
    yield* fitTrainee({ parameters: parameters.trainable(), loss }, { emaDecay: 0.998, ...training });
    if (training.signal?.aborted) return;
    const metrics = measureScenes(network, arts, sceneSeed);
    const card = {
      name: 'style',
      class: 'SceneClassifier',
      role: 'judge',
      startedFrom: null,
      metrics,
      description:
        'Tells style, background, art set and nouns; its 128 features serve FID and KID. For evaluation only.',
    } as const;
    writeWithCard(context, card, parameters.state());
  },
};

export interface LabelledScenes {
  images: Tensor;
  /** Each noun's share of the objects, [B * nouns] */
  nouns: Float32Array;
  styles: number[];
  backgrounds: number[];
  arts: number[];
}

const nounIndex = new Map(nouns.map(({ name }, i) => [name, i]));

/** Art sets take turns from picture to picture. */
export function labelledScenes(
  arts: readonly ArtSet[],
  split: Split,
  seed: number,
  start: number,
  count: number,
): LabelledScenes {
  const one = (index: number) =>
    detectionBatch(arts[index % arts.length] as ArtSet, split, seed, index, 1, { world: styleWorld });
  const batches = Array.from({ length: count }, (_, i) => one(start + i));
  const scenes = batches.flatMap((batch) => batch.scenes);
  const pictures = batches.flatMap((batch) => batch.pictures);
  const shares = new Float32Array(count * nouns.length);
  for (const [i, { objects }] of scenes.entries()) {
    for (const { noun } of objects)
      shares[i * nouns.length + (nounIndex.get(noun) as number)]! += 1 / objects.length;
  }
  return {
    images: imagesOf(pictures),
    nouns: shares,
    styles: scenes.map(({ style }) => styleLabels.indexOf(style ?? 'plain')),
    backgrounds: scenes.map(({ background }) => backgrounds.indexOf(background)),
    arts: scenes.map((_, i) => (start + i) % arts.length),
  };
}

export function sceneLoss(network: SceneClassifier, batch: LabelledScenes): Tensor {
  const logits = network.forward(batch.images);
  const among = (head: Tensor, labels: number[]) =>
    F.crossEntropy(head.to('float32'), tensor(labels, { dtype: 'int64' }));
  const shares = tensor(batch.nouns, { shape: [batch.styles.length, nouns.length] });
  const noun = logits.noun.to('float32').logSoftmax(1).mul(shares).sum().div(-batch.styles.length);
  return noun
    .add(among(logits.style, batch.styles))
    .add(among(logits.background, batch.backgrounds))
    .add(among(logits.art, batch.arts));
}

/** Shares of held-out pictures told right. */
function measureScenes(network: SceneClassifier, arts: readonly ArtSet[], seed: number, count = 1536) {
  const right = { style: 0, background: 0, art: 0 };
  for (let start = 0; start < count; start += 64) {
    scope(() => {
      const batch = labelledScenes(arts, 'test', seed, start, 64);
      const logits = network.forward(batch.images);
      const hits = (head: Tensor, labels: number[]) =>
        head
          .argmax(1)
          .toNumbers()
          .filter((found, i) => found === labels[i]).length;
      right.style += hits(logits.style, batch.styles) / count;
      right.background += hits(logits.background, batch.backgrounds) / count;
      right.art += hits(logits.art, batch.arts) / count;
    });
  }
  return right;
}
