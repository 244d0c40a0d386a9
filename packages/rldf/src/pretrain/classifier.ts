// The judge of single objects: which noun does a picture show? Trained on real scenes with seeds of its own; shares nothing with CLIP.

import { NounClassifier } from '@rldf/common/instruments/noun-classifier';
import { sceneBatch } from '@rldf/common/instruments/scenes';
import { type ArtSet, loadArt, nouns, type SampleOptions } from '@rldf/emoji-world';
import { F, Parameters, scope, tensor } from '@rldf/torch';
import { type FitEvent, type FitOptions, fitTrainee } from './fit.js';
import { type Stage, writeWithCard } from './stage.js';

/** Pictures of one noun, with colours, backgrounds and styles among them, so that the judge looks at the shape. */
const SCENES: SampleOptions = { kinds: { single: 0.7, colour: 0.1, background: 0.1, style: 0.1 } };
const index = new Map(nouns.map((noun, i) => [noun.name, i]));

/** Pictures of one noun, and its number. */
export function labelled(
  art: ArtSet,
  split: 'train' | 'validation' | 'test',
  seed: number,
  start: number,
  count: number,
  options = SCENES,
) {
  const { images, scenes } = sceneBatch(art, split, seed, start, count, options);
  return {
    images,
    labels: scenes.map((scene) => index.get((scene.objects[0] as { noun: string }).noun) as number),
  };
}

export async function* pretrainClassifier(
  classifier: NounClassifier,
  parameters: Parameters,
  options: FitOptions & { batchSize: number; seed: number },
): AsyncGenerator<FitEvent> {
  const art = await loadArt('noto');
  const { batchSize, seed } = options;
  const loss = (step: number) =>
    scope(() => {
      const { images, labels } = labelled(art, 'train', seed, step * batchSize, batchSize);
      return F.crossEntropy(classifier.forward(images).to('float32'), tensor(labels, { dtype: 'int64' }));
    });
  yield* fitTrainee({ parameters: parameters.trainable(), loss }, options);
}

/** Share of held-out real scenes of one noun named right. */
export async function measureClassifier(
  classifier: NounClassifier,
  seed: number,
  count = 2048,
): Promise<{ single: number; all: number }> {
  const art = await loadArt('noto');
  const share = (options: SampleOptions) => {
    let right = 0;
    for (let start = 0; start < count; start += 128) {
      scope(() => {
        const { images, labels } = labelled(art, 'test', seed, start, 128, options);
        const names = classifier.classify(images);
        right += names.filter((name, i) => index.get(name) === labels[i]).length;
      });
    }
    return right / count;
  };
  return { single: share({ kinds: { single: 1 } }), all: share(SCENES) };
}

export const judgeStage: Stage = {
  defaults: { steps: 2000, batchSize: 64, learningRate: 2e-3, seed: 104, sceneSeed: 1104 },
  async *run(context) {
    const { seed, sceneSeed, training } = context;
    const parameters = Parameters.random(seed);
    const classifier = new NounClassifier(parameters.at());
    yield* pretrainClassifier(classifier, parameters, training);
    if (training.signal?.aborted) return;
    const metrics = await measureClassifier(classifier, sceneSeed);
    const card = {
      name: 'judge',
      class: 'NounClassifier',
      role: 'judge',
      startedFrom: null,
      metrics,
      description: 'Names the one noun that a picture shows, among 124. For evaluation only.',
    } as const;
    writeWithCard(context, card, parameters.state());
  },
};
