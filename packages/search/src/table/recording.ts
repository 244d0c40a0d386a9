/**
 * What was seen in the pictures of a whole world, small enough to be kept: a table of searches is drawn again from it
 * without drawing a picture.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { makeFolder, replaceFile } from '@rldf/common/base/files';
import { UserError } from '@rldf/torch/errors';
import { stateSeed } from '../pictures/grid-world.js';
import type { ImageSource, PictureRequest } from '../pictures/image-source.js';
import { PictureMemory } from '../pictures/memory.js';
import { openRecogniser, openSource } from '../pictures/open.js';
import type { Embedder, Recogniser } from '../pictures/recogniser.js';
import { Encoding, type Meanings } from '../world/encoding.js';
import { cosine, type Observation } from '../world/rewards.js';
import type { SearchProtocol } from './protocol.js';
import { inputPictures, largeOrders, type Orders, worldAround, worldGrammar, worldNames } from './worlds.js';

/** One picture of every state of the large world, as JSON. */
export interface RecordedPictures {
  table: string;
  /** SHA-256 of the protocol. */
  protocol: string;
  pictureSeed: number;
  source: string;
  recogniser: string;
  orders: Orders;
  /** What is recognised in each input: the goals. */
  inputs: Pick<Observation, 'meanings' | 'confidence' | 'objects'>[];
  /** Object labels of the inputs; bit i of `objects` is the i-th of them. Other objects change no reward. */
  labels: string[];
  /** Share of the states whose picture shows what the sentence names, as recognised. */
  asAsked: { objects: number; scenes: number };
  /** By axis: index of the recognised meaning, by state. */
  meanings: Record<string, number[]>;
  /** -1: not drawn yet. */
  objects: number[];
  /** By input: cosine of the CLIP embeddings in thousandths, by state. */
  cosines: number[][];
}

export interface Instruments {
  source: ImageSource;
  recogniser: Recogniser;
  embedder: Embedder;
}

/** What the protocol names: the model that draws, and the shipped recogniser. */
export function openTableInstruments(protocol: SearchProtocol): Instruments {
  const { model, steps, guidanceScale } = protocol.pictures;
  return {
    source: openSource(model, { steps, guidanceScale, batchSize: 64 }),
    ...openRecogniser(worldGrammar(protocol, worldNames(protocol).at(-1)!)),
  };
}

export type DrawEvent =
  | { kind: 'progress'; pictureSeed: number; done: number; total: number }
  | { kind: 'recorded'; path: string };

/**
 * Draws and looks at what is not in the memory yet, and records it: with the first picture seed the small worlds, then the
 * large one; then so with the others. Whatever ends it early, what was drawn is kept, and whole worlds can be searched.
 */
export async function* recordPictures(
  protocol: SearchProtocol,
  { source, recogniser, embedder }: Instruments,
  folders: { memory: string; recordings: string },
  signal?: AbortSignal,
): AsyncGenerator<DrawEvent, void> {
  const orders = await largeOrders(protocol, embedder);
  const encoding = new Encoding(worldGrammar(protocol, worldNames(protocol).at(-1)!), orders);
  const inputs = await recogniser.recognise(await inputPictures(protocol));
  checkInputs(protocol, encoding, inputs);
  const memory = new PictureMemory(folders.memory, source, recogniser);
  const small = smallStates(protocol, encoding, orders, inputs);
  const large = Array.from({ length: encoding.size }, (_, state) => state).filter(
    (state) => !small.has(state),
  );
  const [first, ...others] = protocol.pictures.seeds;
  const stages = [
    { pictureSeed: first!, states: [...small] },
    { pictureSeed: first!, states: large },
    ...others.map((pictureSeed) => ({ pictureSeed, states: [...small] })),
    ...others.map((pictureSeed) => ({ pictureSeed, states: large })),
  ];
  const total = encoding.size * protocol.pictures.seeds.length;
  let done = 0;
  for (const { pictureSeed, states } of stages) {
    const seen: (Observation | undefined)[] = [];
    const observe = async (some: readonly number[]) => {
      const requests = some.map((state) => requestOf(encoding, state, pictureSeed));
      const found = await memory.observe(requests, signal);
      for (const [i, state] of some.entries()) seen[state] = found[i]!;
    };
    for (let start = 0; start < states.length; start += source.batchSize) {
      await observe(states.slice(start, start + source.batchSize));
      done += Math.min(source.batchSize, states.length - start);
      yield { kind: 'progress', pictureSeed, done, total };
      signal?.throwIfAborted();
    }
    const known = [...encodingStates(encoding)].filter((state) =>
      memory.knows(requestOf(encoding, state, pictureSeed)),
    );
    await observe(known);
    const names = { source: source.name, recogniser: recogniser.name };
    const recorded = condense(protocol, pictureSeed, names, { encoding, orders, inputs, seen });
    yield { kind: 'recorded', path: writeRecording(folders.recordings, recorded) };
  }
}

function* encodingStates({ size }: Encoding): Generator<number> {
  for (let state = 0; state < size; state++) yield state;
}

function requestOf(encoding: Encoding, state: number, pictureSeed: number): PictureRequest {
  const sentence = encoding.sentence(encoding.stateOf(state));
  return { sentence, seed: stateSeed(pictureSeed, sentence) };
}

/** @throws UserError for an input that is recognised as something outside of the large world */
function checkInputs(protocol: SearchProtocol, encoding: Encoding, inputs: readonly Observation[]): void {
  for (const [i, { meanings }] of inputs.entries()) {
    const outside = encoding.axes.find(
      ({ name, order, meanings: all }) => !order.includes(all.indexOf(meanings[name]!)),
    );
    if (outside !== undefined)
      throw new UserError(
        `${protocol.file}  inputs.scenes: "${protocol.inputs.scenes[i]}" is recognised with ${outside.name} ${meanings[outside.name]} — outside of the large world's window. Choose another input or window`,
      );
  }
}

