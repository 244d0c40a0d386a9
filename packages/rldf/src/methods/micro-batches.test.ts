// How many pictures are worked on at once changes no update; the other methods' tests are beside them.
import { tinyPipeline } from '@rldf/models';
import { setThreads } from '@rldf/torch';
import { expect, test } from 'vitest';
import { methodOf } from './index.js';
import { minimalRecipe, prompts } from './minimal-recipes.fixture.js';

setThreads(1);

async function norms(method: string, batchSize: number): Promise<number[]> {
  const { train } = minimalRecipe(method);
  const recipe = minimalRecipe(method, { epochs: 1, train: { ...train, updatesPerEpoch: 1, batchSize } });
  const training = methodOf(recipe).create(recipe, tinyPipeline(1), {
    prompts: prompts.map((text) => ({ text, meta: null })),
    score: async (images) => ({
      total: Array.from({ length: images.shape[0] as number }, (_, i) => i),
      parts: {},
    }),
  });
  const found: number[] = [];
  for await (const event of training.run(0)) {
    if (event.kind === 'step') found.push(event.metrics['gradient/norm'] ?? 0);
  }
  training.free();
  return found;
}

test.each(['dpok', 'raft', 'ip-rldf'])('%s: 4 pictures, 1, or 3 and 1 at once', async (method) => {
  const whole = await norms(method, 4);
  expect(Math.max(...whole)).toBeGreaterThan(0);
  for (const batchSize of [1, 3]) {
    const parts = await norms(method, batchSize);
    whole.forEach((norm, i) => {
      expect(Math.abs((parts[i] as number) - norm)).toBeLessThanOrEqual(1e-3 * norm);
    });
  }
});
