import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findModel } from '@rldf/common/instruments/models';
import { sceneBatch } from '@rldf/common/instruments/scenes';
import { loadArt } from '@rldf/emoji-world';
import { type Detection, type Detector, decodeLatents, loadPipeline, tinyPipeline } from '@rldf/models';
import { free, liveTensors, noGrad, type StateTree, scope, setThreads, Tensor } from '@rldf/torch';
import { describe, expect, test } from 'vitest';
import { checkRecipe } from '../recipe/load.js';
import { loadGrammar } from '../relabel/grammar.js';
import { askedOf } from '../relabel/relabel.js';
import type { Training, TrainingContext } from '../run/training.js';
import { pictureMemory, type Recall } from '../sampling/picture-memory.js';
import { createIpRldf, ipRldfArithmetic, ipRldfSteps } from './ip-rldf.js';
import { controlWorlds, labelOf, worldPictures, worldSeed } from './ip-rldf-pictures.js';
import type { IpRldfRecipe } from './ip-rldf-schema.js';

setThreads(1);

const self = ['a cat to the left of a dog', 'a dog above a cat'];
const base = ['a cat below a dog', 'a dog to the right of a cat', 'a cat above a dog', 'a dog below a cat'];

type Overrides = { sample?: object; train?: object; [key: string]: unknown };

const recipeOf = ({ sample, train, ...rest }: Overrides = {}) =>
  checkRecipe({
    method: 'ip-rldf',
    detector: 'detector',
    prompts: self,
    base: { prompts: base, ratio: 2 },
    reward: 'spatial',
    epochs: 2,
    seed: 3,
    sample: {
      steps: 2,
      promptsPerEpoch: 2,
      picturesPerPrompt: 2,
      batchSize: 3,
      picturesPerStep: 6,
      ...sample,
    },
    train: { rank: 2, batchSize: 4, updatesPerEpoch: 3, updatesPerStep: 2, learningRate: 1e-2, ...train },
    ...rest,
  }) as IpRldfRecipe;

const box = (label: string, x: number, y: number): Detection => ({
  label,
  score: 1,
  box: [x, y, x + 9, y + 9],
});
const outcomes: Detection[][] = [
  [box('cat', 0, 20), box('dog', 50, 0)],
  [box('dog', 0, 20), box('cat', 50, 50)],
  [box('dog', 0, 20), box('dog', 50, 50)],
  [],
];

/** Finds one of a few things in a picture, whichever its pixels add up to. */
const detector: Detector = {
  labels: ['cat', 'dog'],
  detect: (images) =>
    scope(() =>
      images
        .to('float32')
        .reshape([images.shape[0] as number, -1])
        .sum(1)
        .toNumbers(),
    ).map((sum) => outcomes[sum % outcomes.length] as Detection[]),
};

const context: TrainingContext = {
  prompts: self.map((text) => ({ text, meta: null })),
  score: async (images) => {
    const total = Array.from({ length: images.shape[0] as number }, (_, i) => i % 2);
    return { total, parts: { spatial: total } };
  },
};

const create = (recipe = recipeOf()) => createIpRldf(recipe, tinyPipeline(1), context, detector);

interface Kept {
  latents: Tensor;
  captions: string[];
  weights: number[];
}
const kept = (training: Training) => (training.state() as { pictures: Kept }).pictures;

/** As a checkpoint would give it back. */
function copied(tree: StateTree): StateTree {
  if (tree instanceof Tensor) return tree.detach().clone();
  if (Array.isArray(tree)) return tree.map(copied);
  if (tree === null || typeof tree !== 'object') return tree;
  return Object.fromEntries(Object.entries(tree).map(([name, child]) => [name, copied(child)]));
}

const words = (tree: StateTree) =>
  JSON.stringify(tree, (_, value) => (value instanceof Tensor ? value.toNumbers() : value));

async function run(training: Training, from = 0, state?: StateTree) {
  if (state !== undefined) training.load(state);
  const rows: Record<string, number>[] = [];
  const states: StateTree[] = [];
  for await (const event of training.run(from)) {
    if (event.kind !== 'step') continue;
    rows.push({ step: event.step, pictures: event.pictures, ...event.metrics });
    states.push(scope(() => copied(training.state()) as never));
  }
  return { rows, states, last: words(training.state()) };
}

