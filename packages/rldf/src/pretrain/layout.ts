// An auxiliary task of the text encoder while it trains along with the U-Net: at the noun where a caption has told all,
// say where that noun stands to the other one, or how many there are. A causal encoder knows this at the last noun only,
// and a diffusion loss alone finds it late: the encoder does not carry a relation that the U-Net does not read, and the
// U-Net does not read what is not there. The head is dropped after training.
import { nounOf, type Relation, type Scene, subjectsOf } from '@rldf/emoji-world';
import type { CLIPTokenizer } from '@rldf/models';
import { Linear, Parameters, scope, type Tensor, tensor } from '@rldf/torch';

/** What is said of one caption's last noun. */
export interface Layout {
  /** Place of the noun's last token. */
  token: number;
  /** Right (1) or left (-1) of the other noun, below (1) or above (-1) it, and its number: -1 two, 0 three, 1 four. */
  target: readonly [number, number, number];
}

const STANDS: Readonly<Record<Relation, readonly [number, number]>> = {
  left: [-1, 0],
  right: [1, 0],
  above: [0, -1],
  below: [0, 1],
};

/** Undefined where the caption tells neither a relation nor a number. */
export function layoutOf(scene: Scene, ids: readonly number[], tokenizer: CLIPTokenizer): Layout | undefined {
  const subjects = subjectsOf(scene);
  const [first, second] = subjects;
  if (first === undefined || second === undefined) return undefined;
  if (scene.relation !== undefined) {
    const [dx, dy] = STANDS[scene.relation];
    const [a, b] = [lastToken(ids, first.noun, tokenizer), lastToken(ids, second.noun, tokenizer)];
    if (a === undefined || b === undefined) return undefined;
    return a > b ? { token: a, target: [dx, dy, 0] } : { token: b, target: [0 - dx, 0 - dy, 0] };
  }
  if (subjects.some(({ noun }) => noun !== first.noun)) return undefined;
  const token = lastToken(ids, first.noun, tokenizer);
  return token === undefined ? undefined : { token, target: [0, 0, subjects.length - 3] };
}

/** Where the noun, in singular or plural, ends in the ids. */
function lastToken(ids: readonly number[], noun: string, tokenizer: CLIPTokenizer): number | undefined {
  const ends = patternsOf(noun, tokenizer).flatMap((pattern) =>
    ids.flatMap((_, at) => (pattern.every((id, i) => ids[at + i] === id) ? [at + pattern.length - 1] : [])),
  );
  return ends.length === 0 ? undefined : Math.max(...ends);
}

const patterns = new WeakMap<CLIPTokenizer, Map<string, number[][]>>();

/** Ids of a noun's singular and plural. */
function patternsOf(noun: string, tokenizer: CLIPTokenizer): number[][] {
  const known = patterns.get(tokenizer) ?? new Map<string, number[][]>();
  patterns.set(tokenizer, known);
  let found = known.get(noun);
  if (found === undefined) {
    const { singular, plural } = nounOf(noun);
    found = tokenizer.encode([singular, plural]).ids.map((row) => row.slice(1, row.indexOf(tokenizer.endId)));
    known.set(noun, found);
  }
  return found;
}

/** The layouts of N captions as tensors. */
export interface LayoutTable {
  /** int64 [N, 1]; 0 where nothing is told */
  token: Tensor;
  /** [N, 3] */
  target: Tensor;
  /** [N, 1]: 1 where something is told */
  told: Tensor;
}

export function layoutTable(layouts: readonly (Layout | undefined)[]): LayoutTable {
  const shape = [layouts.length, 1];
  return {
    token: tensor(
      layouts.map((layout) => layout?.token ?? 0),
      { dtype: 'int64', shape },
    ),
    target: tensor(
      layouts.flatMap((layout) => [...(layout?.target ?? [0, 0, 0])]),
      { shape: [layouts.length, 3] },
    ),
    told: tensor(
      layouts.map((layout) => (layout === undefined ? 0 : 1)),
      { dtype: 'float32', shape },
    ),
  };
}

/** Reads layouts off token states by one linear layer. */
export class LayoutHead {
  readonly parameters: Parameters;
  readonly #linear: Linear;

  constructor(width: number, seed: number) {
    this.parameters = Parameters.random(seed);
    this.#linear = new Linear(this.parameters.at('layout'), width, 3);
  }

  /**
   * Mean squared error over what is told.
   * @param states of the captions' tokens [B, L, D]
   * @param rows of the table, int64 [B]
   * @param heard [B, 1]: 0 for captions that were dropped
   */
  loss(states: Tensor, table: LayoutTable, rows: Tensor, heard: Tensor): Tensor {
    return scope(() => {
      const [batch, , width] = states.shape as [number, number, number];
      const token = table.token.indexSelect(0, rows).unsqueeze(2).expand([batch, 1, width]);
      const read = this.#linear.forward(states.gather(1, token).squeeze(1)).to('float32'); // [B, 3]
      const told = table.told.indexSelect(0, rows).mul(heard); // [B, 1]
      const error = read.sub(table.target.indexSelect(0, rows)).square().mul(told).sum();
      return error.div(told.sum().mul(3).add(1e-6));
    });
  }
}
