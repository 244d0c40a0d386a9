/** Any reward as a judge: a vision-language model, a server, a module, text, faces. */

import { meanOf } from './measures.js';
import { suite } from './suite.js';

export const rewardSuite = suite<number>({
  description: 'the score of the reward that --reward names',
  judges: ['reward'],
  file: 'may',
  sets: [{ set: 'eval-mixed', pictures: 4 }],
  look: ({ images, prompts }, judges) => judges.rewards(images, prompts),
  measure: (judged) => ({ reward: meanOf(judged.map(({ verdicts }) => [...verdicts])) }),
  words: (_, score) => String(Number(score.toPrecision(4))),
});
