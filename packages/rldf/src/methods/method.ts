/** What every method offers to recipes, plans and runs. */

import type { Pipeline } from '@rldf/models';
import type { z } from 'zod';
import type { ArithmeticProblem, BatchArithmetic } from '../config/batch-arithmetic.js';
import type { Prompt } from '../prompts/prompts.js';
import type { Training, TrainingContext } from '../run/training.js';

/** What a plan and its miniature read of any recipe. */
export interface AnyRecipe {
  epochs: unknown;
  sample: unknown;
  train: unknown;
}

/** @typeParam R its recipes, told apart by the literal of `method:` */
export interface Method<R extends AnyRecipe> {
  readonly schema: z.ZodObject;
  /** A training in memory. The pipeline stays the caller's. */
  create(recipe: R, pipeline: Pipeline, context: TrainingContext): Training;
  /** Mistakes between fields, each valid by itself. */
  problems(recipe: R): ArithmeticProblem[];
  /**
   * Whether the method can use these prompts, the recipe's; called before anything else is loaded.
   * @throws UserError
   */
  checkPrompts?(recipe: R, prompts: readonly Prompt[]): void;
  /** Its own paths made absolute, by the rule that a recipe's common ones follow. */
  withAbsolutePaths?(recipe: R, absolute: (path: string) => string): R;
  readonly plan: MethodPlan<R>;
  /** Whether its pictures are drawn by a stochastic policy, which needs noise at every denoising step. */
  readonly drawsByPolicy?: true;
  /** Whether it follows the reward's gradient, so that the reward must be differentiable. */
  readonly followsReward?: true;
}

/** What a recipe will do, before anything is loaded: for --dry-run, `rldf plan` and tables of cost. */
export interface MethodPlan<R extends AnyRecipe> {
  /** Pictures, batches and updates of a recipe without problems. */
  arithmetic(recipe: R): BatchArithmetic;
  /** The same in words, one line each. Without it: `describeArithmetic`. */
  describe?(recipe: R, arithmetic: BatchArithmetic): string[];
  /**
   * The training whose memory and work stand for the recipe's (`rldf plan`): one epoch and one update with the same
   * batches, but of `steps` denoising steps. Without it: `plan/small-recipe.ts`.
   */
  miniature?(recipe: R, steps: number): R;
  /**
   * What of an epoch's pictures is in memory until it is learned from: all latents and the picture (the default), the
   * picture with its last latents, or nothing beyond the batch at work.
   */
  readonly holds?: 'trajectories' | 'pictures' | 'nothing';
  /**
   * Of a method that keeps pictures over its steps: how many it draws in one step at most, and how many it keeps as latents in
   * half precision, in memory and in each checkpoint. What it draws is then in memory until the end of that step only.
   */
  keeps?(recipe: R): { drawn: number; kept: number };
}
