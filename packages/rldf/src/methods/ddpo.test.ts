import { tinyPipeline } from '@rldf/models';
import { grad, liveTensors, scope, setThreads, type Tensor, tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { batchArithmetic } from '../config/batch-arithmetic.js';
import { crossFieldProblems } from '../recipe/recipe.js';
import type { TrainingContext } from '../run/training.js';
import {
  createDdpo,
  type DdpoRecipe,
  ddpoSchema,
  importanceSamplingLoss,
  scoreFunctionLoss,
} from './ddpo.js';
import { scheduleOf } from './learner.js';
import { minimalRecipe } from './minimal-recipes.fixture.js';
import { trainedSteps } from './policy-gradient.js';

setThreads(1);

type Overrides = { sample?: object; train?: object; [key: string]: unknown };

function recipeOf({ sample, train, ...rest }: Overrides = {}): DdpoRecipe {
  return ddpoSchema.parse({
    method: 'ddpo',
    prompts: ['a cat', 'a dog'],
    reward: 'jpeg-compressibility',
    epochs: 2,
    seed: 3,
    sample: { steps: 4, promptsPerEpoch: 2, picturesPerPrompt: 2, batchSize: 4, guidanceScale: 3, ...sample },
    train: { rank: 2, batchSize: 2, updatesPerEpoch: 1, clipMeanLogProb: 1e-4, ...train },
    ...rest,
  });
}

const brightness = (images: Tensor) =>
  scope(() => {
    const [count = 0] = images.shape;
    return images.to('float32').reshape([count, -1]).mean(1).toNumbers();
  });

function contextOf(score: (images: Tensor) => number[] = brightness): TrainingContext {
  return {
    prompts: ['a cat', 'a dog'].map((text) => ({ text, meta: null })),
    score: async (images) => {
      const total = score(images);
      return { total, parts: { brightness: total } };
    },
  };
}

async function metricsOf(recipe: DdpoRecipe, context = contextOf()): Promise<Record<string, number>[]> {
  const pipeline = tinyPipeline(1);
  const training = createDdpo(recipe, pipeline, context);
  const rows: Record<string, number>[] = [];
  for await (const event of training.run(0)) if (event.kind === 'step') rows.push(event.metrics);
  training.free();
  return rows;
}

test('before the first update the ratio is 1, at every step: 1e-6 at equal batch shape, 1e-5 otherwise', async () => {
  const [equal] = await metricsOf(recipeOf({ epochs: 1, train: { batchSize: 4 } }));
  expect(equal?.['policy/firstRatioError']).toBeLessThan(1e-6);
  const [other] = await metricsOf(recipeOf({ epochs: 1, train: { batchSize: 3 } }));
  expect(other?.['policy/firstRatioError']).toBeLessThan(1e-5);
});

test('REINFORCE follows the advantages: with none there is no gradient, and it is that of the clipped surrogate before a step', async () => {
  const sf = { estimator: 'sf', clipMeanLogProb: undefined };
  const [none] = await metricsOf(
    recipeOf({ epochs: 1, train: sf }),
    contextOf((images) => Array(images.shape[0]).fill(1)),
  );
  expect(none?.['gradient/norm']).toBe(0);
  const [plain] = await metricsOf(recipeOf({ epochs: 1, train: sf }));
  const [clipped] = await metricsOf(recipeOf({ epochs: 1 }));
  const ratio = (plain?.['gradient/norm'] as number) / (clipped?.['gradient/norm'] as number);
  expect(Math.abs(ratio - 1)).toBeLessThan(1e-4);
});

test('at ratio 1 the gradient of the clipped surrogate is that of REINFORCE', () => {
  const old = tensor([-1.2, 0.3, 2.1], { dtype: 'float64' });
  const advantage = tensor([1.5, -0.7, 0], { dtype: 'float64' });
  const logProb = old.clone().requiresGrad_();
  const [clipped] = grad(importanceSamplingLoss(logProb, old, advantage, 1e-4).sum(), [logProb]);
  const [plain] = grad(scoreFunctionLoss(logProb, old, advantage).sum(), [logProb]);
  expect(clipped?.toNumbers()).toEqual(plain?.toNumbers());
});

test('outside the band the surrogate has no gradient on the side that would go further, and one that leads back', () => {
  const old = tensor([0, 0, 0, 0], { dtype: 'float64' });
  const logProb = tensor([0.5, 0.5, -0.5, -0.5], { dtype: 'float64' }).requiresGrad_();
  const advantage = tensor([1, -1, 1, -1], { dtype: 'float64' });
  const [gradient] = grad(importanceSamplingLoss(logProb, old, advantage, 0.1).sum(), [logProb]);
  const e = Math.exp(0.5);
  const expected = [0, e, -1 / e, 0];
  gradient?.toNumbers().forEach((value, i) => {
    expect(value).toBeCloseTo(expected[i] as number, 12);
  });
});

test('eta 0 is refused with the reason', () => {
  expect(() => recipeOf({ sample: { eta: 0 } })).toThrow(/deterministic/);
});

const ancestral = { sample: { scheduler: 'euler-ancestral' } };

test('ancestral Euler is a policy too: ratio 1 before the first update, and an update makes better pictures likelier', async () => {
  const train = { innerEpochs: 2, batchSize: 4, learningRate: 1e-3 };
  const [row] = await metricsOf(recipeOf({ ...ancestral, epochs: 1, train }));
  expect(row?.['policy/firstRatioError']).toBeLessThan(1e-6);
  // of the first update it is the mean advantage, 0; of the second what the first one gained
  expect(row?.['loss/policy']).toBeLessThan(-1e-6);
});

test('nothing is learned from the last step of ancestral Euler, which has no probability', () => {
  const { seed, sample, train } = recipeOf(ancestral);
  const whole = trainedSteps({ seed, sample, train }, [0, 0, 0], 0);
  expect([...whole].sort()).toEqual([0, 1, 2]);
  const half = { ...train, timestepFraction: 0.5 };
  for (let i = 0; i < 20; i++)
    expect([...trainedSteps({ seed, sample, train: half }, [i], 0)]).not.toContain(3);
  expect(batchArithmetic(recipeOf(ancestral)).trainedSteps).toBe(3);
  const problems = crossFieldProblems(recipeOf({ sample: { ...ancestral.sample, eta: 0.5 } }));
  expect(problems.map(({ message }) => message)).toEqual([
    expect.stringMatching(/^0.5, but only DDIM has an eta/),
  ]);
});

test('equal rewards give advantage 0, a zero loss and no NaN', async () => {
  const rows = await metricsOf(
    recipeOf(),
    contextOf((images) => Array(images.shape[0]).fill(7)),
  );
  for (const row of rows) {
    expect(row['advantage/meanAbsolute']).toBe(0);
    expect(row['loss/policy'] === 0).toBe(true);
    for (const value of Object.values(row)) expect(Number.isFinite(value)).toBe(true);
  }
});

test('micro-batches do not change the update', async () => {
  const [one, many] = await Promise.all([
    metricsOf(recipeOf({ train: { batchSize: 4 } })),
    metricsOf(recipeOf({ train: { batchSize: 1 } })),
  ]);
  for (const name of ['reward/mean', 'gradient/norm'] as const) {
    expect(many[1]?.[name]).toBeCloseTo(one[1]?.[name] as number, 3);
  }
});

test('a loaded state continues as if never interrupted, bit for bit', async () => {
  const recipe = recipeOf({ epochs: 3, train: { unet: 'lora', textEncoder: 'lora' } });
  const run = async (from: number, state?: ReturnType<ReturnType<typeof createDdpo>['state']>) => {
    const training = createDdpo(recipe, tinyPipeline(1), contextOf());
    if (state !== undefined) training.load(state);
    const steps: { metrics: Record<string, number>; weights: number[] }[] = [];
    for await (const event of training.run(from)) {
      if (event.kind !== 'step') continue;
      const { trainables } = training.state() as { trainables: { unet: Tensor[]; textEncoder: Tensor[] } };
      const weights = [...trainables.unet, ...trainables.textEncoder].flatMap((t) => t.toNumbers());
      steps.push({ metrics: event.metrics, weights });
      if (from === 0 && state === undefined && event.step === 1) saved = structuredState(training.state());
    }
    return steps;
  };
  let saved: ReturnType<ReturnType<typeof createDdpo>['state']> | undefined;
  const whole = await run(0);
  const resumed = await run(1, saved);
  expect(resumed).toEqual(whole.slice(1));
});

/** A copy of a state tree, as a checkpoint would hold it. */
function structuredState(tree: unknown): never {
  if (tree !== null && typeof tree === 'object' && 'clone' in tree)
    return (tree as Tensor).detach().clone() as never;
  if (Array.isArray(tree)) return tree.map(structuredState) as never;
  if (tree !== null && typeof tree === 'object') {
    return Object.fromEntries(
      Object.entries(tree).map(([key, value]) => [key, structuredState(value)]),
    ) as never;
  }
  return tree as never;
}

test('an epoch leaves as many tensors as it found', async () => {
  const training = createDdpo(recipeOf({ epochs: 4 }), tinyPipeline(1), contextOf());
  const counts: number[] = [];
  for await (const event of training.run(0)) if (event.kind === 'step') counts.push(liveTensors());
  expect(new Set(counts.slice(1)).size).toBe(1);
  training.free();
});

test('score function: one update after each drawing moves along the advantage', async () => {
  const rows = await metricsOf(
    recipeOf({ epochs: 1, train: { estimator: 'sf', clipMeanLogProb: undefined } }),
  );
  expect(rows[0]?.['policy/clipFraction']).toBe(0);
  expect(rows[0]?.['gradient/norm']).toBeGreaterThan(0);
});

/** All trained weights after each epoch, and the metrics. */
async function weightsOf(
  recipe: DdpoRecipe,
): Promise<{ weights: number[]; metrics: Record<string, number> }[]> {
  const training = createDdpo(recipe, tinyPipeline(1), contextOf());
  const epochs: { weights: number[]; metrics: Record<string, number> }[] = [];
  for await (const event of training.run(0)) {
    if (event.kind !== 'step') continue;
    const { trainables } = training.state() as { trainables: { unet: Tensor[]; textEncoder: Tensor[] } };
    const weights = [...trainables.unet, ...trainables.textEncoder].flatMap((t) => t.toNumbers());
    epochs.push({ weights, metrics: event.metrics });
  }
  training.free();
  return epochs;
}

test.each([
  ['LoRA on the U-Net', { unet: 'lora' }],
  ['on both networks', { unet: 'lora', textEncoder: 'lora' }],
  ['all U-Net weights', { unet: 'full' }],
])('reuse changes the speed, not the update (1e-5): %s', async (_, train) => {
  const both = (reuse: boolean) =>
    weightsOf(recipeOf({ epochs: 1, train: { ...train, reuse, updatesPerEpoch: 2, learningRate: 1e-2 } }));
  const [[on], [off]] = [await both(true), await both(false)];
  expect(on?.metrics['gradient/norm']).toBeGreaterThan(0);
  expect(
    Math.abs((on?.metrics['gradient/norm'] as number) / (off?.metrics['gradient/norm'] as number) - 1),
  ).toBeLessThan(1e-5);
  expect(on?.metrics['policy/firstRatioError']).toBeLessThan(1e-5);
});

test('without guidance one half of each pass is computed: the update of a guidance that is next to 1 (1e-4)', async () => {
  const at = (guidanceScale: number) =>
    weightsOf(recipeOf({ epochs: 1, sample: { guidanceScale }, train: { learningRate: 1e-2 } }));
  const [[half], [whole]] = [await at(1), await at(1 + 1e-9)];
  expect(half?.metrics['gradient/norm']).toBeGreaterThan(0);
  expect(
    Math.abs((half?.metrics['gradient/norm'] as number) / (whole?.metrics['gradient/norm'] as number) - 1),
  ).toBeLessThan(1e-4);
  expect(half?.metrics['policy/firstRatioError']).toBeLessThan(1e-5);
});

test('the ratio before an update stays 1 when the adapter is not zero any more', async () => {
  const recipe = recipeOf({ epochs: 3, train: { batchSize: 4, learningRate: 1e-2 } });
  for (const { metrics } of await weightsOf(recipe))
    expect(metrics['policy/firstRatioError']).toBeLessThan(1e-6);
});

test('leaving in the middle of drawing or learning frees everything and restores the weights', async () => {
  for (const phase of ['drawing', 'scoring', 'learning']) {
    const pipeline = tinyPipeline(1);
    const training = createDdpo(recipeOf({ train: { learningRate: 1e-2 } }), pipeline, contextOf());
    const weight = pipeline.parameters.unet.entries.get(
      'mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight',
    );
    const before = (weight as Tensor).toNumbers();
    for await (const event of training.run(0)) if (event.kind === 'step') break;
    const tensors = liveTensors();
    for await (const event of training.run(1)) if (event.kind === 'progress' && event.phase === phase) break;
    expect(liveTensors()).toBe(tensors);
    expect((weight as Tensor).toNumbers()).toEqual(before);
    training.free();
  }
});

test('the KL from the base policy is 0 before the first update, and then above', async () => {
  const train = { klWeight: 0.1, textEncoder: 'lora', batchSize: 4, learningRate: 1e-2, innerEpochs: 2 };
  const [first] = await weightsOf(recipeOf({ epochs: 1, train: { ...train, innerEpochs: 1 } }));
  expect(first?.metrics['policy/baseKl']).toBeLessThan(1e-12);
  const [, second] = await weightsOf(recipeOf({ epochs: 2, train }));
  expect(second?.metrics['policy/baseKl']).toBeGreaterThan(1e-9);
  expect((await weightsOf(recipeOf({ epochs: 1 })))[0]?.metrics).not.toHaveProperty('policy/baseKl');
});

test('the KL pulls the policy back: with a large weight it stays nearer to the base', async () => {
  const kl = async (klWeight: number) =>
    (await weightsOf(recipeOf({ epochs: 3, train: { klWeight, learningRate: 1e-2 } }))).at(-1)?.metrics[
      'policy/baseKl'
    ] as number;
  expect(await kl(1e4)).toBeLessThan(0.5 * (await kl(1e-9)));
});

test('a KL weight needs adapters: without them there is no base policy', () => {
  const problems = crossFieldProblems(recipeOf({ train: { klWeight: 0.1, unet: 'full' } }));
  expect(problems.map(({ path }) => path.join('.'))).toEqual(['train.klWeight']);
  expect(crossFieldProblems(recipeOf({ train: { klWeight: 0.1 } }))).toEqual([]);
});

test('learning rates: constant by default, rising in the warm-up, falling to 0 behind the last update', async () => {
  const rates = (train: object) => {
    const recipe = recipeOf({ epochs: 4, train: { updatesPerEpoch: 2, ...train } });
    const schedule = scheduleOf(recipe.train, 8);
    return [0, 1, 2, 5, 7, 8].map((update) => Number(schedule(update).toFixed(6)));
  };
  expect(rates({})).toEqual([1, 1, 1, 1, 1, 1]);
  expect(rates({ warmup: 2 })).toEqual([0.5, 1, 1, 1, 1, 1]);
  expect(rates({ schedule: 'linear' })).toEqual([1, 0.875, 0.75, 0.375, 0.125, 0]);
  expect(rates({ schedule: 'linear', warmup: 4 })).toEqual([0.25, 0.5, 0.75, 0.75, 0.25, 0]);
  const cosine = (update: number) => Number((0.5 * (1 + Math.cos((Math.PI * update) / 8))).toFixed(6));
  expect(rates({ schedule: 'cosine' })).toEqual([0, 1, 2, 5, 7, 8].map(cosine));
  const epochs = await weightsOf(
    recipeOf({ train: { schedule: 'linear', updatesPerEpoch: 2, learningRate: 1e-3 } }),
  );
  expect(epochs.map(({ metrics }) => metrics['optimiser/learningRate'])).toEqual([8.75e-4, 3.75e-4]);
});

test('of a range of steps, each picture learns from a part of its own, and from no other step', () => {
  const recipe = recipeOf({ sample: { steps: 20 }, train: { stepRange: [0.5, 0.9], timestepFraction: 0.5 } });
  const chosen = Array.from({ length: 40 }, (_, i) => [...trainedSteps(recipe, [0, 1, i], 0)]);
  expect(new Set(chosen.map((steps) => steps.length))).toEqual(new Set([4]));
  const all = [...new Set(chosen.flat())].sort((a, b) => a - b);
  expect(all).toEqual([2, 3, 4, 5, 6, 7, 8, 9]); // the middles of steps 2 and 9 are at .875 and .525
});

test('each pass learns from other denoising steps of a picture, as many; each picture from its own', () => {
  const recipe = recipeOf({ sample: { steps: 20 }, train: { timestepFraction: 0.5, innerEpochs: 3 } });
  const steps = [0, 1, 2].map((pass) => [...trainedSteps(recipe, [0, 1, 2], pass)].sort((a, b) => a - b));
  expect(steps.map(({ length }) => length)).toEqual([10, 10, 10]);
  expect(
    new Set([...steps, [...trainedSteps(recipe, [0, 1, 3], 0)].sort((a, b) => a - b)].map(String)).size,
  ).toBe(4);
  expect(trainedSteps(recipe, [0, 1, 2], 1)).toEqual(trainedSteps(recipe, [0, 1, 2], 1));
});

test('the second pass does learn from other steps than the first', async () => {
  const train = { timestepFraction: 0.25, innerEpochs: 2, batchSize: 4, learningRate: 1e-9 };
  const [row] = await metricsOf(recipeOf({ epochs: 1, train }));
  const [once] = await metricsOf(recipeOf({ epochs: 1, train: { ...train, innerEpochs: 1 } }));
  // two passes at a learning rate of nothing: the same pictures and weights, so the same norm but for the steps
  expect(
    Math.abs((row?.['gradient/norm'] as number) / (once?.['gradient/norm'] as number) - 1),
  ).toBeGreaterThan(1e-3);
});

test('a warm-up that fills the run is refused, for every method that has one', () => {
  const refused = (method: string, warmup: number) => () =>
    minimalRecipe(method, { train: { ...minimalRecipe(method).train, warmup } });
  for (const method of [
    'ddpo',
    'dpok',
    'rwr',
    'raft',
    'dpo',
    'alignprop',
    'draft-k',
    'draft-lv',
    'refl',
    'ip-rldf',
  ]) {
    const { epochs, train } = minimalRecipe(method);
    const innerEpochs = 'innerEpochs' in train ? train.innerEpochs : 1;
    const rounds = method === 'ip-rldf' ? 2 : 1;
    const updates = epochs * rounds * train.updatesPerEpoch * innerEpochs;
    expect(refused(method, updates)).toThrow(`train.warmup: ${updates} of ${updates} updates — `);
    expect(refused(method, updates - 1)).not.toThrow();
  }
});
