/** The built-in rewards, and how a recipe's `reward:` becomes one. */

import { didYouMean } from '@rldf/common/base/suggest';
import type { Device } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import type { TextRewardField } from '../config/detector-fields.js';
import type { RewardField, SingleReward } from '../config/fields.js';
import { cards, type RewardCard } from './cards.js';
import { lookingCards } from './looking-cards.js';
import { loadRewardModule } from './module.js';
import { publishedCards } from './published-cards.js';
import { loadRatings } from './ratings.js';
import { remoteCards, remoteFields } from './remote-cards.js';
import type { CompositeReward, Reward } from './reward.js';
import { WeightedReward } from './weighted.js';

export interface BuiltInReward extends RewardCard {
  /**
   * What does not ship with rldf: weights, which `load` finds where they are downloaded to, an npm package, or a server that the
   * recipe names. Where they are not here, it says how to get them.
   */
  needs?: 'weights' | 'package' | 'server';
  /** That package. */
  package?: string;
  /** @param device of its network, if it has one; pictures may lie elsewhere */
  load(device?: Device): Promise<Reward>;
}

/** Networks are read when their reward is asked for. */
const scorers = () => import('./scorers.js');
const jpeg = () => import('./jpeg.js');
const boxes = () => import('./detection.js');
const detector = async (device?: Device) =>
  (await import('@rldf/common/instruments/instruments')).loadDetector('detector', undefined, device);

const reader = async (field: TextRewardField) => (await import('./text.js')).tesseractReader(field);

/** One of detectors or readers whose packages are installed by users. */
const looking = (name: keyof typeof lookingCards): BuiltInReward => ({
  ...lookingCards[name],
  needs: 'package',
  package: name === 'text' ? 'tesseract.js' : '@vladmandic/human',
  load: async (device) =>
    name === 'text'
      ? (await import('./text.js')).textReward(await reader({ text: 'tesseract', language: 'eng' }))
      : (await import('./detected.js')).detectedReward({ score: name }, device),
});

/** One of a server, which a name alone does not tell. */
const remote = (name: keyof typeof remoteCards): BuiltInReward => ({
  ...remoteCards[name],
  needs: 'server',
  load: async () => {
    throw new UserError(`reward ${name}: names no server — write reward: ${remoteFields[name]}`);
  },
});

/** One with weights of its own. */
const published = (name: keyof typeof publishedCards): BuiltInReward => ({
  ...publishedCards[name],
  needs: 'weights',
  load: async (device) => (await import('./published.js')).loadPublished({ name }, device),
});

export const rewards: Record<
  keyof typeof cards | keyof typeof publishedCards | keyof typeof lookingCards | keyof typeof remoteCards,
  BuiltInReward
> &
  Record<string, BuiltInReward> = {
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
    load: async (device) => (await import('./jpeg-estimate.js')).loadJpegEstimate(device),
  },
  'clip-score': {
    ...cards['clip-score'],
    load: async (device) => (await import('./clip-score.js')).loadClipScore(undefined, device),
  },
  preference: {
    ...cards.preference,
    load: async (device) => (await scorers()).loadPreference('preference', undefined, device),
  },
  'image-reward': {
    ...cards['image-reward'],
    load: async (device) => (await scorers()).loadImageReward(undefined, device),
  },
  aesthetic: {
    ...cards.aesthetic,
    load: async (device) => (await scorers()).loadAesthetic(undefined, device),
  },
  spatial: { ...cards.spatial, load: async (device) => (await boxes()).spatial(await detector(device)) },
  count: { ...cards.count, load: async (device) => (await boxes()).count(await detector(device)) },
  presence: { ...cards.presence, load: async (device) => (await boxes()).presence(await detector(device)) },
  'detector-confidence': {
    ...cards['detector-confidence'],
    load: async (device) => (await boxes()).detectorConfidence(await detector(device)),
  },
  imagereward: published('imagereward'),
  'hpsv2.1': published('hpsv2.1'),
  hpsv2: published('hpsv2'),
  pickscore: published('pickscore'),
  'laion-aesthetic': published('laion-aesthetic'),
  geneval: looking('geneval'),
  composition: looking('composition'),
  face: looking('face'),
  hand: looking('hand'),
  text: looking('text'),
  http: remote('http'),
  vision: remote('vision'),
};

/**
 * Makes the reward of a recipe.
 * @param device of its networks; pictures may lie elsewhere
 * @param signal aborted, what a server is asked ends with its reason
 * @throws UserError for unknown names and for modules that do not load
 */
export async function loadReward(
  field: RewardField,
  device?: Device,
  signal?: AbortSignal,
): Promise<Reward | CompositeReward> {
  if (!Array.isArray(field)) return loadSingle(field, device, signal);
  const parts = [];
  for (const { reward, ...part } of field)
    parts.push({ ...part, reward: await loadSingle(reward, device, signal) });
  return new WeightedReward(parts);
}

async function loadSingle(field: SingleReward, device?: Device, signal?: AbortSignal): Promise<Reward> {
  if (typeof field === 'object') {
    if ('http' in field) return (await import('./remote/http.js')).httpReward(field, { signal });
    if ('vision' in field) return (await import('./remote/vision.js')).visionReward(field, { signal });
    if ('score' in field) return (await import('./detected.js')).detectedReward(field, device);
    if ('text' in field) return (await import('./text.js')).textReward(await reader(field));
    if ('name' in field) return (await import('./published.js')).loadPublished(field, device);
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
  return found.load(device);
}
