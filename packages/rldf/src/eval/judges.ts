/** Those who judge: instruments for evaluation only, which share no weights, seed or training scenes with what trains. */

import type { SetPrompt } from '@rldf/emoji-world';
import type { Detection } from '@rldf/models';
import { noGrad, scope, type Tensor } from '@rldf/torch';
import { UserError } from '../base/errors.js';
import { instrumentCard, instrumentFile, loadDetector } from '../instruments/instruments.js';
import { NounClassifier } from '../instruments/noun-classifier.js';
import { SceneClassifier } from '../instruments/scene-classifier.js';
import { clipScore } from '../rewards/clip-score.js';
import { pixelsOf } from '../rewards/frozen-clip.js';
import type { Reward } from '../rewards/reward.js';
import { loadPreference, loadWorldClip } from '../rewards/scorers.js';

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
  features: async ({ features: by }) => ({ by, judges: { features: featureNetworks[by]!() } }),
} satisfies Record<
  string,
  (options: Required<JudgeOptions>) => Promise<{ by: string; judges: Partial<Judges> }>
>;

/** Embeddings of pictures, uint8 [B, H, W, 3]: one row a picture. */
export type FeatureNetwork = (images: Tensor) => number[][];

/** What `features` (diversity, FID, KID) can be computed with, by name; add your own. Loaded when asked for. */
export const featureNetworks: Record<string, () => FeatureNetwork> = {
  style: () => {
    const network = SceneClassifier.load(instrumentFile(judgeOnly('style')));
    return (images) => network.featuresOf(images);
  },
  'clip-2': () => {
    const frozen = loadWorldClip(judgeOnly('clip-2'));
    return (images) => {
      const embed = () => {
        const images01 = images.permute([0, 3, 1, 2]).to('float32').div(255);
        return frozen.clip.encodeImage(pixelsOf(frozen, images01)); // [B, D]
      };
      const { values, width } = noGrad(() =>
        scope(() => {
          const embedded = embed();
          return { values: embedded.toNumbers(), width: embedded.shape[1] as number };
        }),
      );
      return Array.from({ length: values.length / width }, (_, i) =>
        values.slice(i * width, (i + 1) * width),
      );
    };
  },
};

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

/** @throws UserError when the instrument may also train */
export function judgeOnly<Name extends string>(name: Name): Name {
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
