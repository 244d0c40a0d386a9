/** Chooses how many pictures are worked on at once. The batch and the groups that the algorithm sees stay as they are. */

import { methodOf } from '../methods/index.js';
import type { Recipe } from '../recipe/recipe.js';
import type { MemoryPrediction, WorkPrediction } from './miniature.js';

export interface Sizes {
  /** `sample.batchSize` */
  sample: number;
  /** `train.batchSize` */
  train: number;
}

export interface Fitted {
  /** What the recipe asks for, never more than there are pictures. */
  asked: Sizes;
  chosen: Sizes;
  fits: boolean;
  memory: MemoryPrediction;
  /** The memory that the sizes as asked would take. */
  askedMemory: MemoryPrediction;
  work: WorkPrediction;
  /** If it does not fit: changes of the recipe and what each would need. They change what is learned. */
  wayOut: { change: string; peak: number; fits: boolean }[];
}

type Measure = (recipe: Recipe) => Promise<{ memory: MemoryPrediction; work: WorkPrediction }>;

/** @param limit bytes; none: as asked */
export async function fit(recipe: Recipe, limit: number | undefined, measure: Measure): Promise<Fitted> {
  const pictures = recipe.sample.promptsPerEpoch * recipe.sample.picturesPerPrompt;
  const asked: Sizes = {
    sample: Math.min(recipe.sample.batchSize, pictures),
    train: Math.min(recipe.train.batchSize, methodOf(recipe).plan.arithmetic(recipe).picturesPerUpdate),
  };
  const first = await measure(withSizes(recipe, asked));
  const answer = { asked, askedMemory: first.memory, wayOut: [] };
  if (limit === undefined || first.memory.peak <= limit) {
    return { ...answer, chosen: asked, fits: true, ...first };
  }
  const chosen = { ...asked };
  let found = first;
  // Each phase depends on one of the two: they are halved one after the other.
  const over = ({ memory: { phases } }: typeof found) => ({
    train: phases.learning > limit,
    sample: Math.max(phases.drawing, phases.evaluation) > limit,
  });
  for (
    let too = over(found);
    (too.train && chosen.train > 1) || (too.sample && chosen.sample > 1);
    too = over(found)
  ) {
    if (too.train) chosen.train = Math.max(1, chosen.train >> 1);
    if (too.sample) chosen.sample = Math.max(1, chosen.sample >> 1);
    found = await measure(withSizes(recipe, chosen));
  }
  const fits = found.memory.peak <= limit;
  return { ...answer, chosen, fits, ...found, wayOut: fits ? [] : await wayOut(recipe, limit, measure) };
}

/** Changes that need less, with what they need at the smallest batches. */
async function wayOut(recipe: Recipe, limit: number, measure: Measure): Promise<Fitted['wayOut']> {
  const smallest = withSizes(recipe, { sample: 1, train: 1 });
  const { sample, train } = smallest;
  const half = Math.max(1, sample.picturesPerPrompt >> 1);
  const changes: [string, object][] = [];
  if (train.unet === 'full') changes.push(['train.unet=lora', { train: { ...train, unet: 'lora' } }]);
  if (train.textEncoder === 'full')
    changes.push(['train.textEncoder=lora', { train: { ...train, textEncoder: 'lora' } }]);
  if (train.textEncoder2 === 'full')
    changes.push(['train.textEncoder2=lora', { train: { ...train, textEncoder2: 'lora' } }]);
  if (half < sample.picturesPerPrompt)
    changes.push([`sample.picturesPerPrompt=${half}`, { sample: { ...sample, picturesPerPrompt: half } }]);
  const measured: Fitted['wayOut'] = [];
  for (const [change, changed] of changes) {
    const { peak } = (await measure({ ...smallest, ...changed } as Recipe)).memory;
    measured.push({ change, peak, fits: peak <= limit });
  }
  return measured;
}

/** The recipe with as many pictures worked on at once; it learns the same. */
export function withSizes(recipe: Recipe, sizes: Sizes): Recipe {
  return {
    ...recipe,
    sample: { ...recipe.sample, batchSize: sizes.sample },
    train: { ...recipe.train, batchSize: sizes.train },
  } as Recipe;
}
