import { type Behaviour, tinyPipeline } from '@rldf/models';
import {
  grad,
  liveTensors,
  noGrad,
  noiseKey,
  normal,
  scope,
  setThreads,
  type Tensor,
  tensor,
} from '@rldf/torch';
import { expect, test } from 'vitest';
import { crossFieldProblems } from '../recipe/recipe.js';
import type { TrainingContext } from '../run/training.js';
import { policyScheduler } from '../sampling/rollout.js';
import {
  createDpok,
  cutRatioLoss,
  type DpokRecipe,
  dpokSchema,
  noiseKlFactors,
  ValueFunction,
} from './dpok.js';
import { brightnessOf } from './minimal-recipes.fixture.js';
import type { DrawnPicture } from './policy-gradient.js';

setThreads(1);

function recipeOf({
  sample,
  train,
  ...rest
}: {
  sample?: object;
  train?: object;
  [key: string]: unknown;
} = {}): DpokRecipe {
  return dpokSchema.parse({
    method: 'dpok',
    prompts: ['a cat', 'a dog'],
    reward: 'jpeg-compressibility',
    epochs: 2,
    seed: 3,
    sample: { steps: 4, promptsPerEpoch: 2, picturesPerPrompt: 2, batchSize: 4, guidanceScale: 3, ...sample },
    train: { rank: 2, batchSize: 4, updatesPerEpoch: 1, clipMeanLogProb: 1e-4, learningRate: 1e-2, ...train },
    ...rest,
  });
}

const context = (score: (images: Tensor) => number[]): TrainingContext => ({
  prompts: ['a cat', 'a dog'].map((text) => ({ text, meta: null })),
  score: async (images) => ({ total: score(images), parts: {} }),
});
const brightness = context(brightnessOf);

async function metricsOf(recipe: DpokRecipe, given = brightness): Promise<Record<string, number>[]> {
  const training = createDpok(recipe, tinyPipeline(1), given);
  const rows: Record<string, number>[] = [];
  for await (const event of training.run(0)) if (event.kind === 'step') rows.push(event.metrics);
  training.free();
  return rows;
}

test('before each epoch’s first update the ratio is 1; the KL is 0 at first, and then above', async () => {
  const [first, second] = await metricsOf(recipeOf());
  expect(first?.['policy/firstRatioError']).toBeLessThan(1e-6);
  expect(second?.['policy/firstRatioError']).toBeLessThan(1e-6);
  expect(first?.['policy/baseKl']).toBeLessThan(1e-12);
  expect(second?.['policy/baseKl']).toBeGreaterThan(1e-9);
});

test('the public code’s ratio has no gradient beyond the band on either side, and that of REINFORCE at 1', () => {
  const old = tensor([0, 0, 0, 0, 0], { dtype: 'float64' });
  const logProb = tensor([0.5, 0.5, -0.5, -0.5, 0], { dtype: 'float64' }).requiresGrad_();
  const advantage = tensor([1, -1, 1, -1, 3], { dtype: 'float64' });
  const [gradient] = grad(cutRatioLoss(logProb, old, advantage, 0.1).sum(), [logProb]);
  expect(gradient?.toNumbers().map(Math.abs)).toEqual([0, 0, 0, 0, 3]);
});

test('ancestral Euler is a policy of both variants, with balanced steps too', async () => {
  for (const variant of ['paper', 'publicCode']) {
    const train = { variant, stepWeights: 'balanced', innerEpochs: 2 };
    const [row] = await metricsOf(
      recipeOf({ epochs: 1, sample: { scheduler: 'euler-ancestral', steps: 3 }, train }),
    );
    expect(row?.['policy/firstRatioError']).toBeLessThan(1e-6);
    for (const value of Object.values(row ?? {})) expect(Number.isFinite(value)).toBe(true);
    expect(row?.['gradient/norm']).toBeGreaterThan(0);
  }
});

test.each(['ddim', 'euler-ancestral'] as const)(
  'the public code’s KL is the squared difference of the predicted noise: %s',
  (name) => {
    const scheduler = policyScheduler(tinyPipeline(1), 4, 1, name);
    const latents = tensor([0.3, -1, 0.5, 2], { shape: [1, 1, 2, 2], dtype: 'float64' });
    const [noise, other] = [
      tensor([0.1, 0.2, -0.4, 1], { shape: [1, 1, 2, 2], dtype: 'float64' }),
      tensor([-0.5, 0.2, 0.1, 0.7], { shape: [1, 1, 2, 2], dtype: 'float64' }),
    ];
    const expected = noise.sub(other).square().mean().item();
    const factors = noiseKlFactors(scheduler, 1);
    if (name === 'euler-ancestral') expect(factors.pop()).toBe(0); // a step without noise
    factors.forEach((factor, step) => {
      const [a, b] = [noise, other].map((prediction) => scheduler.moments(prediction, step, latents, 1));
      const kl =
        (a as { mean: Tensor }).mean
          .sub((b as { mean: Tensor }).mean)
          .square()
          .mean()
          .item() /
        (2 * (a?.std as number) ** 2);
      expect(factor * kl).toBeCloseTo(expected, 10);
    });
  },
);

