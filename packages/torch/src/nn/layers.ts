import { isHalf } from '../dtype.js';
import * as F from '../functional.js';
import type { Tensor } from '../tensor.js';
import type { Init, ParameterPath } from './parameters.js';

/**
 * Adds scale · up(down(x)) to a layer: one adapter (LoRA, Hu et al. 2021). Of a linear layer: down [r, in], up [out, r];
 * of a convolution: down [r, in, k, k], up [out, r, 1, 1]. They may be wider than the layer, which then computes in its own type.
 */
export interface LowRankBranch {
  down: Tensor;
  up: Tensor;
  scale: number;
}

/** The branch's matrices in the half precision of what they are multiplied by; else as they are. */
const typed = ({ down, up }: LowRankBranch, x: Tensor): [Tensor, Tensor] =>
  isHalf(x.dtype) && down.dtype !== x.dtype ? [down.to(x.dtype), up.to(x.dtype)] : [down, up];

/** PyTorch's default for linear and convolution layers: uniform within ±1/√fanIn. */
const fanIn = (size: number): Init => ({ uniform: 1 / Math.sqrt(size) });

export class Linear {
  readonly weight: Tensor; // [out, in]
  readonly bias: Tensor | undefined; // [out]
  branches: LowRankBranch[] = [];
  /** Shown every input and output. */
  observer: ((x: Tensor, y: Tensor) => void) | undefined;

  constructor(
    path: ParameterPath,
    readonly inFeatures: number,
    readonly outFeatures: number,
    { bias = true, init = fanIn(inFeatures) }: { bias?: boolean; init?: Init } = {},
  ) {
    this.weight = path.tensor('weight', [outFeatures, inFeatures], init);
    this.bias = bias
      ? path.tensor('bias', [outFeatures], init === 'zeros' ? 'zeros' : fanIn(inFeatures))
      : undefined;
    path.parameters.layers.set(path.name, this);
  }

  /** [..., in] -> [..., out] */
  forward(x: Tensor): Tensor {
    let y = F.linear(x, this.weight, this.bias);
    for (const branch of this.branches) {
      if (branch.scale === 0) continue;
      const [down, up] = typed(branch, x);
      y = y.add(F.linear(F.linear(x, down), up), branch.scale);
    }
    this.observer?.(x, y);
    return y;
  }
}

export class Conv2d {
  readonly weight: Tensor; // [out, in, k, k]
  readonly bias: Tensor | undefined; // [out]
  branches: LowRankBranch[] = [];

  constructor(
    path: ParameterPath,
    readonly inChannels: number,
    readonly outChannels: number,
    readonly kernel: number,
    readonly options: { stride?: number; padding?: number; bias?: boolean; init?: Init } = {},
  ) {
    const fan = inChannels * kernel * kernel;
    const { bias = true, init = fanIn(fan) } = options;
    this.weight = path.tensor('weight', [outChannels, inChannels, kernel, kernel], init);
    this.bias = bias
      ? path.tensor('bias', [outChannels], init === 'zeros' ? 'zeros' : fanIn(fan))
      : undefined;
    path.parameters.layers.set(path.name, this);
  }

  /** [B, in, H, W] -> [B, out, H', W'] */
  forward(x: Tensor): Tensor {
    const { stride = 1, padding = 0 } = this.options;
    let y = F.conv2d(x, this.weight, this.bias, { stride, padding });
    for (const branch of this.branches) {
      if (branch.scale === 0) continue;
      const [down, up] = typed(branch, x);
      y = y.add(F.conv2d(F.conv2d(x, down, undefined, { stride, padding }), up), branch.scale);
    }
    return y;
  }
}

export class GroupNorm {
  readonly weight: Tensor;
  readonly bias: Tensor;

  constructor(
    path: ParameterPath,
    readonly groups: number,
    channels: number,
    readonly epsilon = 1e-5,
  ) {
    this.weight = path.tensor('weight', [channels], 'ones');
    this.bias = path.tensor('bias', [channels], 'zeros');
  }

  /** [B, C, ...] */
  forward(x: Tensor): Tensor {
    return F.groupNorm(x, this.groups, this.weight, this.bias, this.epsilon);
  }
}

export class LayerNorm {
  readonly weight: Tensor;
  readonly bias: Tensor;

  constructor(
    path: ParameterPath,
    readonly dim: number,
    readonly epsilon = 1e-5,
  ) {
    this.weight = path.tensor('weight', [dim], 'ones');
    this.bias = path.tensor('bias', [dim], 'zeros');
  }

  /** [..., dim] */
  forward(x: Tensor): Tensor {
    return F.layerNorm(x, [this.dim], this.weight, this.bias, this.epsilon);
  }
}

export class Embedding {
  readonly weight: Tensor; // [count, dim]

  constructor(
    path: ParameterPath,
    count: number,
    dim: number,
    { init = { normal: 1 } }: { init?: Init } = {},
  ) {
    this.weight = path.tensor('weight', [count, dim], init);
  }

  /** int64 [...] -> [..., dim] */
  forward(ids: Tensor): Tensor {
    return F.embedding(this.weight, ids);
  }
}
