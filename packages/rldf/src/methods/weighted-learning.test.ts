import { tinyPipeline } from '@rldf/models';
import { grad, liveTensors, type StateTree, scope, setThreads, Tensor, tensor } from '@rldf/torch';
import { describe, expect, test } from 'vitest';
import { checkRecipe } from '../recipe/load.js';
import { crossFieldProblems, type Recipe } from '../recipe/recipe.js';
import type { Training, TrainingContext } from '../run/training.js';
import type { ScoredPicture } from './denoising.js';
import { preferenceLoss, rankedPairs } from './dpo.js';
import { methodOf } from './index.js';
import { bestOfEach } from './raft.js';
import { exponentialWeights, sparseWeights } from './rwr.js';

setThreads(1);

type Overrides = { method?: string; sample?: object; train?: object; [key: string]: unknown };

const recipeOf = ({ sample, train, ...rest }: Overrides = {}): Recipe =>
  checkRecipe({
    method: 'rwr',
    prompts: ['a cat', 'a dog'],
    reward: 'jpeg-compressibility',
    epochs: 2,
    seed: 3,
    sample: { steps: 2, promptsPerEpoch: 2, picturesPerPrompt: 3, batchSize: 4, guidanceScale: 3, ...sample },
    train: { rank: 2, batchSize: 4, updatesPerEpoch: 2, innerEpochs: 2, learningRate: 1e-2, ...train },
    ...rest,
  });

const brightness = (images: Tensor) =>
  scope(() =>
    images
      .to('float32')
      .reshape([images.shape[0] as number, -1])
      .mean(1)
      .toNumbers(),
  );

const contextOf = (score: (images: Tensor) => number[] = brightness): TrainingContext => ({
  prompts: ['a cat', 'a dog'].map((text) => ({ text, meta: null })),
  score: async (images) => {
    const total = score(images);
    return { total, parts: { brightness: total } };
  },
});

const create = (recipe: Recipe, context = contextOf()) =>
  methodOf(recipe).create(recipe, tinyPipeline(1), context);

async function rowsOf(training: Training, from = 0, steps = 9): Promise<Record<string, number>[]> {
  const rows: Record<string, number>[] = [];
  for await (const event of training.run(from)) {
    if (event.kind === 'step') rows.push(event.metrics);
    if (rows.length === steps) break;
  }
  return rows;
}

/** A state without its tensors' identity. */
const numbersOf = (tree: StateTree): unknown =>
  JSON.stringify(tree, (_, value) => (value instanceof Tensor ? value.toNumbers() : value));

const pictures = (...rewards: number[][]): ScoredPicture[] => {
  const latents = undefined as unknown as Tensor; // not looked at
  let row = 0;
  return rewards.flatMap((group, p) =>
    group.map((reward, i) => ({ latents, row: row++, prompt: `p${p}`, group: p, reward, path: [0, p, i] })),
  );
};
const rowsIn = (chosen: readonly ScoredPicture[]) => chosen.map(({ row }) => row);