/** States of the large world that stand in a smaller one too. */
function smallStates(
  protocol: SearchProtocol,
  large: Encoding,
  orders: Orders,
  inputs: readonly Observation[],
): Set<number> {
  const states = worldNames(protocol)
    .slice(0, -1)
    .flatMap((world) =>
      inputs.flatMap(({ meanings }, input) => {
        const encoding = worldAround(worldGrammar(protocol, world), orders, meanings, input);
        return [...encodingStates(encoding)].map((state) =>
          large.indexOf(large.encode(encoding.meaningsOf(encoding.stateOf(state)))),
        );
      }),
    );
  return new Set(states.sort((a, b) => a - b));
}

function condense(
  protocol: SearchProtocol,
  pictureSeed: number,
  names: { source: string; recogniser: string },
  {
    encoding,
    orders,
    inputs,
    seen,
  }: {
    encoding: Encoding;
    orders: Orders;
    inputs: readonly Observation[];
    seen: readonly (Observation | undefined)[];
  },
): RecordedPictures {
  const labels = [...new Set(inputs.flatMap(({ objects }) => Object.keys(objects)))].sort();
  const [object, scene] = (['object', 'scene'] as const).map(
    (role) => encoding.axes.find((axis) => axis.role === role)?.name,
  );
  const byState = <Value>(of: (one: Observation) => Value, missing: Value) =>
    Array.from({ length: encoding.size }, (_, state) =>
      seen[state] === undefined ? missing : of(seen[state]),
    );
  const share = (right: (one: Observation, asked: Meanings) => boolean) => {
    const rights = seen.flatMap((one, state) =>
      one === undefined ? [] : [right(one, encoding.meaningsOf(encoding.stateOf(state)))],
    );
    return rights.filter(Boolean).length / rights.length;
  };
  return {
    table: protocol.table,
    protocol: protocol.hash,
    pictureSeed,
    ...names,
    orders,
    inputs: inputs.map(({ meanings, confidence, objects }) => ({ meanings, confidence, objects })),
    labels,
    asAsked: {
      objects: share(({ objects }, asked) => object === undefined || objects[asked[object]!] !== undefined),
      scenes: share(({ meanings }, asked) => scene === undefined || meanings[scene] === asked[scene]),
    },
    meanings: Object.fromEntries(
      encoding.axes.map(({ name, meanings: all }) => [
        name,
        byState(({ meanings }) => all.indexOf(meanings[name]!), -1),
      ]),
    ),
    objects: byState(
      ({ objects }) =>
        labels.reduce((bits, label, i) => bits + (objects[label] === undefined ? 0 : 2 ** i), 0),
      -1,
    ),
    cosines: inputs.map(({ embedding }) =>
      byState((one) => Math.round(1000 * cosine(one.embedding, embedding)), 0),
    ),
  };
}

/**
 * What a search for one input sees of every drawn state of the large world, by the state's sentence. The embedding is (cos, sin):
 * its cosine with (1, 0), the input's, is the recorded one.
 */
export function observationsFor(
  recorded: RecordedPictures,
  large: Encoding,
  input: number,
): Map<string, Observation> {
  const { labels, objects, cosines } = recorded;
  const axes = large.axes.map(({ name, meanings }) => [name, meanings, recorded.meanings[name]!] as const);
  const seen = objects.flatMap((bits, state): [string, Observation][] => {
    if (bits < 0) return [];
    const near = cosines[input]![state]! / 1000;
    const shown = labels.filter((_, i) => Math.floor(bits / 2 ** i) % 2 === 1);
    const observation = {
      objects: Object.fromEntries(shown.map((label) => [label, { count: 1, score: 1 }])),
      meanings: Object.fromEntries(axes.map(([name, all, values]) => [name, all[values[state]!]!])),
      confidence: {},
      embedding: [near, Math.sqrt(Math.max(0, 1 - near ** 2))],
    };
    return [[large.sentence(large.stateOf(state)), observation]];
  });
  return new Map(seen);
}

/** The input as its own search sees it. */
export function inputOf(recorded: RecordedPictures, input: number): Observation {
  return { ...recorded.inputs[input]!, embedding: [1, 0] };
}

const fileName = (pictureSeed: number) => `pictures-${pictureSeed}.json.gz`;

export function writeRecording(folder: string, recorded: RecordedPictures): string {
  makeFolder(folder);
  const path = join(folder, fileName(recorded.pictureSeed));
  replaceFile(path, gzipSync(JSON.stringify(recorded), { level: 9 }));
  return path;
}

/** @throws UserError when it is damaged, or was made under another protocol */
export function readRecording(
  folder: string,
  pictureSeed: number,
  protocol: Pick<SearchProtocol, 'file' | 'hash'>,
): RecordedPictures | undefined {
  const path = join(folder, fileName(pictureSeed));
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch {
    return undefined;
  }
  let recorded: RecordedPictures;
  try {
    recorded = JSON.parse(gunzipSync(bytes).toString('utf8')) as RecordedPictures;
  } catch (error) {
    throw new UserError(
      `${path}: ${(error as Error).message} — restore it, or remove it to draw the pictures again`,
    );
  }
  if (recorded.protocol === protocol.hash) return recorded;
  throw new UserError(
    `${protocol.file}: was changed after the first test picture (${path} followed another version) — ` +
      'a protocol is fixed before its results. Restore it, or give the new one a new name',
  );
}
