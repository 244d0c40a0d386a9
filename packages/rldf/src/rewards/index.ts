/** The built-in rewards, and how a recipe's `reward:` becomes one. */

import type { RewardField } from '../config/fields.js';
import { didYouMean } from '../config/suggest.js';
import { UserError } from '../errors.js';
import { loadClipScore } from './clip-score.js';
import { jpegCompressibility, jpegIncompressibility } from './jpeg.js';
import { loadRewardModule } from './module.js';
import type { CompositeReward, Reward } from './reward.js';
import { WeightedReward } from './weighted.js';

export interface BuiltInReward {
  /** What scores high, in one line. */
  description: string;
  unit: string;
  differentiable: boolean;
  load(): Reward | Promise<Reward>;
}

export const rewards: Record<string, BuiltInReward> = {
  'jpeg-compressibility': {
    description: 'minus the size as a JPEG file of quality 95: smooth, plain pictures score high',
    unit: 'kB',
    differentiable: false,
    load: () => jpegCompressibility,
  },
  'jpeg-incompressibility': {
    description: 'the size as a JPEG file of quality 95: busy, detailed pictures score high',
    unit: 'kB',
    differentiable: false,
    load: () => jpegIncompressibility,
  },
  'clip-score': {
    description:
      '100 x cosine between picture and prompt, by a frozen CLIP: pictures that show the prompt score high',
    unit: '',
    differentiable: true,
    load: () => loadClipScore(),
  },
};

/**
 * Makes the reward of a recipe.
 * @throws UserError for unknown names and for modules that do not load
 */
export async function loadReward(field: RewardField): Promise<Reward | CompositeReward> {
  if (!Array.isArray(field)) return loadSingle(field);
  const parts = [];
  for (const { reward, weight, normalise } of field)
    parts.push({ reward: await loadSingle(reward), weight, normalise });
  return new WeightedReward(parts);
}

async function loadSingle(field: string | { module: string }): Promise<Reward> {
  if (typeof field === 'object') return loadRewardModule(field.module);
  const names = Object.keys(rewards);
  const found = Object.hasOwn(rewards, field) ? rewards[field] : undefined;
  if (found === undefined) {
    const isFile = /\.[cm]?[jt]s$/.test(field);
    throw new UserError(
      `reward ${field}: no built-in reward of this name — there are ${names.join(', ')}${
        isFile ? `. For a file of your own write reward: { module: ${field} }` : didYouMean(field, names)
      }`,
    );
  }
  return found.load();
}
