/** The seam between methods and runs: what a method offers, and what it is given. */

import { momentsOf } from '@rldf/common/base/stats';
import type { Behaviour, Detector } from '@rldf/models';
import type { StateTree, Tensor } from '@rldf/torch';
import type { Prompt } from '../prompts/prompts.js';
import type { Purpose, Reward, Scores } from '../rewards/reward.js';
import type { DrawRequest } from '../sampling/evaluation.js';
import type { Recall } from '../sampling/picture-memory.js';

export type { DrawRequest };

/** What a method's loop yields. */
export type TrainingEvent = ProgressEvent | StepEvent;

/** Within a step. Yield one after each denoising step and each micro-batch, so that Ctrl-C is served soon. */
export interface ProgressEvent {
  kind: 'progress';
  /** What is being done, such as `drawing`, `scoring`, `learning`. */
  phase: string;
  /** Share of the step that is done, in [0, 1]. */
  share: number;
  /** True while `state()` still equals that after the last finished step: the run may be saved and left here. */
  interruptible: boolean;
}

/** A step (an epoch of DDPO) is finished; `state()` is now that after it. */
export interface StepEvent {
  kind: 'step';
  /** Counted from 1. */
  step: number;
  /** Names have a namespace; `reward/mean` is drawn as the training curve. */
  metrics: Record<string, number>;
  /** Pictures drawn for training in this step. */
  pictures: number;
}

/** What a method is given. */
export interface TrainingContext {
  prompts: readonly Prompt[];
  /**
   * Scores pictures, uint8 [B, H, W, 3]; every answer is checked. `behaviours` say how they were drawn, for who looks at them. With
   * `rows` the pictures are those of these prompts alone, and other workers have the rest: the scores are of all.
   */
  score(
    images: Tensor,
    prompts: readonly Prompt[],
    purpose?: Purpose,
    behaviours?: readonly Behaviour[],
    rows?: readonly number[],
  ): Promise<Scores>;
  /** Tells that these pictures were drawn and will be scored with the others: a reward that waits for a server begins. */
  begin?(images: Tensor, prompts: readonly Prompt[]): void;
  /** Who looks at the pictures, where the recipe names a detector. */
  detector?: Detector;
  /** The reward as a function whose gradient can be followed, if it is one (`Reward.differentiable`). */
  differentiable?: NonNullable<Reward['differentiable']>;
  /** Through which a method may draw with the untrained weights what other runs draw too. */
  recall?: Recall;
  /** Aborted on Ctrl-C. Methods need not look at it: the loop simply is not continued. */
  signal?: AbortSignal;
}

/** A training in memory: the model, its optimiser, all counters. */
export interface Training {
  /** Steps (epochs) of the whole run. */
  readonly steps: number;
  /** Continues behind step `from` (0: at the beginning) and ends after step `steps`. */
  run(from: number): AsyncGenerator<TrainingEvent>;
  /** Everything that makes the next step: weights in training, optimiser, statistics. The tensors stay the method's. */
  state(): StateTree;
  /** Copies a state in. Its tensors have been checked against `state()`. */
  load(state: StateTree): void;
  /** Draws with the weights as they are, by the deterministic sampler. @returns uint8 [B, H, W, 3], the caller's */
  draw(requests: readonly DrawRequest[]): Promise<Tensor>;
  /** Writes what was learned for use elsewhere, checks it by loading it again, and returns the files. */
  exportTo(folder: string): Promise<string[]>;
  /** Frees the model. */
  free(): void;
}

export const progress = (phase: string, share: number, interruptible: boolean): ProgressEvent => ({
  kind: 'progress',
  phase,
  share,
  interruptible,
});

/** Mean and spread of an epoch's rewards, and the mean of each reward by its name. */
export function rewardMetrics(
  rewards: readonly number[],
  parts: Readonly<Record<string, readonly number[]>>,
): Record<string, number> {
  const { mean, std } = momentsOf(rewards);
  const named = Object.entries(parts).map(([name, values]) => [`reward/${name}`, momentsOf(values).mean]);
  return { 'reward/mean': mean, 'reward/std': std, ...Object.fromEntries(named) };
}
