import {
  Conv2d,
  F,
  Linear,
  type ParameterPath,
  type StateDict,
  scope,
  type Tensor,
  UserError,
} from '@rldf/torch';
import { BatchNorm2d } from './resnet-18.js';

/** Channels of a MobileNetV2, read off its weights. */
export interface FaceQualityConfig {
  /** Of the stem, and of the last convolution. */
  stem: number;
  last: number;
  /** Of each inverted residual: what its depthwise convolution has (more than its input where it expands), and what it gives. */
  blocks: readonly { hidden: number; out: number; expands: boolean }[];
}

/** Strides of MobileNetV2's 17 blocks (Sandler et al. 2018, table 2), whatever its width. */
const strides = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1];

const inference = { training: false } as const;

/**
 * The network of the package qualityface 1.0.3: MobileNetV2 (Sandler et al. 2018), mean over places, a linear layer. It says how
 * suitable a face is for being recognised. Names are torchvision's (`features.*`), and `classify`.
 */
export class FaceQualityNet {
  readonly #stem: ConvNorm;
  readonly #blocks: InvertedResidual[];
  readonly #last: ConvNorm;
  readonly #head: Linear;

  constructor({ stem, last, blocks }: FaceQualityConfig, path: ParameterPath) {
    const features = path.at('features');
    this.#stem = new ConvNorm(features.at(0), 3, stem, 3, 2);
    this.#blocks = blocks.map((block, i) => {
      const from = i === 0 ? stem : blocks[i - 1]!.out;
      return new InvertedResidual(features.at(i + 1), from, block, strides[i]!);
    });
    this.#last = new ConvNorm(features.at(blocks.length + 1), blocks.at(-1)!.out, last, 1, 1);
    this.#head = new Linear(path.at('classify'), last, 1);
  }

  /**
   * @param faces [B, 3, H, W] in [-1, 1], 128 x 128 in its training
   * @returns [B]
   */
  forward(faces: Tensor): Tensor {
    return scope(() => {
      const inner = this.#blocks.reduce((x, block) => block.forward(x), this.#stem.forward(faces)); // [B, 320, H/32, W/32]
      const places = this.#last.forward(inner); // [B, 1280, H/32, W/32]
      return this.#head.forward(places.mean([2, 3])).squeeze(1); // [B]
    });
  }
}

/** Convolution, norm, and a ReLU that ends at 6. */
class ConvNorm {
  readonly #conv: Conv2d | Depthwise;
  readonly #norm: BatchNorm2d;

  constructor(
    path: ParameterPath,
    from: number,
    to: number,
    kernel: number,
    stride: number,
    depthwise = false,
  ) {
    this.#conv = depthwise
      ? new Depthwise(path.at(0), to, stride)
      : new Conv2d(path.at(0), from, to, kernel, { stride, padding: (kernel - 1) / 2, bias: false });
    this.#norm = new BatchNorm2d(path.at(1), to);
  }

  forward(x: Tensor): Tensor {
    return this.#norm.forward(this.#conv.forward(x), inference).clamp(0, 6);
  }
}

/** A 3 x 3 convolution of each channel by itself. */
class Depthwise {
  readonly #weight: Tensor; // [C, 1, 3, 3]

  constructor(
    path: ParameterPath,
    readonly channels: number,
    readonly stride: number,
  ) {
    this.#weight = path.tensor('weight', [channels, 1, 3, 3], { uniform: 1 / 3 });
  }

  /** [B, C, H, W] -> [B, C, H / stride, W / stride] */
  forward(x: Tensor): Tensor {
    return F.conv2d(x, this.#weight, undefined, { stride: this.stride, padding: 1, groups: this.channels });
  }
}

/** Expand, depthwise convolution, project; added to the input where the shape stays. */
class InvertedResidual {
  readonly #inner: ConvNorm[];
  readonly #project: { conv: Conv2d; norm: BatchNorm2d };
  readonly #adds: boolean;

  constructor(
    path: ParameterPath,
    from: number,
    { hidden, out, expands }: FaceQualityConfig['blocks'][number],
    stride: number,
  ) {
    const conv = path.at('conv');
    const place = expands ? 1 : 0;
    this.#inner = [
      ...(expands ? [new ConvNorm(conv.at(0), from, hidden, 1, 1)] : []),
      new ConvNorm(conv.at(place), hidden, hidden, 3, stride, true),
    ];
    this.#project = {
      conv: new Conv2d(conv.at(place + 1), hidden, out, 1, { bias: false }),
      norm: new BatchNorm2d(conv.at(place + 2), out),
    };
    this.#adds = stride === 1 && from === out;
  }

  /** [B, from, H, W] -> [B, out, H / stride, W / stride] */
  forward(x: Tensor): Tensor {
    return scope(() => {
      const inner = this.#inner.reduce((hidden, layer) => layer.forward(hidden), x);
      const branch = this.#project.norm.forward(this.#project.conv.forward(inner), inference);
      return this.#adds ? branch.add(x) : branch;
    });
  }
}

/**
 * The tensors of the network by our names, from the package's file, which names them `module.backbone.net.features.*`, repeats
 * them as `module.backbone.backbone.features.*`, and has torchvision's classifier, which nothing uses.
 */
export function fromQualityFace(state: StateDict): StateDict {
  const used = [...state].flatMap(([name, tensor]): [string, Tensor][] => {
    const own = name.replace(/^module\./, '').replace(/^backbone\.net\./, '');
    return /^(features|classify)\./.test(own) ? [[own, tensor]] : [];
  });
  return new Map(used);
}

/** @throws UserError for weights that are not of this network */
export function faceQualityConfigOf(state: StateDict, where: string): FaceQualityConfig {
  const channels = (name: string) => state.get(`features.${name}.weight`)?.shape[0];
  const [stem, last] = [channels('0.0'), channels(`${strides.length + 1}.0`)];
  const blocks = strides.map((_, i) => {
    const expands = channels(`${i + 1}.conv.3`) !== undefined;
    const hidden = channels(expands ? `${i + 1}.conv.1.0` : `${i + 1}.conv.0.0`);
    const out = channels(expands ? `${i + 1}.conv.2` : `${i + 1}.conv.1`);
    return hidden === undefined || out === undefined ? undefined : { hidden, out, expands };
  });
  const missing = blocks.indexOf(undefined);
  if (stem === undefined || last === undefined || missing >= 0 || !state.has('classify.weight'))
    throw new UserError(
      `${where}: is no MobileNetV2 that ends in one number${missing >= 0 ? ` (features.${missing + 1} is missing)` : ''} — the weights of qualityface 1.0.3 are needed, its file checkpoints/last.pth. Give that file.`,
    );
  return { stem, last, blocks: blocks as FaceQualityConfig['blocks'] };
}
