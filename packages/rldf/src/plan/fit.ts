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

/** What to set together, what it would need, and whether it is the same training. */
export interface WayOut {
  /** As `rldf train` and `plan` take them. */
  settings: string;
  peak: number;
  fits: boolean;
  learns: 'the same but for rounding' | 'something else';
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
  /** If it does not fit: changes of the recipe, and what each would need with one picture at once. */
  wayOut: WayOut[];
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

/**
 * Changes that need less: first what learns the same but for rounding, each added to those before it until they fit; if all of
 * them do not, what learns something else, each added to all of them.
 */
async function wayOut(recipe: Recipe, limit: number, measure: Measure): Promise<WayOut[]> {
  const ways: WayOut[] = [];
  let best = { recipe: withSizes(recipe, { sample: 1, train: 1 }), settings: '' };
  const tried = async ([change, changed]: Change, learns: WayOut['learns']) => {
    const next = {
      recipe: { ...best.recipe, ...changed } as Recipe,
      settings: `${best.settings} --set ${change}`.trim(),
    };
    const { peak } = (await measure(next.recipe)).memory;
    ways.push({ settings: next.settings, peak, fits: peak <= limit, learns });
    return { next, fits: peak <= limit };
  };
  for (const change of sameChanges(best.recipe)) {
    const { next, fits } = await tried(change, 'the same but for rounding');
    if (fits) return ways;
    best = next;
  }
  for (const change of otherChanges(best.recipe)) await tried(change, 'something else');
  return ways;
}

/** What to set, and the recipe's fields with it. */
type Change = [set: string, fields: object];

function sameChanges({ train, precision, device, offload }: Recipe): Change[] {
  const changes: Change[] = [];
  if (!train.checkpointing)
    changes.push(['train.checkpointing=true', { train: { ...train, checkpointing: true } }]);
  if (precision === undefined || precision === 'float32')
    changes.push(['precision=bfloat16', { precision: 'bfloat16' }]);
  if (device !== 'cpu' && !offload) changes.push(['offload=true', { offload: true }]);
  return changes;
}

function otherChanges({ train, sample }: Recipe): Change[] {
  const full = (['unet', 'textEncoder', 'textEncoder2'] as const).filter((part) => train[part] === 'full');
  const halved = (['promptsPerEpoch', 'picturesPerPrompt'] as const).filter((field) => sample[field] > 1);
  return [
    ...full.map((part): Change => [`train.${part}=lora`, { train: { ...train, [part]: 'lora' } }]),
    ...halved.map((field): Change => {
      const half = sample[field] >> 1;
      return [`sample.${field}=${half}`, { sample: { ...sample, [field]: half } }];
    }),
  ];
}

/** The recipe with as many pictures worked on at once; it learns the same. */
export function withSizes(recipe: Recipe, sizes: Sizes): Recipe {
  return {
    ...recipe,
    sample: { ...recipe.sample, batchSize: sizes.sample },
    train: { ...recipe.train, batchSize: sizes.train },
  } as Recipe;
}
