// DiffExp under policy gradients: what was drawn is what is learned from.
import { type Behaviour, tinyPipeline } from '@rldf/models';
import { noGrad, setThreads } from '@rldf/torch';
import { expect, test } from 'vitest';
import { checkRecipe } from '../recipe/load.js';
import type { TrainingContext } from '../run/training.js';
import { methodOf, methods } from './index.js';
import { rolloutBatches } from './learner.js';
import { minimalRecipe } from './minimal-recipes.fixture.js';

setThreads(1);

const prompts = ['a red cat', 'a dog'];
const sample = { steps: 4, promptsPerEpoch: 2, picturesPerPrompt: 2, batchSize: 4, guidanceScale: 3 };
const recipeOf = (method: string, explore: object | undefined, more: object = {}) =>
  checkRecipe({
    method,
    prompts,
    reward: 'jpeg-compressibility',
    epochs: 2,
    sample,
    train: {
      rank: 2,
      batchSize: 4,
      updatesPerEpoch: 1,
      clipMeanLogProb: 1e-4,
      learningRate: 1e-2,
      textEncoder: 'lora',
    },
    ...(explore && { explore }),
    ...more,
  });
const both = { guidance: { steps: 2, low: 0.5 }, words: { minimum: 1.5, maximum: 2 }, share: 1 };

async function run(recipe: ReturnType<typeof recipeOf>) {
  const seen: string[] = [];
  const context: TrainingContext = {
    prompts: prompts.map((text) => ({ text, meta: null })),
    score: async (images) => {
      seen.push(images.toNumbers().join());
      return { total: Array.from({ length: images.shape[0] as number }, (_, i) => i), parts: {} };
    },
    differentiable: (images01) => images01.mean([1, 2, 3]),
  };
  const training = methodOf(recipe).create(recipe, tinyPipeline(1), context);
  const rows: Record<string, number>[] = [];
  for await (const event of training.run(0)) if (event.kind === 'step') rows.push(event.metrics);
  const drawn = await training.draw([{ prompt: 'a red cat', seed: 7 }]);
  const evaluated = drawn.toNumbers().join();
  drawn.free();
  training.free();
  return { seen, rows, evaluated };
}

test.each(['ddpo', 'dpok'])(
  '%s: explored, the ratio is 1 before each first update, the text encoder learning too',
  async (method) => {
    for (const explore of [both, { guidance: both.guidance }, { words: both.words }]) {
      const { rows } = await run(recipeOf(method, explore));
      expect(rows).toHaveLength(2);
      for (const row of rows) {
        expect(row['policy/firstRatioError']).toBeLessThan(1e-5);
        expect(row['gradient/norm']).toBeGreaterThan(0);
      }
    }
  },
);

const explorers = Object.entries(methods).flatMap(([name, { schema }]) =>
  'explore' in schema.shape ? [name] : [],
);

test.each(explorers)(
  '%s: exploring changes the training pictures, for its share of the epochs, and no evaluation',
  async (method) => {
    const train = { rank: 2, updatesPerEpoch: 1, learningRate: 1e-12 };
    const clip = method.startsWith('dd') || method === 'dpok' ? { clipNats: 1 } : {};
    const late = method === 'refl' ? { lateSteps: 1 } : {};
    const frozen = { epochs: 2, sample, train: { ...train, ...clip, ...late } };
    const plain = await run(minimalRecipe(method, { ...frozen, explore: null }));
    for (const part of [{ guidance: both.guidance }, { words: both.words }]) {
      const explored = await run(minimalRecipe(method, { ...frozen, explore: { ...part, share: 0.5 } }));
      expect(explored.seen[0]).not.toBe(plain.seen[0]);
      expect(explored.seen[1]).toBe(plain.seen[1]);
      expect(explored.evaluated).toBe(plain.evaluated);
    }
  },
);

test('under the nominal policy the same pictures have another probability: the behaviour must be replayed', async () => {
  const pipeline = tinyPipeline(1);
  const draw = async (behaviour: Behaviour) => {
    const drawing = rolloutBatches(pipeline, {
      prompts: ['a red cat'],
      behaviours: [behaviour],
      negativePrompt: '',
      batchSize: 1,
      steps: 4,
      eta: 1,
    });
    for (;;) {
      const next = await drawing.next();
      if (next.done) return noGrad(() => next.value[0]?.trajectory.latents.toNumbers().join());
    }
  };
  const nominal = { seed: 1, path: [0, 0, 0], guidance: [3, 3, 3, 3] };
  const low = { ...nominal, guidance: [1, 3, 3, 3] };
  const heavy = { ...nominal, wordWeights: [{ word: 1, weight: 1.5 }] };
  const [a, b, c] = [await draw(nominal), await draw(low), await draw(heavy)];
  expect(new Set([a, b, c]).size).toBe(3);
  expect(await draw({ ...nominal, wordWeights: [{ word: 1, weight: 1 }] })).toBe(a);
});
