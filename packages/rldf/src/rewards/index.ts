/** The built-in rewards, and how a recipe's `reward:` becomes one. */

import type { RewardField } from '../config/fields.js';
import { didYouMean } from '../config/suggest.js';
import { UserError } from '../errors.js';
import { cards, type RewardCard } from './cards.js';
import { loadRewardModule } from './module.js';
import { loadRatings } from './ratings.js';
import type { CompositeReward, Reward } from './reward.js';
import { WeightedReward } from './weighted.js';

export interface BuiltInReward extends RewardCard {
  load(): Promise<Reward>;
}

/** Networks are read when their reward is asked for. */
const scorers = () => import('./scorers.js');
const jpeg = () => import('./jpeg.js');
const boxes = () => import('./detection.js');
const detector = async () => (await import('../instruments.js')).loadDetector('detector');

export const rewards: Record<keyof typeof cards, BuiltInReward> & Record<string, BuiltInReward> = {
  'jpeg-compressibility': {
    ...cards['jpeg-compressibility'],
    load: async () => (await jpeg()).jpegCompressibility,
  },
  'jpeg-incompressibility': {
    ...cards['jpeg-incompressibility'],
    load: async () => (await jpeg()).jpegIncompressibility,
  },
  'jpeg-estimate': {
    ...cards['jpeg-estimate'],
    load: async () => (await import('./jpeg-estimate.js')).loadJpegEstimate(),
  },
  'clip-score': {
    ...cards['clip-score'],
    load: async () => (await import('./clip-score.js')).loadClipScore(),
  },
  preference: { ...cards.preference, load: async () => (await scorers()).loadPreference('preference') },
  'image-reward': { ...cards['image-reward'], load: async () => (await scorers()).loadImageReward() },
  aesthetic: { ...cards.aesthetic, load: async () => (await scorers()).loadAesthetic() },
  spatial: { ...cards.spatial, load: async () => (await boxes()).spatial(await detector()) },
  count: { ...cards.count, load: async () => (await boxes()).count(await detector()) },
  'detector-confidence': {
    ...cards['detector-confidence'],
    load: async () => (await boxes()).detectorConfidence(await detector()),
  },
};

/**
 * Makes the reward of a recipe.
 * @throws UserError for unknown names and for modules that do not load
 */
export async function loadReward(field: RewardField): Promise<Reward | CompositeReward> {
  if (!Array.isArray(field)) return loadSingle(field);
  const parts = [];
  for (const { reward, ...part } of field) parts.push({ ...part, reward: await loadSingle(reward) });
  return new WeightedReward(parts);
}

async function loadSingle(field: string | { module: string } | { ratings: string }): Promise<Reward> {
  if (typeof field === 'object') {
    return 'module' in field ? loadRewardModule(field.module) : loadRatings(field.ratings);
  }
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
