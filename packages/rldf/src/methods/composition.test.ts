// The table in docs/methods/README.md: any method x any target x a sum of rewards with a cap and a floor x exploring.
import { tinyPipeline } from '@rldf/models';
import { noGrad, scope, setThreads, type Tensor } from '@rldf/torch';
import { expect, test } from 'vitest';
import { checkRecipe } from '../recipe/load.js';
import type { Recipe } from '../recipe/recipe.js';
import type { Reward } from '../rewards/reward.js';
import { scorePictures } from '../rewards/reward.js';
import { WeightedReward } from '../rewards/weighted.js';
import type { TrainingContext } from '../run/training.js';
import { methodOf, methods } from './index.js';
import { minimalRecipe, prompts } from './minimal-recipes.fixture.js';

setThreads(1);

const targets = {
  'text encoder': { unet: 'none', textEncoder: 'lora' },
  both: { unet: 'lora', textEncoder: 'lora' },
  'all weights of the U-Net': { unet: 'full', textEncoder: 'none' },
} as const;

const channel = (name: string, index: number): Reward => {
  const score = (images01: Tensor) => images01.select(1, index).mean([1, 2]); // [B]
  return {
    name,
    unit: '',
    score: ({ images }) =>
      noGrad(() => scope(() => score(images.permute([0, 3, 1, 2]).to('float32').div(255)).toNumbers())),
    differentiable: (images01) => score(images01),
  };
};

/** Redness up to a cap, while greenness stays above what no picture reaches. */
const contextOf = (): TrainingContext => {
  const reward = new WeightedReward([
    { reward: channel('red', 0), normalise: 'none', cap: 0.9 },
    { reward: channel('green', 1), normalise: 'none', floor: 2, floorRate: 1 },
  ]);
  return {
    prompts: prompts.map((text) => ({ text, meta: null })),
    score: (images, drawn, purpose = 'training') =>
      scorePictures(
        reward,
        { images, prompts: drawn.map(({ text }) => text), meta: drawn.map(({ meta }) => meta) },
        purpose,
      ),
    differentiable: (images01, texts) =>
      (reward.differentiable as NonNullable<typeof reward.differentiable>)(images01, texts),
  };
};

/** What of it needs adapters, and so is off where all weights learn. */
const withoutAdapters: Partial<Record<string, object>> = {
  dpok: { klWeight: 0 },
  refl: { pretraining: { weight: 0 } },
};

function recipeOf(method: string, target: keyof typeof targets): Recipe {
  const small = minimalRecipe(method);
  const full = targets[target].unet === 'full' ? withoutAdapters[method] : {};
  const explore = method === 'ip-rldf' ? {} : { explore: { words: {}, guidance: { steps: 1 } } };
  return checkRecipe({
    ...small,
    ...explore,
    epochs: 1,
    train: { ...small.train, ...targets[target], ...full },
  });
}

const cases = Object.keys(methods).flatMap((method) =>
  (Object.keys(targets) as (keyof typeof targets)[])
    .filter((target) => method !== 'dpo' || target !== 'all weights of the U-Net') // refused
    .map((target) => [method, target] as const),
);

test.each(cases)('%s on %s', async (method, target) => {
  const training = methodOf(recipeOf(method, target)).create(
    recipeOf(method, target),
    tinyPipeline(1),
    contextOf(),
  );
  const trained = () => {
    const { trainables } = training.state() as { trainables: Record<string, Tensor[]> };
    const numbers = (tensors: readonly Tensor[] = []) => tensors.map((tensor) => tensor.toNumbers());
    return { unet: numbers(trainables.unet), textEncoder: numbers(trainables.textEncoder) };
  };
  const before = trained();
  const rows: Record<string, number>[] = [];
  for await (const event of training.run(0)) if (event.kind === 'step') rows.push(event.metrics);
  const after = trained();
  training.free();

  const { unet, textEncoder } = targets[target];
  expect(after.unet.length > 0).toBe(unet !== 'none');
  expect(after.textEncoder.length > 0).toBe(textEncoder !== 'none');
  if (unet !== 'none') expect(after.unet).not.toEqual(before.unet);
  if (textEncoder !== 'none') expect(after.textEncoder).not.toEqual(before.textEncoder);
  const norms = rows.flatMap((row) => row['gradient/norm'] ?? []);
  expect(norms.length).toBeGreaterThan(0);
  for (const norm of norms) expect(norm).toBeGreaterThan(0);
  expect(rows[0]).toHaveProperty(['reward/green/multiplier']);
});
