// The judges' feature network: one trunk that tells nouns, style, background and art set; FID and KID compare its features.
import { backgrounds, nouns, styles } from '@rldf/emoji-world';
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
  UserError,
} from '@rldf/torch';

/** `plain` is no style at all. */
export const styleLabels = ['plain', ...styles] as const;
export type StyleLabel = (typeof styleLabels)[number];
/** Art sets it was trained on. OpenMoji is held out. */
export const knownArt = ['noto', 'twemoji', 'fluent-emoji-flat'] as const;
export type KnownArt = (typeof knownArt)[number];

export const FEATURES = 128;
const WIDTHS = [32, 64, 96, 128] as const;
const SIZE = 64;

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

/** Four strided convolutions, a residual one, the mean over places: 128 features; linear heads. */
export class SceneClassifier {
  readonly #stages: { conv: Conv2d; norm: GroupNorm }[];
  readonly #last: { conv: Conv2d; norm: GroupNorm };
  readonly #heads: Record<keyof SceneLogits, Linear>;

  constructor(path: ParameterPath) {
    const block = (at: ParameterPath, from: number, to: number, kernel: number, stride: number) => ({
      conv: new Conv2d(at.at('conv'), from, to, kernel, { stride, padding: 1 }),
      norm: new GroupNorm(at.at('norm'), 8, to),
    });
    this.#stages = WIDTHS.map((width, i) =>
      block(path.at('stages', i), i === 0 ? 3 : (WIDTHS[i - 1] as number), width, 4, 2),
    );
    this.#last = block(path.at('last'), FEATURES, FEATURES, 3, 1);
    const head = (name: string, count: number) => new Linear(path.at('heads', name), FEATURES, count);
    this.#heads = {
      noun: head('noun', nouns.length),
      style: head('style', styleLabels.length),
      background: head('background', backgrounds.length),
      art: head('art', knownArt.length),
    };
  }

  static load(file: string): SceneClassifier {
    const { tensors } = readSafetensors(file);
    const parameters = Parameters.from(tensors, { dtype: 'float32', where: file });
    const classifier = new SceneClassifier(parameters.at());
    parameters.assertAllUsed();
    return classifier;
  }

  /** images [B, 3, 64, 64] in [-1, 1] -> [B, 128] */
  features(images: Tensor): Tensor {
    return scope(() => {
      let hidden = images;
      for (const { conv, norm } of this.#stages) hidden = norm.forward(conv.forward(hidden)).silu();
      const { conv, norm } = this.#last;
      return hidden.add(norm.forward(conv.forward(hidden)).silu()).mean([2, 3]);
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
    const best = noGrad(() => scope(() => this.forward(judgeInput(images)).style.argmax(1).toNumbers()));
    return best.map((i) => styleLabels[i] as StyleLabel);
  }

  /** Features of pictures, one row each. @param images uint8 [B, H, W, 3] */
  featuresOf(images: Tensor): number[][] {
    const flat = noGrad(() => scope(() => this.features(judgeInput(images)).toNumbers()));
    return Array.from({ length: flat.length / FEATURES }, (_, i) =>
      flat.slice(i * FEATURES, (i + 1) * FEATURES),
    );
  }
}

/** uint8 [B, H, W, 3] of any size -> [B, 3, 64, 64] in [-1, 1] */
function judgeInput(images: Tensor): Tensor {
  if (images.shape.length !== 4 || images.shape[3] !== 3) {
    throw new UserError(`SceneClassifier: images have shape [${images.shape}] — [batch, height, width, 3].`);
  }
  const floats = images.permute([0, 3, 1, 2]).to('float32').div(127.5).sub(1).contiguous();
  if (images.shape[1] === SIZE && images.shape[2] === SIZE) return floats;
  return F.interpolateBilinear(floats, [SIZE, SIZE], { antialias: true });
}
