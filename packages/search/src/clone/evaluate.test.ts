import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodePng } from '@rldf/common/drawing/png';
import { liveTensors } from '@rldf/torch';
import { expect, test } from 'vitest';
import type { ImageSource } from '../pictures/image-source.js';
import { classPrompt } from './class-names.js';
import { trainClassifier } from './classifier.js';
import {
  type EvaluateCloneOptions,
  type EvaluationProgress,
  evaluateAndWrite,
  evaluateClone,
} from './evaluate.js';
import { hashOf, readSet, setOf } from './labelled-set.js';
import { tar } from './tar.js';
import { worldSets } from './world-sets.js';

const root = mkdtempSync(join(tmpdir(), 'rldf-evaluate-'));
let folders = 0;
const fresh = () => join(root, String(folders++));

const SIZE = 32;
const classes = ['blue', 'green', 'red'];
const recipe = {
  epochs: 2,
  batchSize: 8,
  learningRate: 5e-3,
  weightDecay: 0.05,
  precision: 'float32',
  // on AVX2 oneDNN (PyTorch 2.13.0) corrupts memory in the gradient of strided 1x1 convolutions with fewer channels
  width: 8,
} as const;

/** A square of the class's colour on grey noise. */
function picture(label: number, seed: number, edge = SIZE) {
  const data = new Uint8Array(edge * edge * 3);
  for (let i = 0; i < data.length; i++) data[i] = 100 + ((i * 7919 + seed * 104729) % 31);
  for (let y = edge / 4; y < (3 * edge) / 4; y++)
    for (let x = edge / 4; x < (3 * edge) / 4; x++)
      for (let channel = 0; channel < 3; channel++)
        data[(y * edge + x) * 3 + channel] = channel === 2 - label ? 250 - (seed % 9) : 10 + (seed % 7);
  return { width: edge, height: edge, channels: 3 as const, data };
}

async function dataset(perClass: number, from = 0, names = classes): Promise<string> {
  const folder = fresh();
  for (const [label, name] of names.entries()) {
    mkdirSync(join(folder, name), { recursive: true });
    for (let i = 0; i < perClass; i++)
      writeFileSync(join(folder, name, `${i}.png`), await encodePng(picture(label, from + i)));
  }
  return folder;
}

/** Draws what the sentence names, and counts. */
function toySource(): ImageSource & { drawn: string[]; failAt: number } {
  return {
    name: 'toy',
    batchSize: 4,
    drawn: [],
    failAt: -1,
    async draw(requests, deliver) {
      for (const [i, { sentence, seed }] of requests.entries()) {
        if (this.drawn.length === this.failAt) throw new Error('the source broke');
        this.drawn.push(sentence);
        await deliver(
          i,
          picture(
            classes.findIndex((name) => sentence.endsWith(name)),
            seed,
          ),
        );
      }
    },
  };
}

async function options(changes: Partial<EvaluateCloneOptions> = {}) {
  const source = toySource();
  return {
    clone: await dataset(10),
    real: await dataset(15, 100),
    arms: ['clone', 'class-name', 'real'],
    recipe,
    seeds: [0, 1],
    size: SIZE,
    runs: fresh(),
    source: () => source,
    features: (images) => {
      const [count = 0] = images.shape;
      const bytes = images.toArray() as Uint8Array;
      const edge = (SIZE * SIZE * 3) / 2;
      return Array.from({ length: count }, (_, i) => [
        ...bytes.slice(i * 2 * edge + edge + 48, i * 2 * edge + edge + 54),
      ]);
    },
    featuresName: 'six bytes',
    ...changes,
  } as EvaluateCloneOptions;
}

const trainedArmOf = (runs: string, arm: string) => readFileSync(join(runs, arm, 'trained.json'), 'utf8');
const weightsOf = (folder: string) => readFileSync(join(folder, 'classifier.safetensors'));

