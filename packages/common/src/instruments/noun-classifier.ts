// The network behind the judge of single objects: which noun does a picture show?
import { nouns } from '@rldf/emoji-world';
import {
  Conv2d,
  GroupNorm,
  Linear,
  noGrad,
  type ParameterPath,
  Parameters,
  readSafetensors,
  scope,
  type Tensor,
} from '@rldf/torch';

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

  /** The same of pictures as they are drawn. @param images uint8 [B, 64, 64, 3] */
  nounsOf(images: Tensor): string[] {
    return scope(() => this.classify(minusOneToOne(images)));
  }
}

/** uint8 [B, H, W, 3] -> [B, 3, H, W] in [-1, 1] */
function minusOneToOne(images: Tensor): Tensor {
  return scope(() => images.permute([0, 3, 1, 2]).to('float32').div(127.5).sub(1).contiguous());
}
