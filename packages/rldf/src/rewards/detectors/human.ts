/** The detectors of the npm package @vladmandic/human: 80 kinds of objects, faces, hands. WebAssembly; weights inside the package. */

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { type Picture, picturesOf } from '@rldf/common/base/picture';
import type { BoxEdges, Detection, Detector } from '@rldf/models';
import { UserError } from '@rldf/torch/errors';
import { peerPath, requirePeer } from '../../base/peers.js';
import { type HumanName, humanLicences, humanNames } from './human-licences.js';

/** What of the package is used. */
interface Human {
  init(): Promise<void>;
  load(): Promise<void>;
  detect(input: unknown): Promise<Found>;
  tf: {
    getBackend(): string;
    tensor(data: Float32Array, shape: readonly number[], type: 'float32'): { dispose(): void };
    io: { registerLoadRouter(router: (url: unknown) => { load(): Promise<unknown> } | null): void };
  };
}

interface Found {
  error?: string | null;
  face: { score: number; box: readonly [number, number, number, number] }[];
  hand: { score: number; box: readonly [number, number, number, number] }[];
  object: { label: string; score: number; box: readonly [number, number, number, number] }[];
}

/** The package looks at one picture at a time, and all detectors of a process share its networks. */
let last: Promise<unknown> = Promise.resolve();
/** Folders of weights that tfjs knows how to read. */
const readable = new Set<string>();

/** The files of weights that each needs. */
const weights: Readonly<Record<HumanName, readonly string[]>> = {
  human: ['centernet'],
  'human-faces': ['blazeface', 'facemesh'],
  'human-hands': ['handtrack', 'handlandmark-lite'],
};

/** Least score that is told; the threshold is applied here. */
const LOWEST = 0.05;
const THRESHOLD = 0.3;

/** @throws UserError when first used and the package, or one that it needs, is not installed */
export function humanDetector(name: HumanName): Detector {
  let loading: Promise<Human> | undefined;
  const loaded = () => {
    loading ??= load(name);
    return loading;
  };
  return {
    labels: humanNames[name],
    ownWords: true,
    licence: humanLicences[name],
    async ready() {
      await loaded();
    },
    async detect(images, { threshold = THRESHOLD } = {}) {
      const human = await loaded();
      const pictures = picturesOf(images);
      const found = last.then(() => inTurn(pictures, (picture) => look(human, name, picture, threshold)));
      last = found.catch(() => {});
      return found;
    },
  };
}

async function inTurn<A, B>(items: readonly A[], work: (item: A) => Promise<B>): Promise<B[]> {
  const results: B[] = [];
  for (const item of items) results.push(await work(item));
  return results;
}

async function load(name: HumanName): Promise<Human> {
  const where = `detector ${name}`;
  const main = fileURLToPath(peerPath('@vladmandic/human', where)); // .../dist/human.node.js
  const folder = join(dirname(main), '..');
  for (const peer of ['@tensorflow/tfjs-core', '@tensorflow/tfjs-converter', '@tensorflow/tfjs-backend-wasm'])
    peerPath(peer, where);
  const wasm = dirname(fileURLToPath(peerPath('@tensorflow/tfjs-backend-wasm', where)));
  const file = join(dirname(main), 'human.node-wasm.js');
  type Module = { Human: new (config: object) => Human };
  const { Human } = requirePeer<Module>('@vladmandic/human', where, file);
  const models = pathToFileURL(join(folder, 'models/')).href;
  const missing = weights[name]
    .flatMap((one) => [`${one}.json`, `${one}.bin`])
    .find((one) => !existsSync(join(folder, 'models', one)));
  if (missing !== undefined)
    throw new UserError(
      `${where}: ${join(folder, 'models')} holds no ${missing} — the package is not whole. Install it again: \`npm install @vladmandic/human@3.3.6\``,
    );
  const human = new Human({
    backend: 'wasm',
    wasmPath: `${wasm}/`,
    modelBasePath: models,
    debug: false,
    async: false,
    cacheModels: false,
    cacheSensitivity: 0, // each picture is looked at by itself
    warmup: 'none',
    filter: { enabled: false },
    gesture: { enabled: false },
    body: { enabled: false },
    segmentation: { enabled: false },
    face: {
      enabled: name === 'human-faces',
      detector: { rotation: false, maxDetected: 50, minConfidence: LOWEST, iouThreshold: 0.1 },
      mesh: { enabled: true }, // its confidence tells faces from what only looks like one
      iris: { enabled: false },
      description: { enabled: false },
      emotion: { enabled: false },
    },
    hand: {
      enabled: name === 'human-hands',
      maxDetected: 50,
      minConfidence: LOWEST,
      landmarks: false,
      rotation: false,
    },
    object: { enabled: name === 'human', minConfidence: LOWEST, maxDetected: 100, iouThreshold: 0.4 },
  });
  try {
    await withoutHandlers(() => human.init());
    if (!readable.has(models))
      human.tf.io.registerLoadRouter((url) =>
        typeof url === 'string' && url.startsWith(models)
          ? { load: () => modelIn(fileURLToPath(url)) }
          : null,
      );
    readable.add(models);
    await human.load();
  } catch (error) {
    throw new UserError(
      `${where}: @vladmandic/human does not start (${(error as Error).message.split('\n')[0]}) — it needs its weights and tfjs 4 of one version. Install them again: \`npm install @vladmandic/human@3.3.6 @tensorflow/tfjs-core@4 @tensorflow/tfjs-converter@4 @tensorflow/tfjs-backend-wasm@4\``,
      { cause: error },
    );
  }
  if (human.tf.getBackend() !== 'wasm')
    throw new UserError(`${where}: tfjs runs on ${human.tf.getBackend()} instead of wasm — ${wasm} does not hold its .wasm files. Install @tensorflow/tfjs-backend-wasm again`); // biome-ignore format: one thought
  return human;
}