test('every arm is trained on equally many pictures and tested on every set; repeating trains nothing', async () => {
  const before = liveTensors();
  const shift = await dataset(4, 300);
  const all = await options({ shifts: { other: shift } });
  const { evaluation, text } = await evaluateAndWrite(all);
  expect(evaluation.pictures).toEqual({ training: 27, validation: 3 });
  expect(Object.keys(evaluation.accuracy)).toEqual([
    'validation/clone',
    'validation/class-name',
    'validation/real',
    'real',
    'other',
  ]);
  expect(evaluation.accuracy.real!['class-name']).toMatchObject({ pictures: 9, ci95: expect.any(Array) });
  expect(evaluation.accuracy.other!.clone!.pictures).toBe(12);
  for (const test of Object.values(evaluation.accuracy))
    for (const { mean, bySeed } of Object.values(test)) {
      expect(bySeed).toHaveLength(2);
      expect(mean).toBeCloseTo((bySeed[0]! + bySeed[1]!) / 2, 12);
    }
  expect(Object.keys(evaluation.distances.byArm.clone!)).toEqual(['real', 'other']);
  expect(evaluation.distances.byArm.clone!.real!.pictures).toBe(9);
  expect(text).toContain('| real, held out |');
  expect(readFileSync(join(all.runs, 'evaluation.md'), 'utf8')).toBe(text);
  expect(liveTensors()).toBe(before);

  const seen: EvaluationProgress[] = [];
  const again = await evaluateClone({ ...all, onProgress: (event) => seen.push(event) });
  expect(again).toEqual(evaluation);
  expect(seen.map(({ kind }) => kind)).toEqual(['measuring']);
  const source = all.source() as ReturnType<typeof toySource>;
  expect(source.drawn).toHaveLength(30);
  expect(source.drawn[0]).toBe('a picture of a blue');
});

test('a training that was stopped goes on and ends with the same bytes', async () => {
  const set = await readSet(await dataset(9), { size: SIZE });
  const straight = fresh();
  const made = await trainClassifier(set, { recipe, seed: 3, folder: straight });
  made.classifier.free();
  const folder = fresh();
  for (const stopAt of [1, 4]) {
    const controller = new AbortController();
    const stopped = trainClassifier(set, {
      recipe,
      seed: 3,
      folder,
      signal: controller.signal,
      onProgress: ({ step }) => step === stopAt && controller.abort(),
    });
    await expect(stopped).rejects.toThrow(/abort/i);
    expect(readdirSync(join(folder, 'checkpoints'))).toEqual([`step-${stopAt}`]);
  }
  (await trainClassifier(set, { recipe, seed: 3, folder })).classifier.free();
  expect(weightsOf(folder).equals(weightsOf(straight))).toBe(true);
  expect(readdirSync(folder)).toEqual(['classifier.safetensors']);
});

test('other pictures or another recipe are another classifier', async () => {
  const all = await options({ arms: ['clone'], seeds: [0] });
  await evaluateClone(all);
  const first = trainedArmOf(all.runs, 'clone-seed0');
  await evaluateClone({ ...all, recipe: { ...recipe, epochs: 1 } });
  const second = trainedArmOf(all.runs, 'clone-seed0');
  expect(JSON.parse(second).key).not.toBe(JSON.parse(first).key);
  writeFileSync(join(all.clone, 'red', '0.png'), await encodePng(picture(2, 999)));
  await evaluateClone({ ...all, recipe: { ...recipe, epochs: 1 } });
  expect(JSON.parse(trainedArmOf(all.runs, 'clone-seed0')).key).not.toBe(JSON.parse(second).key);
});

test('it learns: colours are told apart', async () => {
  const set = await readSet(await dataset(12), { size: SIZE });
  const { classifier } = await trainClassifier(set, {
    recipe: { ...recipe, epochs: 15 },
    seed: 0,
    folder: fresh(),
  });
  const held = await readSet(await dataset(5, 500), { size: SIZE });
  expect(classifier.correct(held)).toBe(15);
  classifier.free();
});

test('the class-name arm goes on after a source that broke', async () => {
  const source = toySource();
  source.failAt = 7;
  const all = await options({ arms: ['class-name'], seeds: [0], source: () => source });
  await expect(evaluateClone(all)).rejects.toThrow('the source broke');
  source.failAt = -1;
  await evaluateClone(all);
  expect(source.drawn).toHaveLength(30);
});

test('class prompts are the world’s own words', () => {
  expect(['ant', 'fox', 'skis', 'n02123045'].map(classPrompt)).toEqual([
    'a picture of an ant',
    'a picture of a fox',
    'a picture of a pair of skis',
    'a picture of a n02123045',
  ]);
});

