/** The worlds of a table: one large grid of sentences, its input pictures, and the smaller grids around each of them. */

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Picture } from '@rldf/common/base/picture';
import {
  type ArtSetName,
  HashRandom,
  loadArt,
  parseCaption,
  placePlan,
  renderScene,
} from '@rldf/emoji-world';
import { noiseKey, Random } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import type { Embedder } from '../pictures/recogniser.js';
import { type AxisOrders, Encoding, type Meanings } from '../world/encoding.js';
import { type Grammar, readGrammar } from '../world/grammar.js';
import { localEncoding } from '../world/locality.js';
import type { SearchProtocol } from './protocol.js';

/** Order and window of every axis, as `Encoding` takes them: plain data, for recordings. */
export type Orders = Record<string, { order: number[]; from: number; length: number }>;

/** The grammar of one of the protocol's worlds: a file beside it, or a shipped one. */
export function worldGrammar({ worlds, file, grammars }: SearchProtocol, world: string): Grammar {
  const name = `${worlds[world]}.yaml`;
  const beside = join(dirname(file), name);
  return readGrammar(existsSync(beside) ? beside : join(grammars, name));
}

export function worldNames({ worlds }: SearchProtocol): string[] {
  return Object.keys(worlds);
}

/** The large world's orders: all values by locality, windows as the protocol says. */
export async function largeOrders(
  protocol: SearchProtocol,
  embedder: Pick<Embedder, 'texts'>,
): Promise<Orders> {
  const grammar = worldGrammar(protocol, worldNames(protocol).at(-1)!);
  const { encoding } = await localEncoding({
    grammar,
    goal: {},
    order: protocol.order,
    seed: 0,
    embed: async (sentences) => [embedder.texts(sentences)],
  });
  return Object.fromEntries(
    encoding.axes.map(({ name, symbol, meanings, wholeOrder }) => {
      const length = Math.min(grammar.window.get(symbol) ?? wholeOrder.length, wholeOrder.length);
      const first = protocol.windows[name];
      const from = first === undefined ? 0 : wholeOrder.indexOf(meanings.indexOf(first));
      if (from < 0 || from + length > wholeOrder.length)
        throw new UserError(
          `${protocol.file}  windows.${name}: no window of ${length} values begins at "${first}" — the order is ${wholeOrder.map((one) => meanings[one]).join(', ')}`,
        );
      return [name, { order: [...wholeOrder], from, length }];
    }),
  );
}

/**
 * A world around an input: windows of the grammar's lengths, within the large one's and with the input's value in it, at a
 * place drawn by the input's number. The largest world is the same for all.
 */
export function worldAround(grammar: Grammar, large: Orders, goal: Meanings, input: number): Encoding {
  const plain = new Encoding(grammar);
  const orders: AxisOrders = Object.fromEntries(
    plain.axes.map(({ name, symbol, meanings }, axis) => {
      const whole = large[name]!;
      const length = Math.min(grammar.window.get(symbol) ?? whole.length, whole.length);
      const place = whole.order.indexOf(meanings.indexOf(goal[name] ?? ''));
      const random = new Random(noiseKey(input, 'table-window', axis));
      const least = Math.max(whole.from, place - length + 1);
      const most = Math.min(whole.from + whole.length - length, place);
      const from = least + random.integer(Math.max(1, most - least + 1));
      return [name, { order: whole.order, from, length }];
    }),
  );
  return new Encoding(grammar, orders);
}

/** The input pictures: scenes of the built-in world in one of its art sets. */
export async function inputPictures({ inputs, file }: SearchProtocol): Promise<Picture[]> {
  const art = await loadArt(inputs.art as ArtSetName);
  return inputs.scenes.map((caption, i) => {
    const plan = parseCaption(caption);
    if (plan === undefined)
      throw new UserError(`${file}  inputs.scenes: "${caption}" is no caption of the built-in world`);
    const data = renderScene(placePlan(plan, new HashRandom(inputs.seed, i, 0)), art);
    return { width: 64, height: 64, channels: 3, data };
  });
}
