// One of each besides trainings: a run folder that is resumed, a fusion, a search and an evaluation.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { savePipeline, tinyPipeline } from '@rldf/models';
import { free } from '@rldf/torch';
import {
  evaluate,
  fuseAdapters,
  type Picture,
  parseGrammar,
  pipelineSource,
  readMetrics,
  resume,
  search,
  strengthSurface,
  train,
  writeEvaluation,
} from 'rldf';
import { type Hashes, hashOf } from './hash.js';

/** Numbers without times, sizes of memory and paths of files. */
const timeless = (value: unknown) =>
  JSON.stringify(value, (key, inner) =>
    /^(time|memory)\/|seconds$/i.test(key) || (typeof inner === 'string' && inner.includes(tmpdir()))
      ? undefined
      : inner,
  );

/** A whole run of the tiny model, made longer by a resume; its adapter is used by what follows. */
async function run(root: string): Promise<Hashes> {
  const model = join(root, 'model');
  const pipeline = tinyPipeline();
  savePipeline(pipeline, model);
  free(Object.values(pipeline.parameters));
  const recipe = {
    method: 'ddpo',
    model,
    prompts: ['a cat', 'a dog', 'a cow'],
    reward: [
      { reward: 'jpeg-incompressibility', weight: -1 },
      { reward: 'jpeg-compressibility', floor: 'base' },
    ],
    threads: 1,
    epochs: 2,
    explore: { words: {}, guidance: { steps: 1 } },
    sample: { steps: 3, promptsPerEpoch: 2, picturesPerPrompt: 2, batchSize: 4 },
    train: {
      textEncoder: 'lora',
      rank: 2,
      updatesPerEpoch: 2,
      batchSize: 2,
      clipNats: 5,
      learningRate: 0.01,
    },
    evaluate: { every: 2 },
    checkpoint: { every: 1 },
  };
  for await (const _ of train(recipe, { name: 'run', root }));
  for await (const _ of resume('run', { root, overrides: ['epochs=4'] }));
  const folder = join(root, 'run');
  const pictures = readdirSync(join(folder, 'samples'))
    .filter((name) => name.includes('.') && name !== 'pictures.jsonl')
    .sort();
  return {
    adapter: hashOf(readFileSync(join(folder, 'adapters', 'pytorch_lora_weights.safetensors'))),
    metrics: hashOf(timeless(readMetrics(join(folder, 'metrics.jsonl')))),
    report: hashOf(timeless(JSON.parse(readFileSync(join(folder, 'report', 'report.json'), 'utf8')))),
    pictures: hashOf(...pictures.map((name) => readFileSync(join(folder, 'samples', name)))),
  };
}

async function fuse(root: string): Promise<Hashes> {
  const adapter = join(root, 'run', 'adapters', 'pytorch_lora_weights.safetensors');
  const { file } = fuseAdapters(
    [
      { path: adapter, strength: 0.5 },
      { path: adapter, strength: 0.25 },
    ],
    join(root, 'fused.safetensors'),
  );
  const pipeline = tinyPipeline();
  const points = await strengthSurface(pipeline, {
    model: 'tiny',
    adapter,
    prompts: [{ text: 'a cat', meta: null }],
    strengths: [0.5],
    reward: { name: 'red', unit: '', score: ({ images }) => [Number(images.toArray()[0])] },
    steps: 2,
    guidanceScale: 2,
    seed: 3,
    batchSize: 2,
  });
  free(Object.values(pipeline.parameters));
  return {
    // its metadata name the files by their paths
    adapter: hashOf(readFileSync(file).subarray(-64)),
    pictures: hashOf(...points.flatMap(({ pictures }) => pictures.map(({ data }) => data))),
    metrics: hashOf(timeless(points.map(({ pictures: _, ...numbers }) => numbers))),
  };
}

const grammar = parseGrammar(
  `
counts: [Frequency]
objects: [Noun]
scenes: [Scene]
productions:
  S: Frequency Noun Scene
  Frequency: { 1: a, 3: three }
  Noun: [cat, dog, cow]
  Scene: { white: '', grass: on the grass, snow: in the snow }
`,
  'bytes.yaml',
);
const axes = { Frequency: ['1', '3'], Noun: ['cat', 'dog', 'cow'], Scene: ['white', 'grass', 'snow'] };

/** Sees in the first pixels what it likes, surely. */
const recogniser = {
  name: 'first pixels',
  recognise: async (pictures: readonly Picture[]) =>
    pictures.map(({ data }) => {
      const seen = Object.entries(axes).map(([axis, values], i) => [
        axis,
        values[(data[i] as number) % values.length],
      ]);
      const meanings = Object.fromEntries(seen) as Record<string, string>;
      const confidence = Object.fromEntries(Object.keys(axes).map((axis) => [axis, 0.9]));
      const objects = { [meanings.Noun as string]: { count: Number(meanings.Frequency), score: 0.9 } };
      return {
        objects,
        meanings,
        confidence,
        embedding: [1, ...data.subarray(0, 3)].map((byte) => byte / 255),
      };
    }),
};

async function searched(root: string): Promise<Hashes> {
  const pipeline = tinyPipeline(2);
  const source = pipelineSource(pipeline, { model: 'tiny', steps: 2, guidanceScale: 2, batchSize: 4 });
  const drawn: Picture[] = [];
  await source.draw([{ sentence: 'a dog on the grass', seed: 5 }], (_, picture) => void drawn.push(picture));
  const report = await search({
    input: drawn[0] as Picture,
    where: 'drawn',
    grammar,
    source,
    recogniser,
    embedder: {
      texts: (sentences) =>
        sentences.map((text) => ['c', 'd', 's', 'g'].map((letter) => 0.1 + text.split(letter).length)),
    },
    reward: 'multi',
    // the name is in the record's hash; any that is neither random nor sarsa learns as q does
    follow: { agent: 'q-learning' as 'q', seed: 1, steps: 30 },
    pictures: 2,
    output: join(root, 'search'),
  });
  free(Object.values(pipeline.parameters));
  const pictures = readdirSync(join(root, 'search'))
    .filter((name) => name.endsWith('.png') && name !== 'input.png')
    .sort();
  return {
    metrics: hashOf(timeless(report)),
    pictures: hashOf(...pictures.map((name) => readFileSync(join(root, 'search', name)))),
  };
}

async function evaluated(root: string): Promise<Hashes> {
  const evaluation = await evaluate({
    suites: ['single', 'spatial', 'count', 'colour', 'clip', 'preference', 'diversity'],
    arms: [{ model: 'emoji', adapters: [] }],
    maxPrompts: 2,
    pictures: 2,
    steps: 2,
    batchSize: 8,
  });
  const { numbers } = await writeEvaluation(join(root, 'evaluation'), evaluation);
  const sheets = readdirSync(join(root, 'evaluation'))
    .filter((name) => name.endsWith('.png'))
    .sort();
  return {
    metrics: hashOf(timeless(numbers)),
    pictures: hashOf(...sheets.map((name) => readFileSync(join(root, 'evaluation', name)))),
  };
}

export async function* others(): AsyncGenerator<{ name: string; hashes: Hashes; shipped: boolean }> {
  const root = mkdtempSync(join(tmpdir(), 'rldf-bytes-'));
  try {
    yield { name: 'run resumed', hashes: await run(root), shipped: false };
    yield { name: 'fuse', hashes: await fuse(root), shipped: false };
    yield { name: 'search', hashes: await searched(root), shipped: false };
    yield { name: 'eval', hashes: await evaluated(root), shipped: true };
  } finally {
    rmSync(root, { recursive: true });
  }
}
