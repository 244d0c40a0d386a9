/** What a reward is, and the one door through which pictures are scored. */

import { crew } from '@rldf/common/workers/crew';
import type { StateTree, Tensor } from '@rldf/torch';
import { shown, UserError } from '@rldf/torch/errors';

export interface RewardBatch {
  /** uint8 [B, H, W, 3], RGB. */
  images: Tensor;
  /** The prompt each picture was drawn from, length B. */
  prompts: readonly string[];
  /** What the prompt file (or the built-in world) says about each prompt besides its text, length B. */
  meta: readonly unknown[];
}

/** Pictures of which each worker has its own. */
export interface SharedBatch extends RewardBatch {
  /** The prompts whose pictures are here; all if it is not given. */
  rows?: readonly number[] | undefined;
}

/** What reads a prompt by tokens. */
export interface PromptReader {
  name: string;
  /** Tokens that it reads at most. */
  maxLength: number;
  /** The words behind them; empty if there are none. */
  cut(prompt: string): string;
}

/** Scores pictures; higher is better. */
export interface Reward {
  readonly name: string;
  /** Unit of the scores, such as kB. */
  readonly unit: string;
  /** Those of its parts that read only the beginning of a prompt, with what they cut off; none: all of it counts, or none. */
  readonly readers?: readonly PromptReader[];
  /** One score a picture, in order. */
  score(batch: RewardBatch): number[] | Promise<number[]>;
  /**
   * The same as a differentiable function, for methods that follow the reward's gradient.
   * @param images01 float [B, 3, H, W] in [0, 1]
   * @returns [B]
   */
  differentiable?(images01: Tensor, prompts: readonly string[]): Tensor;
  /** Licence of what scores, where it is known. */
  readonly licence?: string;
  /** Of a reward that waits for others: starts on pictures for which `score` will be asked soon, and returns at once. */
  begin?(batch: RewardBatch): void;
  /** Of a reward that needs others: finds out whether they are there, before anything is drawn. @throws UserError */
  ready?(): Promise<void>;
  /** What scoring so many pictures takes of others, at most, in words; told before. */
  cost?(pictures: number): string[];
}

/** A reward made of others, with normalisation statistics that belong to the run's state. */
export interface CompositeReward extends Reward {
  /**
   * Scores with all parts.
   * @param purpose training updates the running statistics; evaluation uses fixed ones, so that its numbers compare; base
   * only notes where the model is before training
   */
  scoreParts(batch: SharedBatch, purpose: Purpose): Promise<Scores>;
  /** Whether it keeps to where the model is before training. If nothing is scored as base, the first training pictures tell. */
  readonly wantsBase?: boolean;
  state(): StateTree;
  load(state: StateTree): void;
}

export type Purpose = 'training' | 'evaluation' | 'base';

export interface Scores {
  /** What is learned from, one a picture. */
  total: number[];
  /** Raw scores of each reward by its name; for a single reward the same as `total`. */
  parts: Record<string, number[]>;
}

/**
 * Scores a batch and checks the answer: one finite number a picture.
 * @throws UserError naming the reward, the picture and the value
 */
export async function scorePictures(
  reward: Reward | CompositeReward,
  batch: SharedBatch,
  purpose: Purpose = 'training',
): Promise<Scores> {
  if ('scoreParts' in reward) return reward.scoreParts(batch, purpose);
  const total = await wholeScores(reward, batch, await askReward(reward, batch));
  return { total, parts: { [reward.name]: total } };
}

/** Asks a reward for this worker's own pictures of a batch: all where there is one worker. */
export function askReward(reward: Reward, batch: SharedBatch): number[] | Promise<number[]> {
  const own = ownPart(batch);
  return own.prompts.length === 0 ? [] : reward.score(own);
}

/** The scores of all pictures of a batch from what a reward has answered each worker. */
export async function wholeScores(reward: Reward, batch: SharedBatch, answer: unknown): Promise<number[]> {
  const scores = checkScores(reward.name, answer, ownPart(batch));
  return batch.rows === undefined ? scores : crew().assemble(`reward ${reward.name}`, batch.rows, scores);
}

function ownPart({ rows, ...batch }: SharedBatch): RewardBatch {
  if (rows === undefined) return batch;
  const own = <T>(list: readonly T[]) => rows.map((row) => list[row] as T);
  return { ...batch, prompts: own(batch.prompts), meta: own(batch.meta) };
}

/** One finite number a picture, or a UserError. */
export function checkScores(
  name: string,
  scores: unknown,
  { prompts }: Pick<RewardBatch, 'prompts'>,
): number[] {
  const where = `reward ${name}`;
  if (!Array.isArray(scores) && !ArrayBuffer.isView(scores)) {
    throw new UserError(
      `${where}: returned ${describe(scores)} — it must return a list with one number a picture (here ${prompts.length})`,
    );
  }
  const values = Array.from(scores as ArrayLike<unknown>);
  if (values.length !== prompts.length) {
    throw new UserError(
      `${where}: returned ${values.length} scores for ${prompts.length} pictures — it must return one number a picture, in their order`,
    );
  }
  values.forEach((value, index) => {
    if (typeof value !== 'number' || !Number.isFinite(value)) {
      throw new UserError(
        `${where}: score of picture ${index} (prompt "${prompts[index]}") is ${describe(value)} — it must be a finite number. ` +
          'Return some worst value (such as -10) where a picture cannot be judged',
      );
    }
  });
  return values as number[];
}

function describe(value: unknown): string {
  if (typeof value === 'number' || value === undefined || value === null) return String(value);
  if (Array.isArray(value)) return `a list of ${value.length}`;
  return typeof value === 'object' ? 'an object' : `${typeof value} ${shown(value)}`;
}
