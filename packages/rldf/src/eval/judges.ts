/** Those who judge: instruments for evaluation only, which share no weights, seed or training scenes with what trains. */

import { featureNetworks } from '@rldf/common/instruments/feature-networks';
import { loadWorldClip } from '@rldf/common/instruments/frozen-clip';
import { instrumentFile, judgeOnly, loadDetector } from '@rldf/common/instruments/instruments';
import { NounClassifier } from '@rldf/common/instruments/noun-classifier';
import type { SetPrompt } from '@rldf/emoji-world';
import type { Detection } from '@rldf/models';
import type { Tensor } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import { clipScore } from '../rewards/clip-score.js';
import type { Reward } from '../rewards/reward.js';
import { loadPreference } from '../rewards/scorers.js';

export interface Judges {
  /** The noun of each picture, among all nouns of the world. @param images uint8 [B, H, W, 3] */
  classify(images: Tensor): string[];
  /** What each picture shows, best score first. */
  detect(images: Tensor): Detection[][];
  /** 100 x cosine of each picture and its prompt. */
  clipScores(images: Tensor, prompts: readonly SetPrompt[]): Promise<number[]>;
  /** How much each picture would be preferred, in the judge's own unit. */
  preferences(images: Tensor, prompts: readonly SetPrompt[]): Promise<number[]>;
  /** An embedding of each picture. */
  features(images: Tensor): number[][];
}

/** What each judge contributes. */
const loaders = {
  classifier: async () => {
    const classifier = NounClassifier.load(instrumentFile(judgeOnly('judge')));
    return {
      by: 'judge',
      judges: { classify: (images: Tensor) => classifier.nounsOf(images) },
    };
  },
  detector: async () => {
    const detector = loadDetector(judgeOnly('judge-detector'));
    return { by: 'judge-detector', judges: { detect: (images: Tensor) => detector.detect(images) } };
  },
  clip: async () => {
    const reward = clipScore(loadWorldClip(judgeOnly('clip-2')));
    return { by: 'clip-2', judges: { clipScores: scoring(reward) } };
  },
  preference: async () => {
    const reward = loadPreference(judgeOnly('judge-preference'));
    return { by: 'judge-preference', judges: { preferences: scoring(reward) } };
  },
  features: async ({ features: by }) => ({ by, judges: { features: featureNetworks[by]!() } }),
} satisfies Record<
  string,
  (options: Required<JudgeOptions>) => Promise<{ by: string; judges: Partial<Judges> }>
>;

export interface JudgeOptions {
  /** One of `featureNetworks`. */
  features?: string;
}

export type JudgeName = keyof typeof loaders;

export interface LoadedJudges {
  judges: Judges;
  /** The instrument behind each judge that is here. */
  by: Partial<Record<JudgeName, string>>;
  /** Why a judge is not here. */
  missing: Partial<Record<JudgeName, string>>;
}

/**
 * Loads judges; those that are not here are reported, not fatal.
 * @throws UserError for an unknown feature network
 */
export async function loadJudges(
  names: Iterable<JudgeName>,
  { features = 'style' }: JudgeOptions = {},
): Promise<LoadedJudges> {
  if (!Object.hasOwn(featureNetworks, features)) {
    throw new UserError(
      `--features ${features}: there is no feature network of this name — one of ${Object.keys(featureNetworks).join(', ')}`,
    );
  }
  const loaded: LoadedJudges = { judges: {} as Judges, by: {}, missing: {} };
  for (const name of new Set(names)) {
    try {
      const { by, judges } = await loaders[name]({ features });
      Object.assign(loaded.judges, judges);
      loaded.by[name] = by;
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      loaded.missing[name] = error.message;
    }
  }
  return loaded;
}

const scoring = (reward: Reward) => async (images: Tensor, prompts: readonly SetPrompt[]) =>
  reward.score({
    images,
    prompts: prompts.map(({ prompt }) => prompt),
    meta: prompts.map(({ scene }) => scene),
  });
