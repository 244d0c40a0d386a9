/** Grounding (GLIGEN, Li et al. 2023, arXiv 2301.07093): objects that a picture is to show, each with its place. */

import {
  cat,
  Linear,
  type ParameterPath,
  type Parameters,
  scope,
  type Tensor,
  tensor,
  UserError,
} from '@rldf/torch';

/** An object of a picture. */
export interface GroundedObject {
  /** In the words of a prompt, such as "a cat". */
  phrase: string;
  /** Left, top, right and bottom edge as shares of width and height, 0 to 1. */
  box: readonly [left: number, top: number, right: number, bottom: number];
}

/** The same for a network, padded to `MOST_OBJECTS`; N of them in each of B pictures. */
export interface Grounding {
  /** float32 [B, N, 4] */
  boxes: Tensor;
  /** What the text encoder says at the end of each phrase, [B, N, D]. */
  phrases: Tensor;
  /** 1 where there is an object, 0 where the network is told its null features instead; [B, N]. */
  masks: Tensor;
}

/** Objects of a picture, at most. */
export const MOST_OBJECTS = 30;
/** Denoising steps that are grounded, as a share; diffusers' `gligen_scheduled_sampling_beta`. */
export const GROUNDING_BETA = 0.3;

/** The denoising steps that are grounded, the first ones: the gated layers are off behind them (section 4.3 there). */
export const groundedSteps = (steps: number, beta: number = GROUNDING_BETA): number =>
  Math.trunc(beta * steps);

/** @throws UserError when these cannot be the objects of a picture */
export function checkObjects(where: string, objects: readonly GroundedObject[]): void {
  if (objects.length > MOST_OBJECTS) {
    throw new UserError(
      `${where}: ${objects.length} boxes — a picture has at most ${MOST_OBJECTS}. Leave some out.`,
    );
  }
  for (const { phrase, box } of objects) {
    const [left, top, right, bottom] = box;
    const inside = box.length === 4 && box.every((edge) => edge >= 0 && edge <= 1);
    if (inside && left < right && top < bottom) continue;
    throw new UserError(
      `${where}: the box of ${JSON.stringify(phrase)} is [${box.join(', ')}] — must be left, top, right and bottom edge ` +
        'from 0 to 1, left before right and top before bottom. Divide pixels by the width or the height of the picture.',
    );
  }
}

/** Turns gradients on for the gated layers of a U-Net; returns their weights. */
export function trainGated({ entries }: Parameters): Tensor[] {
  const gated = [...entries].filter(([name]) => name.includes('.fuser.'));
  return gated.map(([, tensor]) => tensor.requiresGrad_());
}

const FREQUENCIES = 8;
/** Sine and cosine of each frequency for each of the four edges. */
const POSITION_DIM = 2 * 4 * FREQUENCIES;
const HIDDEN = 512;

/** Objects and their places -> what the gated layers read; diffusers' class `GLIGENTextBoundingboxProjection`. */
export class TextBoxProjection {
  readonly #phraseDim: number;
  readonly #layers: readonly [Linear, Linear, Linear];
  readonly #nullPhrase: Tensor; // [phraseDim]
  readonly #nullPosition: Tensor; // [POSITION_DIM]

  constructor(path: ParameterPath, phraseDim: number, outDim: number) {
    const layers = path.at('linears');
    this.#phraseDim = phraseDim;
    this.#layers = [
      new Linear(layers.at(0), phraseDim + POSITION_DIM, HIDDEN),
      new Linear(layers.at(2), HIDDEN, HIDDEN),
      new Linear(layers.at(4), HIDDEN, outDim),
    ];
    this.#nullPhrase = path.tensor('null_positive_feature', [phraseDim], 'zeros');
    this.#nullPosition = path.tensor('null_position_feature', [POSITION_DIM], 'zeros');
  }

  /** @returns [B, N, outDim] in the type of the weights */
  forward({ boxes, phrases, masks }: Grounding): Tensor {
    if (phrases.shape[2] !== this.#phraseDim) {
      throw new UserError(
        `UNet2DConditionModel: phrases have shape [${phrases.shape}] — the position net reads ${this.#phraseDim} numbers of each. ` +
          'Encode them with the text encoder of this model.',
      );
    }
    return scope(() => {
      const { dtype } = this.#layers[0].weight;
      const told = masks.unsqueeze(2).to(dtype); // [B, N, 1]
      const orNull = (known: Tensor, unknown: Tensor) =>
        known.to(dtype).mul(told).add(told.mul(-1).add(1).mul(unknown));
      const position = orNull(fourier(boxes), this.#nullPosition); // [B, N, POSITION_DIM]
      const phrase = orNull(phrases, this.#nullPhrase); // [B, N, phraseDim]
      const [first, second, last] = this.#layers;
      const hidden = first.forward(cat([phrase, position], 2)).silu();
      return last.forward(second.forward(hidden).silu());
    });
  }
}

/** Sine and cosine of the edges at frequencies 100^(k/8), in float32: [B, N, 4] -> [B, N, 64], the edges innermost. */
function fourier(boxes: Tensor): Tensor {
  const [batch, count] = boxes.shape as [number, number, number];
  const powers = Array.from({ length: FREQUENCIES }, (_, k) => 100 ** (k / FREQUENCIES));
  const frequencies = tensor(powers, { shape: [FREQUENCIES, 1], dtype: 'float32', device: boxes.device });
  const angles = boxes.to('float32').unsqueeze(2).mul(frequencies); // [B, N, 8, 4]
  const waves = cat([angles.sin().unsqueeze(3), angles.cos().unsqueeze(3)], 3); // [B, N, 8, 2, 4]
  return waves.reshape([batch, count, POSITION_DIM]);
}