describe('weights by hand', () => {
  test('exponential: N exp(r / τ) / Σ exp(r / τ)', () => {
    const weights = exponentialWeights([0, 0.2, 0.4], 0.2, { standardise: false });
    const sum = 1 + Math.E + Math.E ** 2;
    [3 / sum, (3 * Math.E) / sum, (3 * Math.E ** 2) / sum].forEach((expected, i) => {
      expect(weights[i]).toBeCloseTo(expected, 12);
    });
    const standardised = exponentialWeights([10, 30], 0.5, { standardise: true }); // -1 and 1
    expect((standardised[1] as number) / (standardised[0] as number)).toBeCloseTo(Math.exp(4), 3);
    expect(exponentialWeights([1e6, 0], 0.2, { standardise: false })).toEqual([2, 0]);
  });

  test('equal rewards weigh 1 each', () => {
    for (const standardise of [true, false])
      expect(exponentialWeights([7, 7, 7], 0.2, { standardise })).toEqual([1, 1, 1]);
    expect(sparseWeights([7, 7, 7], { topFraction: 0.1 })).toEqual([1, 1, 1]);
  });

  test('sparse: the best of them, or those from a threshold up', () => {
    expect(sparseWeights([3, 1, 4, 1, 5, 9, 2, 6, 5, 3], { topFraction: 0.3 })).toEqual([
      0, 0, 0, 0, 1, 1, 0, 1, 1, 0,
    ]);
    expect(sparseWeights([3, 1, 4], { topFraction: 0.01 })).toEqual([0, 0, 1]);
    const hundred = Array.from({ length: 100 }, (_, i) => i);
    expect(sparseWeights(hundred, { topFraction: 0.07 }).filter((weight) => weight === 1)).toHaveLength(7);
    expect(sparseWeights([3, 1, 4], { threshold: 3 })).toEqual([1, 0, 1]);
    expect(sparseWeights([3, 1, 4], { threshold: 5 })).toEqual([0, 0, 0]);
  });

  test('RAFT keeps the best of each prompt, of equal ones the first', () => {
    expect(rowsIn(bestOfEach(pictures([1, 3, 2], [5, 5, 4]), 1))).toEqual([1, 3]);
    expect(rowsIn(bestOfEach(pictures([1, 3, 2], [5, 5, 4]), 2))).toEqual([1, 2, 3, 4]);
  });

  test('DPO pairs the best with the worst, or any two of different reward', () => {
    const scored = pictures([1, 3, 2], [5, 5, 5], [7, 8, 8]);
    const rows = (pairs: 'extremes' | 'all') => rankedPairs(scored, pairs).map(rowsIn);
    expect(rows('extremes')).toEqual([
      [1, 0],
      [7, 6],
    ]);
    expect(rows('all')).toEqual([
      [1, 2],
      [1, 0],
      [2, 0],
      [7, 6],
      [8, 6],
    ]);
  });
});

test('the preference loss and its gradient by hand, also at margin 0', () => {
  const [better, worse] = [
    tensor([0.5, 0.3], { dtype: 'float64' }).requiresGrad_(),
    tensor([0.6, 0.3], { dtype: 'float64' }).requiresGrad_(),
  ];
  const [betterBase, worseBase] = [
    tensor([0.7, 0.3], { dtype: 'float64' }),
    tensor([0.5, 0.3], { dtype: 'float64' }),
  ];
  const beta = 10;
  const { loss, margin } = preferenceLoss([better, worse], [betterBase, worseBase], beta);
  const expected = [(-beta / 2) * (-0.2 - 0.1), 0];
  const [ofBetter, ofWorse] = grad(loss.sum(), [better, worse]) as [Tensor, Tensor];
  expected.forEach((m, i) => {
    expect(margin.toNumbers()[i]).toBeCloseTo(m, 12);
    expect(loss.toNumbers()[i]).toBeCloseTo(Math.log(1 + Math.exp(-m)), 12);
    const slope = beta / 2 / (1 + Math.exp(m)); // σ(-m) β/2
    expect(ofBetter.toNumbers()[i]).toBeCloseTo(slope, 12);
    expect(ofWorse.toNumbers()[i]).toBeCloseTo(-slope, 12);
  });
  expect(
    preferenceLoss([better.mul(1e6), worse], [betterBase, worseBase], beta)
      .loss.isfinite()
      .toNumbers(),
  ).toEqual([1, 1]);
});

const arms: [string, Overrides][] = [
  ['rwr', { method: 'rwr', train: { textEncoder: 'lora' } }],
  ['rwr by prompt', { method: 'rwr', train: { over: 'prompt', standardise: false, unet: 'full' } }],
  ['sparse rwr', { method: 'rwr', train: { weights: 'sparse', topFraction: 0.4 } }],
  ['raft', { method: 'raft' }],
  ['dpo', { method: 'dpo', train: { beta: 100, pairs: 'all' } }],
];

describe.each(arms)('%s', (_, overrides) => {
  test('resumed equals uninterrupted', async () => {
    const recipe = recipeOf(overrides);
    const straight = create(recipe);
    const rows = await rowsOf(straight);
    const first = create(recipe);
    const rest = [...(await rowsOf(first, 0, 1))];
    const second = create(recipe);
    scope(() => second.load(structured(first.state())));
    rest.push(...(await rowsOf(second, 1)));
    expect(rest).toEqual(rows);
    expect(numbersOf(second.state())).toBe(numbersOf(straight.state()));
    for (const training of [straight, first, second]) training.free();

    for (const row of rows) for (const value of Object.values(row)) expect(Number.isFinite(value)).toBe(true);
    expect(rows[0]?.['gradient/norm']).toBeGreaterThan(0);
  });

  test('equal rewards give no NaN', async () => {
    const training = create(
      recipeOf({ ...overrides, epochs: 1 }),
      contextOf((images) => Array(images.shape[0]).fill(7)),
    );
    const [row] = await rowsOf(training);
    for (const value of Object.values(row as object)) expect(Number.isFinite(value)).toBe(true);
    if (overrides.method === 'dpo') expect(row?.['lessons/count']).toBe(0);
    training.free();
  });
});

