import { expect, test } from 'vitest';
import type { Plan } from './plan.js';
import { describeShare, shareOfWorkers } from './workers.js';

test('shares of 10 pictures in updates of 5, among 4 and 8 workers', () => {
  const planned = {
    arithmetic: { picturesPerEpoch: 10, picturesPerUpdate: 5 },
    memory: { peak: 1000e6, parts: { trajectories: 500e6, gradients: 40e6 } },
  } as unknown as Plan;
  expect(shareOfWorkers(planned, 4)).toEqual({
    ...{ workers: 4, picturesPerEpoch: 3, picturesPerUpdate: 2, idle: 0 },
    ...{ peak: 650e6, gradients: 40e6, sent: 60e6 }, // 500 MB of trajectories become 150; 2 · 3/4 of 40 MB are sent
  });
  expect(describeShare(shareOfWorkers(planned, 8))).toEqual([
    expect.stringMatching(
      /^workers {4}8: each draws at most 2 pictures an epoch and learns from 1 an update/,
    ),
    expect.stringMatching(/^ +3 of them have no picture in an update/),
  ]);
});
