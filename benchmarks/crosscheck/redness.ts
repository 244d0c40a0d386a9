import type { RewardFunction } from 'rldf';

/** A reward for short trainings: redder is better; and later is better, so that the last checkpoint is the one that is exported. */
export function redness(): RewardFunction {
  let calls = 0;
  return ({ images }) => {
    calls++;
    return images.map(({ data }) => {
      let sum = 0;
      for (let i = 0; i < data.length; i += 3) sum += data[i]! - data[i + 2]!;
      return (3 * sum) / data.length + 1000 * calls;
    });
  };
}