/** As a checkpoint would give it back. */
function structured(tree: StateTree): StateTree {
  if (tree instanceof Tensor) return tree.detach().clone();
  if (Array.isArray(tree)) return tree.map(structured);
  if (tree !== null && typeof tree === 'object')
    return Object.fromEntries(Object.entries(tree).map(([key, value]) => [key, structured(value)]));
  return tree;
}

test('tensors do not grow from epoch to epoch, and leaving in the middle frees them', async () => {
  for (const overrides of [{ method: 'rwr', train: { textEncoder: 'lora' } }, { method: 'dpo' }]) {
    const training = create(recipeOf({ ...overrides, epochs: 3 }));
    const counts: number[] = [];
    for await (const event of training.run(0)) if (event.kind === 'step') counts.push(liveTensors());
    expect(new Set(counts).size).toBe(1);
    const after = liveTensors();
    for (const phase of ['drawing', 'scoring', 'learning']) {
      for await (const event of training.run(1))
        if (event.kind === 'progress' && event.phase === phase) break;
      expect(liveTensors()).toBe(after);
    }
    training.free();
  }
});

test('batch sizes do not change what is learned', async () => {
  for (const method of ['rwr', 'dpo']) {
    const norms = [];
    for (const size of [1, 6]) {
      const training = create(
        recipeOf({ method, epochs: 1, sample: { batchSize: size }, train: { batchSize: size } }),
      );
      const [row] = await rowsOf(training);
      norms.push(row?.['gradient/norm'] as number);
      training.free();
    }
    expect(Math.abs((norms[0] as number) / (norms[1] as number) - 1)).toBeLessThan(1e-3);
  }
});

test('before its first update DPO is at margin 0: loss log 2', async () => {
  const recipe = recipeOf({ method: 'dpo', epochs: 1, train: { innerEpochs: 1, updatesPerEpoch: 1 } });
  const training = create(recipe);
  const [row] = await rowsOf(training);
  expect(row?.['loss/weighted']).toBeCloseTo(Math.log(2), 3); // 2000 x rounding
  training.free();
});

test('arithmetic: sparse weights keep a share of the epoch, or of each prompt', () => {
  const forwards = (over: string) => {
    const sample = { promptsPerEpoch: 16, picturesPerPrompt: 4 };
    const recipe = recipeOf({
      epochs: 1,
      sample,
      train: { weights: 'sparse', topFraction: 0.1, over, innerEpochs: 1 },
    });
    return methodOf(recipe).plan.arithmetic(recipe).trainingForwards;
  };
  expect([forwards('epoch'), forwards('prompt')]).toEqual([7, 16]);
});

test('mistakes between fields are refused with the fix', () => {
  const messages = (overrides: Overrides) => {
    try {
      return crossFieldProblems(recipeOf(overrides)).map(({ message }) => message);
    } catch (error) {
      return [(error as Error).message];
    }
  };
  expect(messages({})).toEqual([]);
  expect(messages({ train: { weights: 'sparse' } })[0]).toContain('train.topFraction: 0.1');
  expect(messages({ train: { topFraction: 0.1 } })[0]).toContain('weights are exponential');
  expect(messages({ method: 'raft', train: { best: 3 } })[0]).toContain('nothing would be left out');
  expect(messages({ method: 'dpo', train: { unet: 'full' } })[0]).toContain('reference of DPO');
  expect(messages({ method: 'dpo', train: { updatesPerEpoch: 3 } })[0]).toContain('at most 2 pairs');
  expect(
    messages({ method: 'dpo', sample: { picturesPerPrompt: 1 }, train: { updatesPerEpoch: 1 } })[0],
  ).toContain('a pair needs two');
});