test('rounds fall into small steps: drawing, then the epochs', () => {
  const steps = ipRldfSteps(recipeOf());
  const drawn = (round: number, from: number, to: number) => ({ kind: 'draw', round, from, to });
  const epochs = (round: number) =>
    [0, 1].flatMap((epoch) => [
      { kind: 'learn', round, epoch, from: 0, to: 2 },
      { kind: 'learn', round, epoch, from: 2, to: 3 },
    ]);
  expect(steps).toEqual([drawn(0, 0, 6), drawn(0, 6, 12), ...epochs(0), drawn(1, 0, 4), ...epochs(1)]);
  expect(ipRldfArithmetic(recipeOf())).toMatchObject({
    steps: 11,
    picturesPerEpoch: 12,
    pictures: 16,
    picturesPerUpdate: 4,
    updates: 12,
    halves: 2,
    samplingForwards: 64,
    trainingForwards: 48,
  });
  expect(ipRldfSteps(recipeOf({ rounds: 0 }))).toEqual([]);
});

describe('the paper’s arms, by hand', () => {
  const grammar = loadGrammar('spatial');
  const prompt = 'a cat to the left of a dog';
  const label = (recipe: { relabel: boolean; rescale: number }, detections: Detection[]) => {
    const { caption, weight } = labelOf(recipe, grammar, prompt, askedOf(grammar, prompt), detections);
    return [caption, weight];
  };
  const [right, wrong, two, nothing] = outcomes as [Detection[], Detection[], Detection[], Detection[]];
  test.each([
    ['P', { relabel: true, rescale: 1 }, ['a cat to the right of a dog', 1], ['two dogs', 1]],
    ['RLDF', { relabel: false, rescale: 0.5 }, [prompt, 0.5], [prompt, 0.5]],
    ['P-RLDF', { relabel: true, rescale: 0.5 }, ['a cat to the right of a dog', 0.5], ['two dogs', 0.5]],
    ['own pictures', { relabel: false, rescale: 1 }, [prompt, 1], [prompt, 1]],
  ])('%s', (_, recipe, ofWrong, ofTwo) => {
    expect(label(recipe, right)).toEqual([prompt, 1]);
    expect(label(recipe, wrong)).toEqual(ofWrong); // by the original prompt, also when relabelled
    expect(label(recipe, two)).toEqual(ofTwo);
    expect(label(recipe, nothing)).toEqual(['', 0]);
  });
});