test('tars and folders of the same pictures are one set', async () => {
  const folder = await dataset(3);
  const shards = fresh();
  mkdirSync(shards);
  for (const name of classes) {
    const entries = readdirSync(join(folder, name)).flatMap((file) => [
      { name: file, data: readFileSync(join(folder, name, file)) },
      { name: file.replace('.png', '.cls'), data: Buffer.from(name) },
    ]);
    writeFileSync(join(shards, `${name}.tar`), tar(entries));
  }
  const [a, b] = [await readSet(folder, { size: 16 }), await readSet(shards, { size: 16 })];
  expect(hashOf(b)).toBe(hashOf(a));
  expect(a.pixels).toHaveLength(9 * 16 * 16 * 3);
  const shard = join(shards, 'red.tar');
  const bytes = readFileSync(shard);
  for (const [damaged, message] of [
    [bytes.subarray(0, bytes.length - 1500), /red.tar: damaged at byte \d+: /],
    [bytes.with(3, 88), /red.tar: damaged at byte 0: a header is no header/],
    [bytes.subarray(0, 700), /red.tar: damaged at byte 0: 0.png is cut off/],
  ] as const) {
    writeFileSync(shard, damaged);
    await expect(readSet(shards, { size: 16 })).rejects.toThrow(message);
  }
});

test.each([
  [
    'an empty folder',
    async (all: EvaluateCloneOptions) => {
      const empty = fresh();
      mkdirSync(empty);
      return { ...all, clone: empty };
    },
    /no classes in it/,
  ],
  [
    'a class with too few pictures',
    async (all: EvaluateCloneOptions) => {
      for (const file of ['2', '3', '4', '5', '6', '7', '8', '9'])
        rmSync(join(all.clone, 'red', `${file}.png`));
      return all;
    },
    /red: 2 pictures — each class needs 4/,
  ],
  [
    'more than there are',
    async (all: EvaluateCloneOptions) => ({ ...all, pictures: 60 }),
    /10 pictures — each class needs 20/,
  ],
  [
    'too few in the real set',
    async (all: EvaluateCloneOptions) => ({ ...all, real: await dataset(8) }),
    /7 pictures — each class needs 10/,
  ],
  [
    'other classes',
    async (all: EvaluateCloneOptions) => ({
      ...all,
      real: await dataset(15, 0, ['blue', 'green', 'yellow']),
    }),
    /lacks red and has besides yellow/,
  ],
  [
    'a shift of other classes',
    async (all: EvaluateCloneOptions) => ({
      ...all,
      shifts: { odd: await dataset(2, 0, ['blue', 'green']) },
    }),
    /lacks red/,
  ],
  [
    'a broken picture',
    async (all: EvaluateCloneOptions) => {
      writeFileSync(join(all.clone, 'red', '0.png'), 'no picture');
      return all;
    },
    /red.0.png: cannot be read as a picture/,
  ],
  [
    'classes that are no nouns',
    async (all: EvaluateCloneOptions) => ({ ...all, real: 'world' }),
    /has no blue, green, red/,
  ],
])('%s is refused', async (_, change, message) => {
  const all = await change(await options({ arms: ['clone', 'real'] }));
  await expect(evaluateClone(all)).rejects.toThrow(message);
});

test('the world’s sets: equal counts, one distribution, nothing in both, the same scenes in other art', async () => {
  const names = ['cat', 'fox', 'wine glass'];
  const { train, test: held, shifts } = await worldSets(names, { perClass: 30, testPerClass: 6 });
  expect([train, held].map(({ labels }) => labels.length)).toEqual([90, 18]);
  const pictures = ({ pixels, labels }: typeof train) =>
    labels.map((_, i) => Buffer.from(pixels.subarray(i * 12288, (i + 1) * 12288)).toString('base64'));
  const known = new Set(pictures(train));
  expect(pictures(held).some((one) => known.has(one))).toBe(false);
  expect(Object.keys(shifts)).toEqual(['twemoji', 'fluent-emoji-flat', 'openmoji', 'sketch']);
  const all = [held, ...Object.values(shifts)].map(hashOf);
  expect(new Set(all).size).toBe(5);
  expect(hashOf((await worldSets(names, { perClass: 30, testPerClass: 6 })).test)).toBe(all[0]);
  const fewer = (await worldSets(names, { perClass: 5, testPerClass: 1 })).train;
  expect(fewer.pixels.subarray(0, 5 * 12288)).toEqual(train.pixels.subarray(0, 5 * 12288));
  expect(setOf(['a'], [0], [train.pixels.subarray(0, 12288)]).size).toBe(64);
});
