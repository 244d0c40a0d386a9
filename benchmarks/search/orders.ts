// Semantic locality: how much neighbours on an axis look alike in each order, and what that is worth to a search.
import { join } from 'node:path';
import {
  type AxisOrder,
  axisOrders,
  cosine,
  drawSet,
  Encoding,
  follow,
  localEncoding,
  newSearch,
  PictureMemory,
  plainRequests,
  prepareWorld,
  rewardedWorld,
} from '@rldf/search';
import { type Embedder, type FollowOptions, featureNetworks } from 'rldf';
import { readTextIfThere, replaceFile, tensorOfPictures } from 'rldf/run';
import type { Input } from './inputs.js';
import type { Tools } from './searched.js';

/** Pictures of each value: those of `ORDERED` make the order by pictures, the others measure all orders. */
const ORDERED = 1;
const MEASURED = 4;
export const orderedAxes = ['Noun', 'Verb', 'Scene'] as const;

/** By axis, judge of likeness and order: 1 - cosine of each pair of neighbours; of `shuffled`, of all pairs. */
export type NeighbourDistances = Record<string, Record<string, Record<AxisOrder, number[]>>>;

export async function neighbourDistances(
  { grammar, source, recogniser }: Tools,
  embedder: Embedder,
  folder: string,
): Promise<NeighbourDistances> {
  const memory = new PictureMemory(join(folder, 'locality'), source, recogniser);
  const encoding = new Encoding(grammar);
  const orders = {} as Record<AxisOrder, Encoding>;
  for (const order of axisOrders)
    orders[order] = (
      await localEncoding({
        grammar,
        goal: {},
        order,
        seed: 0,
        embed: async (sentences) => {
          const words = embedder.texts(sentences);
          if (order !== 'clip-pictures') return [words];
          const requests = sentences.flatMap((sentence) => plainRequests(sentence, ORDERED, 0));
          return [words, (await drawSet(memory, requests)).observations.map(({ embedding }) => embedding)];
        },
      })
    ).encoding;
  const networks = Object.entries(featureNetworks).map(([name, open]) => [name, open()] as const);
  const distances: NeighbourDistances = {};
  for (const axis of encoding.axes.filter(({ name }) => (orderedAxes as readonly string[]).includes(name))) {
    const requests = axis.meanings.flatMap((meaning) =>
      plainRequests(encoding.sentenceOf({ [axis.name]: meaning }), MEASURED, 1),
    );
    const { pictures } = await drawSet(memory, requests);
    distances[axis.name] = {};
    for (const [judge, network] of networks) {
      const images = tensorOfPictures(pictures);
      const features = network(images);
      images.free();
      const centres = axis.meanings.map((_, i) => centreOf(features.slice(i * MEASURED, (i + 1) * MEASURED)));
      const between = (a: number, b: number) => 1 - cosine(centres[a]!, centres[b]!);
      const ofOrder = (order: AxisOrder) => {
        const { wholeOrder } = orders[order].axes.find(({ name }) => name === axis.name)!;
        return wholeOrder.slice(1).map((value, i) => between(wholeOrder[i]!, value));
      };
      const pairs = axis.meanings.flatMap((_, i) =>
        axis.meanings.slice(i + 1).map((__, j) => between(i, i + 1 + j)),
      );
      distances[axis.name]![judge] = {
        clip: ofOrder('clip'),
        'clip-pictures': ofOrder('clip-pictures'),
        file: ofOrder('file'),
        shuffled: pairs, // what any shuffled order has on average
      };
    }
  }
  return distances;
}

/** Mean direction of a value's pictures. */
function centreOf(rows: readonly (readonly number[])[]): number[] {
  const unit = rows.map((row) => {
    const length = Math.hypot(...row);
    return row.map((value) => value / length);
  });
  return unit[0]!.map((_, i) => unit.reduce((sum, row) => sum + row[i]!, 0));
}

export const comparedOrders = ['clip', 'file', 'shuffled'] as const;
type Compared = (typeof comparedOrders)[number];
/** Agents that walk the same pictures, each from a start of its own. */
const AGENTS = [0, 1, 2];
const STEPS = 20_000;

/** Distinct pictures that each agent looked at until it was at the goal. */
export type PicturesToGoal = Record<Compared, number[]>;

/**
 * Searches in the three orders, as the command line would make them.
 * @param folder of the input's search with this seed, whose pictures are shared
 */
export async function picturesToGoal(
  input: Input,
  seed: number,
  folder: string,
  { grammar, source, recogniser }: Tools,
  embedder: Embedder,
): Promise<PicturesToGoal> {
  const file = join(folder, 'orders.json');
  const identity = JSON.stringify([input.caption, input.art, source.name, recogniser.name, seed, AGENTS]);
  const known = JSON.parse(readTextIfThere(file) ?? '{}') as { identity?: string; result: PicturesToGoal };
  if (known.identity === identity) return known.result;
  const result = {} as PicturesToGoal;
  for (const order of comparedOrders) {
    const prepared = await prepareWorld({
      input: input.picture,
      where: input.caption,
      grammar,
      source,
      recogniser,
      embedder,
      order,
      pictureSeed: seed,
      memory: join(folder, 'memory'),
    });
    result[order] = [];
    for (const agent of AGENTS) {
      const world = rewardedWorld(prepared, { reward: 'multi', pictureSeed: seed });
      const settings: FollowOptions = {
        agent: 'q',
        seed: agent,
        steps: STEPS,
        epsilon: '0.1',
        alpha: '1',
        table: 'afterstates',
        initialQ: 'axes',
      };
      const followed = newSearch(world, settings);
      for await (const { trace } of follow(world, settings, followed)) if (trace.firstHit >= 0) break;
      result[order].push(world.visited.size);
    }
  }
  replaceFile(file, `${JSON.stringify({ identity, result })}\n`);
  return result;
}
