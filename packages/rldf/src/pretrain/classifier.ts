// The judge of single objects: which noun does a picture show? Trained on real scenes with seeds of its own; shares nothing with CLIP.
import { type ArtSet, loadArt, nouns, type SampleOptions } from '@rldf/emoji-world';
import {
  Conv2d,
  F,
  GroupNorm,
  Linear,
  noGrad,
  type ParameterPath,
  Parameters,
  readSafetensors,
  scope,
  type Tensor,
  tensor,
} from '@rldf/torch';
import { writeInstrument } from '../instruments/instruments.js';
import { sceneBatch } from '../instruments/scenes.js';
import type { Stage } from './stage.js';
import { type TrainingEvent, type TrainingOptions, train } from './training.js';

const WIDTHS = [32, 64, 96, 128] as const;

/** Four strided convolutions and a linear layer: 64 x 64 RGB -> one logit a noun. */
export class NounClassifier {
  readonly #stages: { conv: Conv2d; norm: GroupNorm }[];
  readonly #head: Linear;

  constructor(path: ParameterPath) {
    this.#stages = WIDTHS.map((width, i) => ({
      conv: new Conv2d(path.at('stages', i, 'conv'), i === 0 ? 3 : (WIDTHS[i - 1] as number), width, 4, {
        stride: 2,
        padding: 1,
      }),
      norm: new GroupNorm(path.at('stages', i, 'norm'), 8, width),
    }));
    this.#head = new Linear(path.at('head'), 16 * (WIDTHS.at(-1) as number), nouns.length);
  }

  static load(file: string): NounClassifier {
    const { tensors } = readSafetensors(file);
    const parameters = Parameters.from(tensors, { dtype: 'float32', where: file });
    const classifier = new NounClassifier(parameters.at());
    parameters.assertAllUsed();
    return classifier;
  }

  /** images [B, 3, 64, 64] in [-1, 1] -> logits [B, nouns] */
  forward(images: Tensor): Tensor {
    return scope(() => {
      let hidden = images;
      for (const { conv, norm } of this.#stages) hidden = norm.forward(conv.forward(hidden)).silu();
      return this.#head.forward(hidden.flatten(1));
    });
  }

  /** The most likely noun of each picture. */
  classify(images: Tensor): string[] {
    const best = noGrad(() => scope(() => this.forward(images).argmax(1)));
    const names = best.toNumbers().map((i) => (nouns[i] as { name: string }).name);
    best.free();
    return names;
  }
}

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
  options: TrainingOptions & { batchSize: number; seed: number },
): AsyncGenerator<TrainingEvent> {
  const art = await loadArt('noto');
  const { batchSize, seed } = options;
  const loss = (step: number) =>
    scope(() => {
      const { images, labels } = labelled(art, 'train', seed, step * batchSize, batchSize);
      return F.crossEntropy(classifier.forward(images).to('float32'), tensor(labels, { dtype: 'int64' }));
    });
  yield* train({ parameters: parameters.trainable(), loss }, options);
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
  async *run({ seed, sceneSeed, training, output, log }) {
    const parameters = Parameters.random(seed);
    const classifier = new NounClassifier(parameters.at());
    yield* pretrainClassifier(classifier, parameters, training);
    if (training.signal?.aborted) return;
    const metrics = await measureClassifier(classifier, sceneSeed);
    log(JSON.stringify(metrics));
    const card = {
      name: 'judge',
      class: 'NounClassifier',
      role: 'judge',
      seed,
      sceneSeed,
      split: 'train',
      startedFrom: null,
      metrics,
      description: 'Names the one noun that a picture shows, among 124. For evaluation only.',
      licence: 'Apache-2.0',
    } as const;
    writeInstrument(output, card, parameters.state());
  },
};
