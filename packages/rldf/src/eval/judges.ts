/** Those who judge: instruments for evaluation only, which share no weights, seed or training scenes with what trains. */

import { featureNetworks } from '@rldf/common/instruments/feature-networks';
import { loadWorldClip } from '@rldf/common/instruments/frozen-clip';
import { instrumentFile, judgeOnly, loadDetector } from '@rldf/common/instruments/instruments';
import { NounClassifier } from '@rldf/common/instruments/noun-classifier';
import type { SetPrompt } from '@rldf/emoji-world';
import type { Detection, Detector } from '@rldf/models';
import type { Tensor } from '@rldf/torch';
import { UserError } from '@rldf/torch/errors';
import type { DetectorField } from '../config/detector-fields.js';
import type { SingleReward } from '../config/fields.js';
import { clipScore } from '../rewards/clip-score.js';
import { describeDetector, openDetector } from '../rewards/detectors/index.js';
import { loadReward } from '../rewards/index.js';
import { loadJudgeTemplate } from '../rewards/remote/judge-template.js';
import { type VisionJudge, visionReward } from '../rewards/remote/vision.js';
import { checkScores, type Reward } from '../rewards/reward.js';
import { loadPreference } from '../rewards/scorers.js';
import { type PairVerdict, pairVerdict } from './pairs.js';
import type { EvalPrompt, LookedPairs } from './suite.js';

export interface Judges {
  /** The noun of each picture, among all nouns of the world. @param images uint8 [B, H, W, 3] */
  classify(images: Tensor): string[];
  /** That of `--detector`, or the shipped judge. */
  detector: Detector;
  /** What each picture shows, best score first. */
  detect(images: Tensor): Detection[][] | Promise<Detection[][]>;
  /** 100 x cosine of each picture and its prompt. */
  clipScores(images: Tensor, prompts: readonly SetPrompt[]): Promise<number[]>;
  /** How much each picture would be preferred, in the judge's own unit. */
  preferences(images: Tensor, prompts: readonly SetPrompt[]): Promise<number[]>;
  /** By the reward of `--reward`. */
  rewards(images: Tensor, prompts: readonly EvalPrompt[]): Promise<number[]>;
  /** Whose picture of each pair the vision judge of `--reward` prefers; null where it could not be understood. */
  preferred(batch: LookedPairs): Promise<(PairVerdict | null)[]>;
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
  detector: async ({ detector: field }) => {
    const detector = field === undefined ? loadDetector(judgeOnly('judge-detector')) : openDetector(field);
    await detector.ready?.();
    const by = field === undefined ? 'judge-detector' : describeDetector(field).name;
    return { by, judges: { detector, detect: (images: Tensor) => detector.detect(images) } };
  },
  reward: async ({ reward: field, signal }) => {
    if (field === undefined) throw new UserError('no reward is given — name one, or a .yaml file with one, by --reward'); // biome-ignore format: one thought
    if (isVision(field) && asksAboutPairs(field)) throw new UserError(`the question ${field.vision} compares two pictures — the suite reward scores one at a time. Use --suite pairs with --against or --against-adapter`); // biome-ignore format: one thought
    const reward = await loadReward(field, undefined, signal);
    await reward.ready?.();
    return { by: reward.name, judges: { rewards: scoring(reward) } };
  },
  pairs: async ({ reward: field, signal }) => {
    if (!isVision(field))
      throw new UserError(`${field === undefined ? 'no judge is given' : `${typeof field === 'string' ? field : 'this reward'} is no vision-language model`} — it asks one which of two pictures is better. Give --reward FILE.yaml with { vision: preference, endpoint: ADDRESS, model: NAME }`); // biome-ignore format: one thought
    if (!asksAboutPairs(field)) throw new UserError(`${field.vision} asks about one picture — comparing needs a question with ask: pair. Use vision: preference, or --suite reward, which shows a win rate too`); // biome-ignore format: one thought
    const judge = visionReward(field, { signal });
    await judge.ready?.();
    return { by: `${judge.name} of ${field.model}`, judges: { preferred: preferring(judge) } };
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
  (options: JudgeOptions & { features: string }) => Promise<{ by: string; judges: Partial<Judges> }>
>;

export interface JudgeOptions {
  /** One of `featureNetworks`. */
  features?: string;
  /** Instead of the shipped judge: it must not have given feedback to what is evaluated. */
  detector?: DetectorField;
  /** What the suite `reward` scores with, and the suite `pairs` asks. */
  reward?: SingleReward;
  /** Aborted, what a server is asked ends. */
  signal?: AbortSignal;
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
  { features = 'style', detector, reward, signal }: JudgeOptions = {},
): Promise<LoadedJudges> {
  if (!Object.hasOwn(featureNetworks, features)) {
    throw new UserError(
      `--features ${features}: there is no feature network of this name — one of ${Object.keys(featureNetworks).join(', ')}`,
    );
  }
  const loaded: LoadedJudges = { judges: {} as Judges, by: {}, missing: {} };
  for (const name of new Set(names)) {
    try {
      const { by, judges } = await loaders[name]({
        features,
        ...(detector !== undefined && { detector }),
        ...(reward !== undefined && { reward }),
        ...(signal !== undefined && { signal }),
      });
      Object.assign(loaded.judges, judges);
      loaded.by[name] = by;
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      loaded.missing[name] = error.message;
    }
  }
  return loaded;
}

type Vision = Extract<SingleReward, { vision: string }>;

const isVision = (field: SingleReward | undefined): field is Vision =>
  typeof field === 'object' && 'vision' in field;
const asksAboutPairs = ({ vision }: Vision) => loadJudgeTemplate(vision).ask === 'pair';

/** Equal pictures are a tie that nobody needs to be asked about. */
const preferring =
  (judge: VisionJudge) =>
  async ({ pairs, prompts }: LookedPairs): Promise<(PairVerdict | null)[]> => {
    const differ = pairs.map(([a, b]) => Buffer.compare(a.data, b.data) !== 0);
    const asked = pairs
      .map((pictures, i) => ({ pictures, prompt: prompts[i]!.prompt }))
      .filter((_, i) => differ[i]);
    const answers = await judge.prefer(asked);
    return differ.map((differs) => {
      if (!differs) return pairVerdict(undefined);
      const answer = answers.shift();
      return answer === undefined ? null : pairVerdict(answer);
    });
  };

const scoring = (reward: Reward) => async (images: Tensor, prompts: readonly EvalPrompt[]) => {
  const texts = prompts.map(({ prompt }) => prompt);
  const meta = prompts.map((one) => (one.meta === undefined ? one.scene : one.meta));
  return checkScores(reward.name, await reward.score({ images, prompts: texts, meta }), { prompts: texts });
};
