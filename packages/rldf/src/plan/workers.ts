/** What each of several workers has of a planned run. docs/scale.md */

import { byteWords } from '../base/machine.js';
import type { Plan } from './plan.js';

export interface WorkersShare {
  workers: number;
  /** The most that one draws in an epoch, and learns from in an update. */
  picturesPerEpoch: number;
  picturesPerUpdate: number;
  /** Without a picture in an update. */
  idle: number;
  /** Tensors of one worker at most: less of what is kept of an epoch. */
  peak: number;
  /** Gradients that an update sums, and what each worker sends of them in a ring. */
  gradients: number;
  sent: number;
}

export function shareOfWorkers({ arithmetic, memory }: Plan, workers: number): WorkersShare {
  const { picturesPerEpoch: all, picturesPerUpdate: ofUpdate } = arithmetic;
  const { trajectories, gradients } = memory.parts;
  const own = Math.ceil(all / workers);
  return {
    workers,
    picturesPerEpoch: own,
    picturesPerUpdate: Math.ceil(ofUpdate / workers),
    idle: Math.max(0, workers - ofUpdate),
    peak: Math.round(memory.peak - trajectories * (1 - own / all)),
    gradients,
    sent: Math.round((2 * (workers - 1) * gradients) / workers),
  };
}

export const describeShare = (share: WorkersShare): string[] => [
  `workers    ${share.workers}: each draws at most ${share.picturesPerEpoch} pictures an epoch and learns from ${share.picturesPerUpdate} an update, in ${byteWords(share.peak)} of tensors at most; an update sums ${byteWords(share.gradients)} of gradients, of which each sends ${byteWords(share.sent)}`,
  ...(share.idle > 0
    ? [
        `           ${share.idle} of them have no picture in an update: more pictures an update, or fewer workers, would use them`,
      ]
    : []),
];