test('V learns what reward each prompt brings, for latents that it has not seen', async () => {
  const recipe = recipeOf({ train: { value: { updates: 30, learningRate: 1e-3 } } });
  const value = new ValueFunction(recipe, tinyPipeline(1));
  const prompts = Array.from({ length: 32 }, (_, i) => (i % 2 === 0 ? 'a cat' : 'a dog'));
  const rewards = prompts.map((prompt) => (prompt === 'a cat' ? 1 : -1));
  const drawn = (epoch: number): DrawnPicture[] => {
    const latents = normal([noiseKey(epoch, 'latents')], [5, 32, 4, 4, 4]).squeeze(0); // [T + 1, B, C, h, w]
    const trajectory = {
      latents,
      timesteps: [],
      logProbs: latents,
      behaviours: prompts.map(() => ({}) as Behaviour),
    };
    const rollout = { trajectory, images: latents };
    return prompts.map((text, row) => {
      const prompt = { text, meta: null };
      const behaviour = trajectory.behaviours[row] as Behaviour;
      return { prompt, path: [row, 0], behaviour, text: { prompt: text }, rollout, row };
    });
  };
  const error = async (epoch: number) => {
    const errors = (await value.values(drawn(epoch))).flatMap((steps, i) =>
      steps.map((v) => (v - (rewards[i] as number)) ** 2),
    );
    return errors.reduce((sum, one) => sum + one, 0) / errors.length;
  };
  expect(await error(0)).toBeGreaterThan(0.8);
  for (let epoch = 1; epoch < 6; epoch++) await value.fit(drawn(epoch), rewards, epoch);
  expect(await error(6)).toBeLessThan(0.3);
  value.free();
});

test('equal rewards leave nothing to learn but V’s own error, and no NaN', async () => {
  const rows = await metricsOf(recipeOf(), {
    ...brightness,
    score: async (_, prompts) => ({ total: prompts.map(() => 7), parts: {} }),
  });
  for (const row of rows) {
    expect(row['advantage/meanAbsolute']).toBeLessThan(5); // of rewardWeight 10
    for (const value of Object.values(row)) expect(Number.isFinite(value)).toBe(true);
  }
});

test('both variants learn, and differ once the policy has moved', async () => {
  const of = (variant: string) =>
    metricsOf(recipeOf({ train: { variant, klWeight: 1, innerEpochs: 2, clipMeanLogProb: 1 } }));
  const [paper, code] = [await of('paper'), await of('publicCode')];
  expect(paper[0]?.['gradient/norm']).toBeGreaterThan(0);
  expect(paper[1]?.['gradient/norm']).not.toBe(code[1]?.['gradient/norm']);
});

test('an epoch leaves as many tensors as it found', async () => {
  const training = createDpok(recipeOf({ epochs: 3 }), tinyPipeline(1), brightness);
  const counts: number[] = [];
  for await (const event of training.run(0)) if (event.kind === 'step') counts.push(liveTensors());
  expect(counts[2]).toBe(counts[1]);
  training.free();
});

test('a KL without adapters, and no clip, are refused', () => {
  const paths = (train: object) => crossFieldProblems(recipeOf({ train })).map(({ path }) => path.join('.'));
  expect(paths({})).toEqual([]);
  expect(paths({ unet: 'full' })).toEqual(['train.klWeight']);
  expect(paths({ clipMeanLogProb: undefined })).toEqual(['train']);
});

test('V reads prompts with the text encoder of before, also when that learns', async () => {
  for (const trained of ['none', 'lora', 'full'] as const) {
    const pipeline = tinyPipeline(1);
    const value = new ValueFunction(recipeOf({ train: { textEncoder: trained, klWeight: 0 } }), pipeline);
    const latents = normal([noiseKey(0, 'latents')], [5, 1, 4, 4, 4]).squeeze(0);
    const trajectory = { latents, timesteps: [], logProbs: latents, behaviours: [{} as Behaviour] };
    const drawn: DrawnPicture[] = [
      {
        prompt: { text: 'a cat', meta: null },
        path: [0, 0],
        behaviour: {} as Behaviour,
        text: { prompt: 'a cat' },
        rollout: { trajectory, images: latents },
        row: 0,
      },
    ];
    const before = await value.values(drawn);
    const weights = [...pipeline.parameters.textEncoder.entries.values()];
    noGrad(() => scope(() => weights.forEach((weight) => void weight.mul_(1.5)))); // as if it had learned
    const after = await value.values(drawn);
    if (trained === 'none') expect(after).not.toEqual(before);
    else expect(after).toEqual(before);
    value.free();
  }
});