describe('a run', () => {
  test('resumed after any step it ends as the straight run, bit for bit', async () => {
    const straight = create();
    const { rows, states, last } = await run(straight);
    expect(rows).toHaveLength(11);
    for (const row of rows) for (const value of Object.values(row)) expect(Number.isFinite(value)).toBe(true);
    for (const step of [1, 3, 6, 8]) {
      const resumed = create();
      const again = await run(resumed, step, states[step - 1]);
      expect(again.rows).toEqual(rows.slice(step));
      expect(again.last === last).toBe(true);
      resumed.free();
    }
    straight.free();
  });

  test('base pictures stay, self-training pictures are drawn anew, weights carry over, the learning rate falls', async () => {
    const training = create(recipeOf({ train: { roundDecay: 0.25 } }));
    const { rows, states } = await run(training);
    const pictures = states.map((state) => (state as { pictures: Kept }).pictures);
    const rowsOf = (step: number, from: number, to: number) =>
      (pictures[step] as Kept).latents.narrow(0, from, to - from).toNumbers();
    expect(rowsOf(10, 4, 12)).toEqual(rowsOf(1, 4, 12));
    expect(rowsOf(10, 0, 4)).not.toEqual(rowsOf(1, 0, 4));
    expect(rowsOf(10, 0, 4)).toEqual(rowsOf(6, 0, 4));
    const rates = rows.map((row) => row['optimiser/learningRate']).filter((rate) => rate !== undefined);
    expect(rates).toEqual([1e-2, 1e-2, 1e-2, 1e-2, 2.5e-3, 2.5e-3, 2.5e-3, 2.5e-3]);
    expect(rows.map(({ round }) => round)).toEqual([1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
    const shares = ['relabel/matches', 'relabel/differs', 'relabel/dropped'].map(
      (name) => rows[0]?.[name] as number,
    );
    expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 12);
    expect(rows[0]?.['reward/mean']).toBe(0.5); // of the four self-training pictures among the six
    expect(rows[1]).not.toHaveProperty('reward/mean');
    training.free();
  });

  test('the first round’s loss is the weighted mean of the kept pictures’ errors', async () => {
    const once = { epochs: 1, rounds: 1, train: { updatesPerEpoch: 1, batchSize: 12 } };
    const halves = create(recipeOf({ ...once, rescale: 0.5, relabel: false }));
    const ones = create(recipeOf({ ...once, rescale: 1, relabel: false }));
    const [half, one] = [(await run(halves)).rows.at(-1), (await run(ones)).rows.at(-1)];
    const { weights } = kept(halves);
    expect(new Set(weights)).toEqual(new Set([0, 0.5, 1]));
    expect(half?.['loss/denoising']).toBeCloseTo(one?.['loss/denoising'] as number, 6); // same pictures, same noise
    expect(one?.['loss/weighted']).toBeCloseTo(one?.['loss/denoising'] as number, 6);
    expect(half?.['loss/weighted']).toBeLessThan(one?.['loss/weighted'] as number);
    expect(half?.['loss/weighted']).toBeGreaterThan(0.5 * (one?.['loss/weighted'] as number));
    for (const training of [halves, ones]) training.free();
  });

  test('leaving in the middle of a step leaves neither tensors nor half a step behind', async () => {
    const training = create();
    const { states } = await run(training, 0);
    const tensors = liveTensors();
    const before = words(training.state());
    expect(before).toBe(words(states.at(-1) as StateTree));
    for await (const event of training.run(6)) if (event.kind === 'progress' && event.share > 0.5) break;
    expect(words(training.state())).toBe(before);
    expect(liveTensors()).toBe(tensors);
    training.free();
  });

  test('Ctrl-C ends a batch between two denoising steps, with the state of the step before', async () => {
    const controller = new AbortController();
    const { signal } = controller;
    const training = createIpRldf(recipeOf(), tinyPipeline(1), { ...context, signal }, detector);
    const before = words(training.state());
    const ended = (async () => {
      for await (const event of training.run(0)) if (event.kind === 'progress') controller.abort();
    })();
    expect(await ended.catch((error) => error)).toBe(signal.reason);
    expect(words(training.state())).toBe(before);
    training.free();
  });

  test('pictures in which nothing is found teach nothing: if all are so, the weights stay, and nothing is NaN', async () => {
    const blind: Detector = { labels: [], detect: (images) => Array(images.shape[0]).fill([]) };
    const training = createIpRldf(recipeOf({ rounds: 1, epochs: 1 }), tinyPipeline(1), context, blind);
    const { trainables } = training.state() as { trainables: { unet: Tensor[] } };
    const before = trainables.unet.map((weight) => weight.toNumbers());
    const { rows } = await run(training);
    expect(rows[0]).toMatchObject({ 'relabel/dropped': 1, 'relabel/matches': 0, 'relabel/differs': 0 });
    expect(rows.at(-1)).not.toHaveProperty('loss/weighted');
    expect(trainables.unet.map((weight) => weight.toNumbers())).toEqual(before);
    for (const row of rows) for (const value of Object.values(row)) expect(Number.isFinite(value)).toBe(true);
    training.free();
  });

  test('Direct trains nothing', async () => {
    const training = create(recipeOf({ rounds: 0 }));
    expect(training.steps).toBe(0);
    expect((await run(training)).rows).toEqual([]);
    training.free();
  });

  test('a longer round cannot go on from a shorter one', async () => {
    const training = create();
    const { states } = await run(training);
    const longer = create(recipeOf({ epochs: 3 }));
    expect(() => longer.load(states[3] as StateTree)).toThrow(/cannot be made longer/);
    for (const each of [training, longer]) each.free();
  });
});

describe('refused before anything is loaded, with the fix', () => {
  test.each([
    [
      { detector: undefined },
      /detector: missing, with relabel: true and rescale: 0.5 — .*Set detector: detector/,
    ],
    [{ detector: undefined, relabel: false }, /with rescale: 0.5/],
    [{ detector: 'judge-detector' }, /is a judge.*Set detector: detector/],
    [{ detector: 'clip-2' }, /is no detector.*Set detector: detector/],
    [{ detector: 'detectr' }, /detectr/],
    [{ pictures: 'world' }, /scenes of the world keep their captions/],
    [{ train: { updatesPerEpoch: 13 } }, /13 updates of 4 self-training and 8 base pictures/],
  ])('%j', (overrides, message) => {
    expect(() => recipeOf(overrides)).toThrow(message);
  });

  test('too few prompts, and prompts that boxes say nothing about', () => {
    expect(() => create(recipeOf({ base: { prompts: base, ratio: 3 } }))).toThrow(
      /base.prompts has 4 prompts, 6 are needed/,
    );
    const odd = {
      ...context,
      prompts: ['a cat riding a bike', 'a cat'].map((text) => ({ text, meta: null })),
    };
    expect(() => createIpRldf(recipeOf(), tinyPipeline(1), odd, detector)).toThrow(
      /asks for more than boxes tell/,
    );
    const world = recipeOf({ pictures: 'world', relabel: false, rescale: 1 });
    expect(() => create(world)).toThrow(/8 x 8 pixels.*64 x 64/);
  });
});

test('a recipe with a detector is given one, or refused: its pictures would silently keep their captions', () => {
  expect(() => createIpRldf(recipeOf(), tinyPipeline(1), context)).toThrow(
    /has a detector, but none was given/,
  );
});

test('no detector: own pictures keep their captions, all weigh 1', async () => {
  const recipe = recipeOf({ detector: undefined, relabel: false, rescale: 1, rounds: 1, epochs: 1 });
  const training = createIpRldf(recipe, tinyPipeline(1), context);
  const { rows } = await run(training);
  expect(kept(training).weights).toEqual(Array(12).fill(1));
  expect(kept(training).captions.slice(0, 5)).toEqual([self[0], self[0], self[1], self[1], base[0]]);
  expect(Object.keys(rows[0] as object).filter((name) => name.startsWith('relabel'))).toEqual([]);
  training.free();
});

test('the first round may be recalled: it is drawn once for two runs, which learn as without a memory', async () => {
  const remember = pictureMemory(mkdtempSync(join(tmpdir(), 'rldf-memory-')), tinyPipeline(1));
  let batches = 0;
  const recall: Recall = (what, draw) =>
    remember(what, () => {
      batches++;
      return draw();
    });
  const ends: string[] = [];
  for (const given of [context, { ...context, recall }, { ...context, recall }]) {
    const training = createIpRldf(recipeOf(), tinyPipeline(1), given, detector);
    ends.push((await run(training)).last);
    training.free();
  }
  expect(new Set(ends).size).toBe(1);
  expect(batches).toBe(4); // 12 pictures in batches of 3; the second round is drawn by other weights
  const other = createIpRldf(recipeOf({ seed: 4 }), tinyPipeline(1), { ...context, recall }, detector);
  await run(other);
  expect(batches).toBe(8);
  other.free();
});

test('the oracle learns from pairs of objects with true captions', async () => {
  const pipeline = loadPipeline(findModel('emoji').path);
  const recipe = recipeOf({ pictures: 'oracle', relabel: false, rescale: 1, seed: 0 });
  const drawn = await worldPictures({ ...recipe, pictures: 'oracle' }, pipeline)(0, [0, 1, 2, 3, 4, 5, 6, 7]);
  const art = await loadArt('noto');
  const scenes = sceneBatch(art, 'train', worldSeed(recipe.seed), 0, 8, controlWorlds.oracle);
  expect(scenes.told).toEqual(scenes.scenes);
  expect(scenes.scenes.every(({ relation }) => relation !== undefined)).toBe(true);
  expect(drawn.labels).toEqual(scenes.captions.map((caption) => ({ caption, weight: 1 })));
  free([drawn.latents, scenes.images]);
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
});

test('scenes of the world become latents that decode to them, with their captions', async () => {
  const pipeline = loadPipeline(findModel('emoji').path);
  const recipe = recipeOf({ pictures: 'world', relabel: false, rescale: 1, seed: 0 });
  const drawn = await worldPictures({ ...recipe, pictures: 'world' }, pipeline)(1, [4, 5]);
  const art = await loadArt('noto');
  const scenes = sceneBatch(art, 'train', worldSeed(recipe.seed), 12 + 4, 2, controlWorlds.world);
  const pretrained = sceneBatch(art, 'train', recipe.seed, 12 + 4, 2, controlWorlds.world); // the base model's own series
  const error = noGrad(() =>
    scope(() => decodeLatents(pipeline, drawn.latents).sub(scenes.images).square().mean().item()),
  );
  expect(error).toBeLessThan(0.02); // of values in [-1, 1]
  expect(drawn.labels).toEqual(scenes.captions.map((caption) => ({ caption, weight: 1 })));
  expect(scenes.scenes).not.toEqual(pretrained.scenes);
  free([drawn.latents, scenes.images, pretrained.images]);
  for (const parameters of Object.values(pipeline.parameters)) parameters.free();
});
