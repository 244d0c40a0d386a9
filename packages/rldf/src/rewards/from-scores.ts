/** A reward from the scores of a network that is differentiable. */

import { type Device, noGrad, scope, type Tensor } from '@rldf/torch';
import type { PromptReader, Reward } from './reward.js';

/**
 * A reward from a differentiable score of pictures and prompts.
 * @param scores images01 float [B, 3, H, W] in [0, 1] -> [B]; `exact`: the pictures are bytes, which may be rounded again
 * @param device of the network that scores; pictures that lie elsewhere are moved there
 * @param tokenizer by which it reads the prompts, if it does
 */
export function rewardFromScores(
  name: string,
  unit: string,
  scores: (images01: Tensor, prompts: readonly string[], exact: boolean) => Tensor,
  device: Device = 'cpu',
  tokenizer?: Omit<PromptReader, 'name'>,
): Reward {
  return {
    name,
    unit,
    ...(tokenizer && {
      readers: [{ name, maxLength: tokenizer.maxLength, cut: (prompt) => tokenizer.cut(prompt) }],
    }),
    score: ({ images, prompts }) =>
      noGrad(() => {
        const result = scope(
          () => scores(images.to(device).permute([0, 3, 1, 2]).to('float32').div(255), prompts, true), // [B, 3, H, W]
        );
        const values = Array.from(result.toArray() as Float32Array);
        result.free();
        return values;
      }),
    differentiable: (images01, prompts) => scope(() => scores(images01.to(device), prompts, false)),
  };
}
