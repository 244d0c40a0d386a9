/** Those who judge: instruments for evaluation only, which share no weights, seed or training scenes with what trains. */

import type { SetPrompt } from '@rldf/emoji-world';
import type { Detection } from '@rldf/models';
import { scope, type Tensor } from '@rldf/torch';
import { UserError } from '../errors.js';
import { instrumentCard, instrumentFile, loadDetector } from '../instruments.js';
import { NounClassifier } from '../pretrain/classifier.js';
import { clipScore } from '../rewards/clip-score.js';
import type { Reward } from '../rewards/reward.js';
import { loadPreference, loadWorldClip } from '../rewards/scorers.js';
import { SceneClassifier } from './scene-classifier.js';

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
      judges: { classify: (images: Tensor) => scope(() => classifier.classify(minusOneToOne(images))) },
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
  features: async () => {
    const network = SceneClassifier.load(instrumentFile(judgeOnly('style')));
    return { by: 'style', judges: { features: (images: Tensor) => network.featuresOf(images) } };
  },
} satisfies Record<string, () => Promise<{ by: string; judges: Partial<Judges> }>>;

export type JudgeName = keyof typeof loaders;

export interface LoadedJudges {
  judges: Judges;
  /** The instrument behind each judge that is here. */
  by: Partial<Record<JudgeName, string>>;
  /** Why a judge is not here. */
  missing: Partial<Record<JudgeName, string>>;
}

/** Loads judges; those that are not here are reported, not fatal. */
export async function loadJudges(names: Iterable<JudgeName>): Promise<LoadedJudges> {
  const loaded: LoadedJudges = { judges: {} as Judges, by: {}, missing: {} };
  for (const name of new Set(names)) {
    try {
      const { by, judges } = await loaders[name]();
      Object.assign(loaded.judges, judges);
      loaded.by[name] = by;
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      loaded.missing[name] = error.message;
    }
  }
  return loaded;
}

/** @throws UserError when the instrument may also train */
function judgeOnly<Name extends string>(name: Name): Name {
  const { role } = instrumentCard(name);
  if (role === 'judge') return name;
  throw new UserError(
    `instrument ${name}: its role is ${role} — only a judge, which trains nothing, may evaluate. Restore its card`,
  );
}

const scoring = (reward: Reward) => async (images: Tensor, prompts: readonly SetPrompt[]) =>
  reward.score({
    images,
    prompts: prompts.map(({ prompt }) => prompt),
    meta: prompts.map(({ scene }) => scene),
  });

/** uint8 [B, H, W, 3] -> [B, 3, H, W] in [-1, 1] */
function minusOneToOne(images: Tensor): Tensor {
  return scope(() => images.permute([0, 3, 1, 2]).to('float32').div(127.5).sub(1).contiguous());
}
