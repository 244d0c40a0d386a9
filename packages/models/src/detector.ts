import { Conv2d, F, GroupNorm, type ParameterPath, scope, type Tensor } from '@rldf/torch';
import { type Detection, type Detector, nonMaximumSuppression } from './detection.js';
import {
  asPredictions,
  CELLS_ACROSS,
  type CellPredictions,
  type DetectorOptions,
  likeliest,
  readCells,
} from './detector-cells.js';

const GROUPS = 8;
const STEM = [32, 64, 128] as const;
const DEEP = 160;
const HEAD = 160;

/**
 * A one-stage detector without anchors, after FCOS (Tian et al. 2019): strided convolutions down to 8 x 8 cells, one
 * level more for context added back, then label, objectness and edge distances at every cell near an object's centre.
 * Two departures: labels are a softmax beside one objectness (a cell holds one object), and suppression is among all
 * labels (two objects of the world never fill the same box).
 */
export class OneStageDetector implements Detector {
  readonly labels: readonly string[];
  readonly #threshold: number;
  readonly #stem: Block[];
  readonly #fine: Block;
  readonly #down: Block;
  readonly #deep: Block;
  readonly #up: Conv2d;
  readonly #fuse: Block;
  readonly #head: Block;
  readonly #out: Conv2d;

  constructor(path: ParameterPath, labels: readonly string[], { threshold = 0.5 }: DetectorOptions = {}) {
    this.labels = labels;
    this.#threshold = threshold;
    const [first, second, third] = STEM;
    const strided = { stride: 2, padding: 1 };
    const same = { padding: 1 };
    this.#stem = [
      new Block(path.at('stem', 0), 3, first, 4, strided),
      new Block(path.at('stem', 1), first, second, 4, strided),
      new Block(path.at('stem', 2), second, third, 4, strided),
    ];
    this.#fine = new Block(path.at('fine'), third, third, 3, same);
    this.#down = new Block(path.at('down'), third, DEEP, 4, strided);
    this.#deep = new Block(path.at('deep'), DEEP, DEEP, 3, same);
    this.#up = new Conv2d(path.at('up'), DEEP, third, 1);
    this.#fuse = new Block(path.at('fuse'), third, third, 3, same);
    this.#head = new Block(path.at('head'), third, HEAD, 3, same);
    this.#out = new Conv2d(path.at('out'), HEAD, 5 + labels.length, 1, { init: { normal: 0.02 } });
  }

  /** @param images [B, 3, 64, 64] in [-1, 1] */
  forward(images: Tensor): CellPredictions {
    return scope(() => {
      let hidden = images;
      for (const block of this.#stem) hidden = block.forward(hidden); // [B, 128, 8, 8]
      hidden = hidden.add(this.#fine.forward(hidden));
      const down = this.#down.forward(hidden); // [B, 160, 4, 4]
      const context = this.#up.forward(down.add(this.#deep.forward(down)));
      hidden = hidden.add(F.interpolateNearest(context, [CELLS_ACROSS, CELLS_ACROSS]));
      hidden = hidden.add(this.#fuse.forward(hidden));
      const output = this.#out.forward(this.#head.forward(hidden)); // [B, 5 + K, 8, 8]
      return asPredictions(output.flatten(2).transpose(1, 2));
    });
  }

  detect(images: Tensor, { threshold = this.#threshold }: { threshold?: number } = {}): Detection[][] {
    const { labels } = this;
    return readCells(
      images,
      (pixels) => this.forward(pixels),
      ({ objectness, classes, boxes }, toPicture) => {
        const found: Detection[] = [];
        for (const [cell, box] of boxes.entries()) {
          if (objectness[cell]! < threshold) continue;
          const { index, probability } = likeliest(classes, cell * labels.length, labels.length);
          const score = objectness[cell]! * probability;
          if (score >= threshold) found.push({ label: labels[index]!, score, box: toPicture(box) });
        }
        return nonMaximumSuppression(found, { within: 'all' });
      },
    );
  }
}

/** Convolution, group norm, silu. */
class Block {
  readonly #conv: Conv2d;
  readonly #norm: GroupNorm;

  constructor(
    path: ParameterPath,
    inChannels: number,
    outChannels: number,
    kernel: number,
    options: { stride?: number; padding: number },
  ) {
    this.#conv = new Conv2d(path.at('conv'), inChannels, outChannels, kernel, { ...options, bias: false });
    this.#norm = new GroupNorm(path.at('norm'), GROUPS, outChannels);
  }

  forward(x: Tensor): Tensor {
    return scope(() => this.#norm.forward(this.#conv.forward(x)).silu());
  }
}
