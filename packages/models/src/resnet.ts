import { Conv2d, F, GroupNorm, type Init, Linear, type ParameterPath, scope, type Tensor } from '@rldf/torch';

export interface ResnetOptions {
  inChannels: number;
  outChannels: number;
  /** Width of the time embedding; null where there is no time (autoencoder). */
  timeDim: number | null;
  groups: number;
  eps: number;
  /** How the time enters between the convolutions: added before the norm, or as scale and shift behind it. */
  timeScaleShift?: 'default' | 'scale_shift';
  /** Of the second convolution, which ends the residual branch. */
  outInit?: Init;
}

/** silu behind a norm. Scopes as small as these: the autoencoder's maps at full size are the most of a drawing's memory. */
const activated = (norm: GroupNorm, x: Tensor) => scope(() => norm.forward(x).silu());

/** Two convolutions, each behind GroupNorm and silu, with the time added between them; added to its input. */
export class ResnetBlock2D {
  readonly #norm1: GroupNorm;
  readonly #conv1: Conv2d;
  readonly #timeProjection: Linear | undefined;
  readonly #norm2: GroupNorm;
  readonly #conv2: Conv2d;
  readonly #shortcut: Conv2d | undefined;
  readonly #scaleShift: boolean;

  constructor(path: ParameterPath, options: ResnetOptions) {
    const { inChannels, outChannels, timeDim, groups, eps, outInit } = options;
    this.#norm1 = new GroupNorm(path.at('norm1'), groups, inChannels, eps);
    this.#conv1 = new Conv2d(path.at('conv1'), inChannels, outChannels, 3, { padding: 1 });
    this.#scaleShift = options.timeScaleShift === 'scale_shift';
    if (timeDim !== null) {
      const width = this.#scaleShift ? 2 * outChannels : outChannels;
      this.#timeProjection = new Linear(path.at('time_emb_proj'), timeDim, width);
    }
    this.#norm2 = new GroupNorm(path.at('norm2'), groups, outChannels, eps);
    this.#conv2 = new Conv2d(path.at('conv2'), outChannels, outChannels, 3, {
      padding: 1,
      ...(outInit ? { init: outInit } : {}),
    });
    if (inChannels !== outChannels) {
      this.#shortcut = new Conv2d(path.at('conv_shortcut'), inChannels, outChannels, 1);
    }
  }

  /**
   * @param x [B, Cin, H, W]
   * @param activatedTime silu of the time embedding, [B, timeDim]: the same for all blocks, so computed once
   * @returns [B, Cout, H, W]
   */
  forward(x: Tensor, activatedTime?: Tensor): Tensor {
    return scope(() => {
      const between = scope(() => this.#conv1.forward(activated(this.#norm1, x))); // [B, Cout, H, W]
      const time =
        this.#timeProjection && activatedTime
          ? this.#timeProjection.forward(activatedTime).unsqueeze(2).unsqueeze(3) // [B, Cout or 2 Cout, 1, 1]
          : undefined;
      const branch = scope(() => {
        if (!time) return this.#conv2.forward(activated(this.#norm2, between));
        if (!this.#scaleShift) return this.#conv2.forward(activated(this.#norm2, between.add(time)));
        const [scale, shift] = time.chunk(2, 1) as [Tensor, Tensor];
        return this.#conv2.forward(this.#norm2.forward(between).mul(scale.add(1)).add(shift).silu());
      });
      return branch.add(this.#shortcut ? this.#shortcut.forward(x) : x);
    });
  }
}

/** Halves height and width by a strided convolution. */
export class Downsample2D {
  readonly #padding: number;
  readonly #conv: Conv2d;

  /** @param padding 1, or 0 for the autoencoder's: then one zero row and column are added at the far side only */
  constructor(path: ParameterPath, channels: number, padding: number) {
    this.#padding = padding;
    this.#conv = new Conv2d(path.at('conv'), channels, channels, 3, { stride: 2, padding });
  }

  /** [B, C, H, W] -> [B, C, H/2, W/2], odd sizes rounded up with padding 1 and down without */
  forward(x: Tensor): Tensor {
    return scope(() => this.#conv.forward(this.#padding === 0 ? F.pad(x, [0, 1, 0, 1]) : x));
  }
}

/** Repeats pixels up to a size, then convolves. */
export class Upsample2D {
  readonly #conv: Conv2d;

  constructor(path: ParameterPath, channels: number) {
    this.#conv = new Conv2d(path.at('conv'), channels, channels, 3, { padding: 1 });
  }

  /** @param size height and width of the result; twice x's by default */
  forward(x: Tensor, size: readonly [number, number] = [2 * x.shape[2]!, 2 * x.shape[3]!]): Tensor {
    return scope(() => this.#conv.forward(F.interpolateNearest(x, [...size])));
  }
}
