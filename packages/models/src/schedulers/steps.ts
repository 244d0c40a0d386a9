/** What schedulers say of a step that is not there, or whose turn it is not. */

import { InternalError, UserError } from '@rldf/torch';
import type { Scheduler } from './scheduler.js';

export const noSuchStep = (scheduler: Scheduler, stepIndex: number) =>
  new UserError(
    `${scheduler.constructor.name}: step ${stepIndex} of ${scheduler.timesteps.length} — there is no such step. Call setTimesteps first and count from 0.`,
  );

export const outOfOrder = (scheduler: Scheduler, stepIndex: number, expected: number) =>
  new InternalError(
    `${scheduler.constructor.name}.step: step ${stepIndex}, expected ${expected} — steps must be taken in order.`,
  );