/** Takes away what tfjs's WebAssembly module does with errors of the whole process. */
async function withoutHandlers(work: () => Promise<void>): Promise<void> {
  const events = ['uncaughtException', 'unhandledRejection'] as const;
  const before = events.map((event) => new Set<unknown>(process.listeners(event as 'uncaughtException')));
  await work();
  for (const [i, event] of events.entries()) {
    for (const listener of process.listeners(event as 'uncaughtException'))
      if (!before[i]!.has(listener)) process.removeListener(event, listener);
  }
}

/** A tfjs graph model from its files, as tfjs takes one from memory: nothing is fetched. */
async function modelIn(file: string): Promise<unknown> {
  interface Manifest {
    weightsManifest: { paths: string[]; weights: unknown[] }[];
  }
  const { weightsManifest, ...model } = JSON.parse(readFileSync(file, 'utf8')) as Manifest;
  const parts = weightsManifest.flatMap(({ paths }) =>
    paths.map((path) => readFileSync(join(dirname(file), path))),
  );
  const bytes = Buffer.concat(parts);
  return {
    ...model,
    weightSpecs: weightsManifest.flatMap(({ weights }) => weights),
    weightData: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length),
  };
}

async function look(
  human: Human,
  name: HumanName,
  picture: Picture,
  threshold: number,
): Promise<Detection[]> {
  const { data, size, left, top } = squared(picture);
  const tensor = human.tf.tensor(data, [1, size, size, 3], 'float32');
  let found: Found;
  try {
    found = await human.detect(tensor);
  } finally {
    tensor.dispose();
  }
  if (found.error) throw new UserError(`detector ${name}: @vladmandic/human says ${found.error} — it looks at pictures of at least 32 x 32 pixels. Draw larger ones`); // biome-ignore format: one thought
  const all = {
    human: found.object,
    'human-faces': found.face.map((one) => ({ ...one, label: 'face' })),
    'human-hands': found.hand.map((one) => ({ ...one, label: 'hand' })),
  }[name];
  const clamp = (value: number, most: number) => Math.min(most, Math.max(0, value));
  return all
    .filter(({ score }) => score >= threshold)
    .map(({ label, score, box: [x, y, w, h] }): Detection => {
      const box: BoxEdges = [
        clamp(x - left, picture.width),
        clamp(y - top, picture.height),
        clamp(x + w - left, picture.width),
        clamp(y + h - top, picture.height),
      ];
      return { label, score: Math.min(1, score), box };
    })
    .toSorted((a, b) => b.score - a.score);
}

/** The picture in the middle of a black square: the networks see it undistorted. */
function squared({ width, height, data }: Picture): {
  data: Float32Array;
  size: number;
  left: number;
  top: number;
} {
  const size = Math.max(width, height);
  const [left, top] = [Math.floor((size - width) / 2), Math.floor((size - height) / 2)];
  const square = new Float32Array(size * size * 3);
  for (let y = 0; y < height; y++) {
    square.set(data.subarray(y * width * 3, (y + 1) * width * 3), ((top + y) * size + left) * 3);
  }
  return { data: square, size, left, top };
}
