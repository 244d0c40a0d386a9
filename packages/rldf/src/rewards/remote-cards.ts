/** What is known of rewards that a server gives: nothing of the server itself. */

import type { RewardCard } from './cards.js';

export const remoteCards = {
  http: {
    description: 'what a server of yours answers for pictures as PNG bytes in JSON',
    unit: '',
    differentiable: false,
    range: 'what the server says; `rldf rewards percentiles FILE.yaml` measures it',
    hacks: 'unknown: `rldf rewards torture FILE.yaml` shows it noise, blank pictures and wrong prompts',
    licence: 'unknown unless the recipe states it (licence)',
  },
  vision: {
    description: 'what a vision-language model answers to a question about each picture, or about two',
    unit: '',
    differentiable: false,
    range:
      'alignment, anatomy: 0 to 1; quality: 1 to 10; preference: 0 to 1, 0.5 on average; own questions: their scale',
    hacks:
      'it likes the first of two pictures, agrees with leading questions, and reads text in pictures as if it were told; `rldf rewards torture FILE.yaml` tries one',
    licence: 'unknown unless the recipe states it (licence)',
  },
} as const satisfies Record<string, RewardCard>;

/** How a recipe names each. */
export const remoteFields: Record<keyof typeof remoteCards, string> = {
  http: '{ http: ADDRESS }',
  vision: '{ vision: alignment, endpoint: ADDRESS, model: NAME }',
};
