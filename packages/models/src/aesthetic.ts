import { Linear, type ParameterPath, type StateDict, scope, type Tensor, UserError } from '@rldf/torch';

/**
 * The MLP of LAION's aesthetic predictor and of ImageReward's head, names as theirs (`layers.0` to `layers.7`; the gaps
 * are dropouts, which do nothing after training). Theirs have no activations between the layers: 1024, 128, 64, 16, 1.
 * With vectors of this world's size the widths are smaller, and a ReLU may stand between them.
 */
export class AestheticPredictor {
  readonly #layers: Linear[];
  readonly #relu: boolean;

  /** @param options.widths of the layers but the last */
  constructor(
    path: ParameterPath,
    inputSize: number,
    { widths = [128, 128, 64, 16], relu = true }: { widths?: readonly number[]; relu?: boolean } = {},
  ) {
    const outputs = [...widths, 1];
    this.#relu = relu;
    this.#layers = outputs.map(
      (output, i) =>
        new Linear(
          path.at('layers', placeOf(i, outputs.length)),
          i === 0 ? inputSize : (outputs[i - 1] as number),
          output,
        ),
    );
  }

  /**
   * @param embeddings [B, inputSize]; of the aesthetic predictor: CLIP's picture embeddings as unit vectors
   * @returns [B]
   */
  forward(embeddings: Tensor): Tensor {
    return scope(() =>
      this.#layers
        .reduce((x, layer, i) => layer.forward(i > 0 && this.#relu ? x.relu() : x), embeddings)
        .squeeze(1),
    );
  }
}

/** Each layer but the last is followed by a dropout, the last two are not: 0, 2, 4, ..., n, n + 1. */
function placeOf(layer: number, count: number): number {
  return layer < count - 1 ? 2 * layer : 2 * layer - 1;
}

/**
 * The widths of a published head's layers but the last, by its tensors.
 * @param prefix of their names, such as `layers.`
 * @throws UserError when there are none
 */
export function widthsOf(state: StateDict, prefix: string, where: string): number[] {
  const widths = [...state]
    .flatMap(([name, { shape }]) => {
      const place = name.startsWith(prefix) && /^(\d+)\.weight$/.exec(name.slice(prefix.length))?.[1];
      return place ? [{ place: Number(place), width: shape[0] ?? 0 }] : [];
    })
    .sort((a, b) => a.place - b.place)
    .map(({ width }) => width);
  if (widths.length >= 2 && widths.at(-1) === 1) return widths.slice(0, -1);
  throw new UserError(
    `${where}: ${widths.length === 0 ? `no tensor "${prefix}0.weight"` : `layers of ${widths.join(', ')} numbers`} — an MLP that ends in one number is needed. Give the weights of the head.`,
  );
}
