/** ResNet-18 (He et al. 2016, table 1), parameter names and arithmetic as in torchvision: the standard classifier of pictures. */

import { Conv2d, Linear, ops, type ParameterPath, type Parameters, scope, type Tensor } from '@rldf/torch';

export interface ResNet18Options {
  classes: number;
  /** Channels of the first stage; the others have 2, 4 and 8 times as many. The standard network has 64. */
  width?: number;
}

export interface ForwardOptions {
  /** Normalise by the batch's own statistics and move the running ones towards them; else by the running ones. */
  training: boolean;
}

/**
 * Stem (7 x 7 of stride 2, max-pool 3 x 3 of stride 2), four stages of two basic blocks, mean over places, linear layer.
 * 11.69 million parameters with 1000 classes.
 */
export class ResNet18 {
  readonly #stem: { conv: Conv2d; norm: BatchNorm2d };
  readonly #blocks: BasicBlock[];
  readonly #head: Linear;

  constructor(path: ParameterPath, { classes, width = 64 }: ResNet18Options) {
    this.#stem = {
      conv: convolution(path.at('conv1'), 3, width, 7, 2),
      norm: new BatchNorm2d(path.at('bn1'), width),
    };
    this.#blocks = [1, 2, 4, 8].flatMap((times, stage) => {
      const at = (block: number) => path.at(`layer${stage + 1}`, block);
      const [from, to] = [stage === 0 ? width : (times / 2) * width, times * width];
      return [new BasicBlock(at(0), from, to, stage === 0 ? 1 : 2), new BasicBlock(at(1), to, to, 1)];
    });
    this.#head = new Linear(path.at('fc'), 8 * width, classes);
  }

  /**
   * @param images [B, 3, H, W], at about mean 0 and deviation 1. Fastest as a permuted [B, H, W, 3]: the memory order is kept
   * @returns logits [B, classes]
   */
  forward(images: Tensor, options: ForwardOptions): Tensor {
    return scope(() => {
      const { conv, norm } = this.#stem;
      let hidden = norm.forward(conv.forward(images), options).relu(); // [B, 64, H/2, W/2]
      hidden = ops.aten('max_pool2d')(hidden, [3, 3], [2, 2], [1, 1]) as Tensor; // [B, 64, H/4, W/4]
      for (const block of this.#blocks) hidden = block.forward(hidden, options); // [B, 512, H/32, W/32] at the end
      return this.#head.forward(hidden.mean([2, 3]));
    });
  }
}

/** What an optimiser learns: all but the running statistics. */
export function learnedParameters(parameters: Parameters): Tensor[] {
  return [...parameters.entries].filter(([name]) => !statistic.test(name)).map(([, tensor]) => tensor);
}

/** Running statistics are kept, not learned. */
const statistic = /(^|\.)(running_mean|running_var|num_batches_tracked)$/;

/** Two 3 x 3 convolutions, added to the input; a projection where the shape changes. */
class BasicBlock {
  readonly #conv1: Conv2d;
  readonly #bn1: BatchNorm2d;
  readonly #conv2: Conv2d;
  readonly #bn2: BatchNorm2d;
  readonly #downsample: { conv: Conv2d; norm: BatchNorm2d } | undefined;

  constructor(path: ParameterPath, from: number, to: number, stride: number) {
    this.#conv1 = convolution(path.at('conv1'), from, to, 3, stride);
    this.#bn1 = new BatchNorm2d(path.at('bn1'), to);
    this.#conv2 = convolution(path.at('conv2'), to, to, 3, 1);
    this.#bn2 = new BatchNorm2d(path.at('bn2'), to);
    if (stride !== 1 || from !== to) {
      this.#downsample = {
        conv: convolution(path.at('downsample', 0), from, to, 1, stride),
        norm: new BatchNorm2d(path.at('downsample', 1), to),
      };
    }
  }

  /** [B, from, H, W] -> [B, to, H / stride, W / stride] */
  forward(x: Tensor, options: ForwardOptions): Tensor {
    return scope(() => {
      const inner = this.#bn1.forward(this.#conv1.forward(x), options).relu();
      const branch = this.#bn2.forward(this.#conv2.forward(inner), options);
      const shortcut = this.#downsample
        ? this.#downsample.norm.forward(this.#downsample.conv.forward(x), options)
        : x;
      return branch.add(shortcut).relu();
    });
  }
}

/** Batch normalisation (Ioffe & Szegedy 2015) with running statistics, which are saved with the weights and not learned. */
export class BatchNorm2d {
  readonly #weight: Tensor;
  readonly #bias: Tensor;
  readonly #mean: Tensor;
  readonly #variance: Tensor;
  readonly #batches: Tensor;

  constructor(
    path: ParameterPath,
    channels: number,
    readonly momentum = 0.1,
    readonly epsilon = 1e-5,
  ) {
    this.#weight = path.tensor('weight', [channels], 'ones');
    this.#bias = path.tensor('bias', [channels], 'zeros');
    this.#mean = path.tensor('running_mean', [channels], 'zeros');
    this.#variance = path.tensor('running_var', [channels], 'ones');
    this.#batches = path.tensor('num_batches_tracked', [], 'zeros');
  }

  /** [B, C, H, W]. In training: statistic ← (1 - momentum) · statistic + momentum · the batch's (the variance with n - 1). */
  forward(x: Tensor, { training }: ForwardOptions): Tensor {
    return scope(() => {
      const [mean, variance] = [this.#mean.detach(), this.#variance.detach()];
      if (training) this.#batches.detach().add_(1);
      const statistics = [mean, variance, training, this.momentum, this.epsilon, true] as const;
      return ops.aten('batch_norm')(x, this.#weight, this.#bias, ...statistics) as Tensor;
    });
  }
}

/** Without bias, which the norm behind it would take out. Drawn for ReLUs by the fan-out (He et al. 2015), as in torchvision. */
function convolution(path: ParameterPath, from: number, to: number, kernel: number, stride: number): Conv2d {
  const init = { normal: Math.sqrt(2 / (to * kernel * kernel)) };
  return new Conv2d(path, from, to, kernel, { stride, padding: (kernel - 1) / 2, bias: false, init });
}
