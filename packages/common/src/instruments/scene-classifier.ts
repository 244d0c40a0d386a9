// The judges' feature network: one trunk that tells nouns, style, background and art set; FID and KID compare its features.
import { backgrounds, nouns, styles } from '@rldf/emoji-world';
import { Linear, noGrad, type ParameterPath, scope, type Tensor } from '@rldf/torch';
import {
  ClassifierStem,
  classifierInput,
  loadClassifier,
  NormedConvolution,
  STEM_WIDTH,
} from './classifier-stem.js';

/** `plain` is no style at all. */
export const styleLabels = ['plain', ...styles] as const;
export type StyleLabel = (typeof styleLabels)[number];
/** Art sets it was trained on. OpenMoji is held out. */
export const knownArt = ['noto', 'twemoji', 'fluent-emoji-flat'] as const;
export type KnownArt = (typeof knownArt)[number];

export const FEATURES = STEM_WIDTH;

/** What each head says of a picture, as logits of a softmax; where several nouns are there they share its probability. */
export interface SceneLogits {
  /** [B, 124] */
  noun: Tensor;
  /** [B, 4] */
  style: Tensor;
  /** [B, 8] */
  background: Tensor;
  /** [B, 3] */
  art: Tensor;
}

/** The stem, a residual convolution, the mean over places: 128 features; linear heads. */
export class SceneClassifier {
  readonly #stem: ClassifierStem;
  readonly #last: NormedConvolution;
  readonly #heads: Record<keyof SceneLogits, Linear>;

  constructor(path: ParameterPath) {
    this.#stem = new ClassifierStem(path.at('stages'));
    this.#last = new NormedConvolution(path.at('last'), FEATURES, FEATURES, 3, 1);
    const head = (name: string, count: number) => new Linear(path.at('heads', name), FEATURES, count);
    this.#heads = {
      noun: head('noun', nouns.length),
      style: head('style', styleLabels.length),
      background: head('background', backgrounds.length),
      art: head('art', knownArt.length),
    };
  }

  static load(file: string): SceneClassifier {
    return loadClassifier(SceneClassifier, file);
  }

  /** images [B, 3, 64, 64] in [-1, 1] -> [B, 128] */
  features(images: Tensor): Tensor {
    return scope(() => {
      const hidden = this.#stem.forward(images);
      return hidden.add(this.#last.forward(hidden)).mean([2, 3]);
    });
  }

  forward(images: Tensor): SceneLogits {
    return scope(() => {
      const features = this.features(images);
      const { noun, style, background, art } = this.#heads;
      return {
        noun: noun.forward(features),
        style: style.forward(features),
        background: background.forward(features),
        art: art.forward(features),
      };
    });
  }

  /** The likeliest style of each picture. @param images uint8 [B, H, W, 3] */
  styles(images: Tensor): StyleLabel[] {
    const best = noGrad(() => scope(() => this.forward(classifierInput(images)).style.argmax(1).toNumbers()));
    return best.map((i) => styleLabels[i] as StyleLabel);
  }

  /** Features of pictures, one row each. @param images uint8 [B, H, W, 3] */
  featuresOf(images: Tensor): number[][] {
    const flat = noGrad(() => scope(() => this.features(classifierInput(images)).toNumbers()));
    return Array.from({ length: flat.length / FEATURES }, (_, i) =>
      flat.slice(i * FEATURES, (i + 1) * FEATURES),
    );
  }
}
