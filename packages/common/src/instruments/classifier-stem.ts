/** What the classifiers of whole pictures begin with, and how they are loaded. They share this code and no weight. */

import {
  Conv2d,
  F,
  GroupNorm,
  type ParameterPath,
  Parameters,
  readSafetensors,
  type Tensor,
} from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';

const WIDTHS = [32, 64, 96, 128] as const;
const SIZE = 64;
/** Channels that leave the stem. */
export const STEM_WIDTH = 128;

/** A convolution and its norm, at `PATH.conv` and `PATH.norm`. */
export class NormedConvolution {
  readonly #conv: Conv2d;
  readonly #norm: GroupNorm;

  constructor(path: ParameterPath, from: number, to: number, kernel: number, stride: number) {
    this.#conv = new Conv2d(path.at('conv'), from, to, kernel, { stride, padding: 1 });
    this.#norm = new GroupNorm(path.at('norm'), 8, to);
  }

  forward(hidden: Tensor): Tensor {
    return this.#norm.forward(this.#conv.forward(hidden)).silu();
  }
}

/** Four strided convolutions: [B, 3, 64, 64] in [-1, 1] -> [B, 128, 4, 4]. */
export class ClassifierStem {
  readonly #stages: NormedConvolution[];

  constructor(path: ParameterPath) {
    this.#stages = WIDTHS.map(
      (width, i) => new NormedConvolution(path.at(i), i === 0 ? 3 : (WIDTHS[i - 1] as number), width, 4, 2),
    );
  }

  forward(images: Tensor): Tensor {
    return this.#stages.reduce((hidden, stage) => stage.forward(hidden), images);
  }
}

/** A classifier from its file, in float32. @throws UserError for a file of another network */
export function loadClassifier<Classifier>(
  Class: new (path: ParameterPath) => Classifier,
  file: string,
): Classifier {
  const { tensors } = readSafetensors(file);
  const parameters = Parameters.from(tensors, { dtype: 'float32', where: file });
  const classifier = new Class(parameters.at());
  parameters.assertAllUsed();
  return classifier;
}

/** uint8 [B, H, W, 3] of any size -> [B, 3, 64, 64] in [-1, 1]. @throws UserError for another shape */
export function classifierInput(images: Tensor): Tensor {
  if (images.shape.length !== 4 || images.shape[3] !== 3) {
    throw new UserError(`classifier: images have shape [${images.shape}] — [batch, height, width, 3].`);
  }
  const floats = images.permute([0, 3, 1, 2]).to('float32').div(127.5).sub(1).contiguous();
  if (images.shape[1] === SIZE && images.shape[2] === SIZE) return floats;
  return F.interpolateBilinear(floats, [SIZE, SIZE], { antialias: true });
}
