/** CLIP score: 100 x the cosine between picture and prompt (Hessel et al. 2021, arXiv 2104.08718, without its rescaling). */

import {
  type FrozenClip,
  idsOf,
  loadClipFolder,
  pixelsOf,
  worldClip,
} from '@rldf/common/instruments/frozen-clip';
import { type Device, noGrad, type Tensor } from '@rldf/torch';
import { rewardFromScores } from './from-scores.js';
import type { Reward } from './reward.js';

export function clipScore(frozen: FrozenClip): Reward {
  const { clip } = frozen;
  const scores = (images01: Tensor, prompts: readonly string[]) => {
    const texts = noGrad(() => clip.encodeText(idsOf(frozen, prompts).to(images01.device))); // [B, D]
    return clip.encodeImage(pixelsOf(frozen, images01)).mul(texts).sum(1).mul(100); // [B]
  };
  return rewardFromScores('clip-score', '', scores, clip.logitScale.device, frozen.tokenizer);
}

/**
 * A CLIP folder, by default that of the built-in world, loaded again for this reward alone.
 * @throws UserError when it is not there
 */
export function loadClipScore(folder: string = worldClip(), device: Device = 'cpu'): Reward {
  return clipScore(loadClipFolder(folder, device));
}
