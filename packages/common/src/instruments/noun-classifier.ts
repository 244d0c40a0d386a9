// The network behind the judge of single objects: which noun does a picture show?
import { nouns } from '@rldf/emoji-world';
import { Linear, noGrad, type ParameterPath, scope, type Tensor } from '@rldf/torch';
import { ClassifierStem, classifierInput, loadClassifier, STEM_WIDTH } from './classifier-stem.js';

/** The stem and a linear layer: 64 x 64 RGB -> one logit a noun. */
export class NounClassifier {
  readonly #stem: ClassifierStem;
  readonly #head: Linear;

  constructor(path: ParameterPath) {
    this.#stem = new ClassifierStem(path.at('stages'));
    this.#head = new Linear(path.at('head'), 16 * STEM_WIDTH, nouns.length);
  }

  static load(file: string): NounClassifier {
    return loadClassifier(NounClassifier, file);
  }

  /** images [B, 3, 64, 64] in [-1, 1] -> logits [B, nouns] */
  forward(images: Tensor): Tensor {
    return scope(() => this.#head.forward(this.#stem.forward(images).flatten(1)));
  }

  /** The most likely noun of each picture. @param images [B, 3, 64, 64] in [-1, 1] */
  classify(images: Tensor): string[] {
    const best = noGrad(() => scope(() => this.forward(images).argmax(1)));
    const names = best.toNumbers().map((i) => (nouns[i] as { name: string }).name);
    best.free();
    return names;
  }

  /** The same of pictures as they are drawn. @param images uint8 [B, H, W, 3] */
  nounsOf(images: Tensor): string[] {
    return scope(() => this.classify(classifierInput(images)));
  }
}
