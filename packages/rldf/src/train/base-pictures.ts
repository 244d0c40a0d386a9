// Where the model was before training, for a reward with `floor: base`: under exploration the first training pictures do not tell.
import { generate, type Pipeline } from '@rldf/models';
import { cat, free, noGrad, type Tensor } from '@rldf/torch';
import { firstSeed } from '../base/seeds.js';
import { explores } from '../methods/diffexp.js';
import { trainingScheduler } from '../plan/policy-check.js';
import { type Prompt, promptsOfEpoch } from '../prompts/prompts.js';
import type { Recipe } from '../recipe/recipe.js';
import type { CompositeReward, Reward } from '../rewards/reward.js';

/** Whether a reward keeps to where the model was, and the first training pictures, which would tell, explore. */
export function needsBasePictures(recipe: Recipe, reward: Reward | CompositeReward): boolean {
  return 'scoreParts' in reward && reward.wantsBase === true && 'explore' in recipe && explores(recipe, 0);
}

/**
 * Draws as many pictures as the first epoch, of its prompts and by its sampler but without exploring, and has them scored as
 * base. To be called before training. Yields the pictures drawn.
 */
export async function* scoreBasePictures(
  recipe: Recipe,
  pipeline: Pipeline,
  prompts: readonly Prompt[],
  reward: CompositeReward,
): AsyncGenerator<{ done: number; total: number }, void> {
  const { seed, sample, negativePrompt } = recipe;
  const scheduler = trainingScheduler(recipe);
  const chosen = promptsOfEpoch(prompts, { seed, epoch: 0, ...sample }).map(({ prompt }) => prompt);
  const drawn: Tensor[] = [];
  try {
    for (let start = 0; start < chosen.length; start += sample.batchSize) {
      yield { done: start, total: chosen.length };
      const part = chosen.slice(start, start + sample.batchSize);
      const { images, latents } = await generate(pipeline, {
        prompts: part.map(({ text }) => text),
        seeds: part.map((_, i) => firstSeed.base + start + i),
        negativePrompts: negativePrompt,
        steps: sample.steps,
        guidanceScale: sample.guidanceScale,
        eta: scheduler === 'EulerAncestralDiscreteScheduler' ? 0 : sample.eta, // it has no eta
        ...(scheduler && { scheduler }),
      });
      latents.free();
      drawn.push(images);
    }
    const images = noGrad(() => cat(drawn)); // [B, H, W, 3]
    const batch = { images, prompts: chosen.map(({ text }) => text), meta: chosen.map(({ meta }) => meta) };
    await reward.scoreParts(batch, 'base').finally(() => images.free());
  } finally {
    free(drawn);
  }
}
