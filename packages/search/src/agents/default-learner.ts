import type { FollowOptions } from './follow.js';

/**
 * The learner that reaches its goal most often and soonest in docs/results/rldf.md. Algorithm 1 as printed has a table of actions,
 * begun at random.
 */
export const defaultLearner = {
  table: 'afterstates',
  initialQ: 'axes',
  alpha: '1',
  epsilon: '0.1',
} as const satisfies Partial<FollowOptions>;
